//! An issue with everything around it.

use tokio_postgres::Row;

use super::{
    issues::{self, issue_columns},
    labels::{self, label_columns},
    projects::{self, project_columns},
    relations::{self, relation_columns},
    sql::{Columns, Keyed, Statement, row_of_project},
};
use crate::{Entity, Error, IssueDetail};

/// The issue `$issue` (0) with its project, its parent (1), its children (2), its relations with the issues at their other ends (3) and its labels (4):
/// what there is of them, by ids alone, and then each looked up. One statement shows them as they were at one moment, and takes the server less
/// than statements for each would. `OFFSET 0` keeps the planner from joining whole tables, as it would with a thousand issues.
macro_rules! detail {
    ($name:literal, $issue:literal, $from:literal, $order:literal) => {
        concat!(
            "-- ",
            $name,
            "\nSELECT ",
            $issue,
            ", x.part, r.*, i.*, p.*, l.*
FROM ",
            $from,
            "(
    SELECT 0 AS part, ",
            $issue,
            " AS issue_id, NULL::text AS relation_id, NULL::text AS label_id
    UNION ALL SELECT 1, i.parent_id, NULL, NULL FROM issues AS i WHERE i.id = ",
            $issue,
            "
    UNION ALL SELECT 2, i.id, NULL, NULL FROM issues AS i WHERE i.parent_id = ",
            $issue,
            "
    UNION ALL SELECT 3, r.related_issue_id, r.id, NULL FROM issue_relations AS r WHERE r.issue_id = ",
            $issue,
            "
    UNION ALL SELECT 3, r.issue_id, r.id, NULL FROM issue_relations AS r WHERE r.related_issue_id = ",
            $issue,
            "
    UNION ALL SELECT 4, NULL, NULL, l.label_id FROM issue_labels AS l WHERE l.issue_id = ",
            $issue,
            "
) AS x
LEFT JOIN LATERAL (SELECT ",
            issue_columns!("CASE WHEN x.part = 0 THEN t.signal_payload END AS signal_payload"),
            " FROM issues AS t
    WHERE x.part < 4 AND ",
            row_of_project!("x.issue_id"),
            " OFFSET 0) AS i ON true
LEFT JOIN LATERAL (SELECT ",
            relation_columns!(of $issue),
            " FROM issue_relations AS r WHERE x.part = 3 AND r.id = x.relation_id OFFSET 0) AS r ON true
LEFT JOIN LATERAL (SELECT ",
            project_columns!(),
            " FROM projects AS t WHERE x.part = 0 AND t.id = i.project_id AND t.deleted_at IS NULL OFFSET 0) AS p ON true
LEFT JOIN LATERAL (SELECT ",
            label_columns!(),
            ", t.name_key FROM labels AS t WHERE x.part = 4 AND t.id = x.label_id AND t.deleted_at IS NULL OFFSET 0) AS l ON true
WHERE i.id IS NOT NULL OR l.id IS NOT NULL
ORDER BY ",
            $order,
            "x.part, r.created_at, r.id, l.name_key, l.id, i.number"
        )
    };
}

/// `(SELECT …)` keeps the planner from planning anew for an issue that it believes to have fewer children than most, and for fewer issues than it
/// believes an array to hold.
pub(super) const GET: Keyed = Keyed {
    one: Statement::new(Entity::Issue, detail!("issues.detail", "(SELECT $2::text)", "", "")),
    many: Statement::new(
        Entity::Issue,
        detail!("issues.detail_many", "w.id", "unnest((SELECT $2::text[])) AS w (id) CROSS JOIN LATERAL ", "w.id, "),
    ),
};

/// The first column of each kind in its rows.
const PART: usize = 1;
const RELATION: usize = PART + 1;
const ISSUE: usize = RELATION + 7;
const PROJECT: usize = ISSUE + 24;
const LABEL: usize = PROJECT + 10;

/// Reads an issue's rows, of which there are none where it is not there.
pub(super) fn read(rows: &[Row]) -> Result<Option<IssueDetail>, Error> {
    let (mut itself, mut parent, mut project) = (None, None, None);
    let (mut children, mut relations, mut labels) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows {
        let issue = || issues::read(&mut Columns::from(row, "issues", ISSUE));
        match Columns::from(row, "issues", PART).next::<i32>()? {
            0 => {
                itself = Some(issue()?);
                let mut columns = Columns::from(row, "projects", PROJECT);
                project = if columns.is_null()? { None } else { Some(projects::read(&mut columns)?) };
            }
            1 => parent = Some(issue()?),
            2 => children.push(issue()?),
            3 => relations.push(relations::read_view(&mut Columns::from(row, "issue_relations", RELATION))?),
            _ => labels.push(labels::read(&mut Columns::from(row, "labels", LABEL))?),
        }
    }
    Ok(itself.map(|issue| IssueDetail { issue, parent, children, labels, relations, project }))
}
