use postgres_types::Json;
use tokio_postgres::Row;

use super::{
    detail,
    executor::Executor,
    sql::{self, Columns, Composed, KeyKind, Keyed, NEWEST, Order, Statement, Target, Update, Within, bind, by_id, params, row_of_project},
};
use crate::{
    Commit, Entity, Error, Hypothesis, Issue, IssueDetail, IssueFilter, IssueId, IssuePatch, IssuePriority, IssueSort, LabelId, NewIssue,
    Page, PageRequest, ProjectId, PullRequest,
};

/// The columns of an issue, with or without what its signal said, which may be large.
macro_rules! issue_columns {
    () => {
        issue_columns!("t.signal_payload")
    };
    (list) => {
        issue_columns!("NULL::jsonb AS signal_payload")
    };
    ($payload:literal) => {
        concat!(
            "t.id, t.number, t.title, t.description, t.type::text, t.status::text, t.priority::text, t.parent_id, t.project_id, \
             t.signal_source, ",
            $payload,
            ", t.hypothesis, t.agent_session_id, t.agent_summary, t.commits, t.pull_requests, t.completed_at, t.created_at, t.updated_at, \
             t.deleted_at, t.signal_count, t.signal_severity::text, t.last_signal_at, t.revision"
        )
    };
}
pub(crate) use issue_columns;

const GET: Keyed = by_id!(Entity::Issue, "issues.get", issue_columns!(), "issues AS t", row_of_project);

const FIND_BY_NUMBER: Statement = issue(
    "-- issues.find_by_number
SELECT t.id FROM issues AS t WHERE t.number = $2 AND t.deleted_at IS NULL AND ($1::text IS NULL OR t.project_id = $1)",
);

const CREATE: Statement = issue(concat!(
    "-- issues.create
WITH checked AS (
    SELECT $9::text IS NULL OR EXISTS (
               SELECT FROM issues AS p WHERE p.id = $9 AND p.deleted_at IS NULL AND ($1::text IS NULL OR p.project_id = $1)) AS \"parentId?\",
           $10::text IS NULL OR EXISTS (
               SELECT FROM projects AS p WHERE p.id = $10 AND p.deleted_at IS NULL AND ($1::text IS NULL OR p.id = $1)) AS \"projectId?\",
           NOT EXISTS (
               SELECT FROM unnest($18::text[]) AS wanted (id)
               WHERE NOT EXISTS (SELECT FROM labels AS l WHERE l.id = wanted.id AND l.deleted_at IS NULL)) AS \"labelIds?\"
), written AS (
    INSERT INTO issues AS t (id, title, description, type, status, priority, parent_id, project_id, signal_source, signal_payload,
                             hypothesis, agent_session_id, agent_summary, commits, pull_requests, completed_at)
    SELECT $2, $3, $4, $5::issue_type, $6::issue_status, $7::issue_priority, $9, $10, $11, $12, $13, $14, $15, $16, $17,
           CASE WHEN $8 THEN now() END
    FROM checked WHERE \"parentId?\" AND \"projectId?\" AND \"labelIds?\"
    RETURNING ",
    issue_columns!(),
    ", set_config('loop.actor', $19, true)
), attached AS (
    INSERT INTO issue_labels (issue_id, label_id)
    SELECT written.id, wanted.id FROM written, unnest($18::text[]) AS wanted (id) ON CONFLICT DO NOTHING
)
SELECT checked.*, written.* FROM checked LEFT JOIN written ON true"
));

const UPDATE: Target = Target {
    entity: Entity::Issue,
    update: "issues.update",
    delete: "issues.delete",
    table: "issues",
    row: row_of_project!(),
    columns: issue_columns!(),
    recorded: true,
};

const LIST: Statement = issue(concat!("-- issues.list\nSELECT ", issue_columns!(list), " FROM issues AS t WHERE t.deleted_at IS NULL"));

const COUNT: Statement = issue("-- issues.count\nSELECT count(*) FROM issues AS t WHERE t.deleted_at IS NULL");

/// The fixed statements.
#[cfg(feature = "test-util")]
pub(crate) const STATEMENTS: &[Statement] = &[GET.one, GET.many, FIND_BY_NUMBER, detail::GET.one, detail::GET.many, CREATE, LIST, COUNT];

const WITHIN: Within = Within::Project("t.project_id = $1");

const fn issue(sql: &'static str) -> Statement {
    Statement::new(Entity::Issue, sql)
}

/// Reads the columns of an issue.
pub(crate) fn read(columns: &mut Columns<'_>) -> Result<Issue, Error> {
    Ok(Issue {
        id: columns.next()?,
        number: columns.next()?,
        title: columns.next()?,
        description: columns.next()?,
        kind: columns.next()?,
        status: columns.next()?,
        priority: columns.next()?,
        parent_id: columns.next()?,
        project_id: columns.next()?,
        signal_source: columns.next()?,
        signal_payload: columns.next()?,
        hypothesis: columns.json::<Hypothesis>()?,
        agent_session_id: columns.next()?,
        agent_summary: columns.next()?,
        commits: columns.json::<Vec<Commit>>()?,
        pull_requests: columns.json::<Vec<PullRequest>>()?,
        completed_at: columns.next()?,
        created_at: columns.next()?,
        updated_at: columns.next()?,
        deleted_at: columns.next()?,
        signal_count: columns.next()?,
        signal_severity: columns.next()?,
        last_signal_at: columns.next()?,
        revision: columns.next()?,
    })
}

fn read_row(row: &Row) -> Result<Issue, Error> {
    read(&mut Columns::of(row, "issues"))
}

const fn order(sort: IssueSort) -> Order {
    const PLACE: KeyKind = KeyKind::Place(IssuePriority::ALL.len());
    let (after, by, key) = match sort {
        IssueSort::CreatedDesc => (NEWEST.after, NEWEST.by, KeyKind::Time),
        IssueSort::CreatedAsc => (" AND (t.created_at, t.id) > (?, ?)", " ORDER BY t.created_at, t.id", KeyKind::Time),
        IssueSort::UpdatedDesc => (" AND (t.updated_at, t.id) < (?, ?)", " ORDER BY t.updated_at DESC, t.id DESC", KeyKind::Time),
        IssueSort::UpdatedAsc => (" AND (t.updated_at, t.id) > (?, ?)", " ORDER BY t.updated_at, t.id", KeyKind::Time),
        IssueSort::PriorityAsc => {
            (" AND (t.priority, t.id) > ((enum_range(NULL::issue_priority))[?::int], ?)", " ORDER BY t.priority, t.id", PLACE)
        }
        IssueSort::PriorityDesc => {
            (" AND (t.priority, t.id) < ((enum_range(NULL::issue_priority))[?::int], ?)", " ORDER BY t.priority DESC, t.id DESC", PLACE)
        }
        IssueSort::NumberAsc => (" AND (t.number, t.id) > (?, ?)", " ORDER BY t.number, t.id", KeyKind::Number),
        IssueSort::NumberDesc => (" AND (t.number, t.id) < (?, ?)", " ORDER BY t.number DESC, t.id DESC", KeyKind::Number),
    };
    Order { word: sort.as_str(), after, by, key }
}

/// What a cursor holds of an issue. A priority is its place in the enumeration, from 1.
const fn cursor_key(issue: &Issue, sort: IssueSort) -> i64 {
    match sort {
        IssueSort::CreatedDesc | IssueSort::CreatedAsc => issue.created_at.as_millis(),
        IssueSort::UpdatedDesc | IssueSort::UpdatedAsc => issue.updated_at.as_millis(),
        IssueSort::PriorityAsc | IssueSort::PriorityDesc => issue.priority as i64 + 1,
        IssueSort::NumberAsc | IssueSort::NumberDesc => issue.number,
    }
}

/// That a page's issues have these words. If most have them, the planner walks the order of the list until the page is full; if few, it takes
/// all from the index. For either it counts that the words of each are made anew, which the index spares: so it is told, by a condition that
/// always holds and that it believes of a third, that there are fewer.
const PAGE_WORDS: &str = "issue_words(t.title, t.description) @@ websearch_to_tsquery('simple', ?) AND length(t.title) > 0";

/// The same for a count, which is by the index whatever the words are: the planner is not shown them.
const COUNT_WORDS: &str = "issue_words(t.title, t.description) @@ websearch_to_tsquery('simple', (SELECT ?))";

/// What the indexes over the issues of all projects are made for, a condition that always holds. Lists within a project do not say it, and so cannot
/// be by such an index: the planner would take it for a project that it believes to have many of the issues, and for one that has few, or none,
/// walk them all.
const OF_ALL_PROJECTS: &str = " AND t.number > 0";

/// What is asked for of the issues that match.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Page,
    Count,
}

fn matching<'a>(asked: Asked, scope: Option<&ProjectId>, filter: &'a IssueFilter) -> Composed<'a> {
    let IssueFilter { status, kind, priority, project_id, label_id, parent_id, text, created_after, created_before, sort: _ } = filter;
    let (statement, words) = match asked {
        Asked::Page => (LIST, PAGE_WORDS),
        Asked::Count => (COUNT, COUNT_WORDS),
    };
    let mut list = Composed::list(statement, scope, WITHIN);
    // A count has no order: but for the one of statuses, another index does, and would have to look into the rows for this.
    if scope.is_none() && project_id.is_none() && (asked == Asked::Page || !status.is_empty()) {
        list.push(OF_ALL_PROJECTS, &[]);
    }
    list.any_of("t.status", "?::issue_status", status);
    list.any_of("t.type", "?::issue_type", kind);
    list.any_of("t.priority", "?::issue_priority", priority);
    list.condition_if("t.project_id = ?", project_id.as_ref());
    list.condition_if("t.parent_id = ?", parent_id.as_ref());
    list.condition_if("t.created_at > ?", created_after.as_ref());
    list.condition_if("t.created_at < ?", created_before.as_ref());
    list.condition_if(
        "EXISTS (SELECT FROM issue_labels AS l JOIN labels AS n ON n.id = l.label_id AND n.deleted_at IS NULL \
         WHERE l.issue_id = t.id AND l.label_id = ?)",
        label_id.as_ref(),
    );
    list.condition_if(words, text.as_ref());
    // A plan that is kept would be for words that are neither frequent nor rare.
    list.is_named = text.is_none();
    list
}

/// Begins a page of the issues that match.
fn matching_page<'a>(scope: Option<&ProjectId>, filter: &'a IssueFilter) -> Composed<'a> {
    match filter {
        // Those of a project, or of a status in it: the indexes issues_project_id_created_at_idx and issues_project_id_status_created_at_idx.
        IssueFilter {
            status,
            kind,
            priority,
            project_id,
            label_id: None,
            parent_id: None,
            text: None,
            created_after: None,
            created_before: None,
            sort: IssueSort::CreatedDesc | IssueSort::CreatedAsc,
        } if (scope.is_some() || project_id.is_some()) && status.len() <= 1 && kind.is_empty() && priority.is_empty() => {
            let mut list = Composed::indexed(LIST, scope, Within::Project("t.project_id = (SELECT $1)"));
            if let Some(id) = project_id {
                list.push(" AND t.project_id = ?", &[bind(id)]);
            }
            for status in status {
                list.push(" AND t.status = ?::issue_status", &[bind(status)]);
            }
            list
        }
        _ => matching(Asked::Page, scope, filter),
    }
}

/// The issues.
pub struct Issues<'a> {
    pub(crate) on: Executor<'a>,
}

impl Issues<'_> {
    /// The issue with this id.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is none.
    pub async fn get(&self, id: &IssueId) -> Result<Issue, Error> {
        self.on.get(GET, id.as_str(), read_row).await
    }

    /// The id of the issue with this number.
    pub async fn find_by_number(&self, number: i64) -> Result<Option<IssueId>, Error> {
        let row = self.on.opt(FIND_BY_NUMBER, params![number]).await?;
        Ok(row.map(|row| Columns::of(&row, "issues").next()).transpose()?)
    }

    /// The issue with this id and everything around it, as they were at one moment.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is none.
    pub async fn detail(&self, id: &IssueId) -> Result<IssueDetail, Error> {
        let detail = self.on.load(detail::GET, id.as_str(), detail::read).await?;
        detail.ok_or_else(|| Error::not_found(Entity::Issue, id))
    }

    /// The issues that match the filter, in its order, without what their signals said.
    ///
    /// # Errors
    ///
    /// [`Error::MalformedCursor`] when the cursor is not one of this order.
    pub async fn list(&self, filter: &IssueFilter, page: &PageRequest) -> Result<Page<Issue>, Error> {
        let sort = filter.sort;
        sql::list(
            self.on,
            matching_page(self.on.scope, filter),
            || matching(Asked::Count, self.on.scope, filter),
            page,
            order(sort),
            read_row,
            |issue| (cursor_key(issue, sort), issue.id.clone()),
        )
        .await
    }

    /// Creates an issue, with its labels.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidReference`] when the parent, the project or a label is not there, [`Error::Invalid`] when the parent has a parent
    /// itself.
    pub async fn create(&self, new: NewIssue) -> Result<Issue, Error> {
        let NewIssue {
            title,
            description,
            kind,
            status,
            priority,
            parent_id,
            project_id,
            signal_source,
            signal_payload,
            hypothesis,
            agent_session_id,
            agent_summary,
            commits,
            pull_requests,
            label_ids,
        } = new;
        let id = IssueId::new();
        let project_id = project_id.as_ref().or(self.on.scope);
        let parameters: &[_] = params![
            id,
            title,
            description,
            kind,
            status,
            priority,
            status.is_completed(),
            parent_id,
            project_id,
            signal_source,
            signal_payload,
            hypothesis.as_ref().map(Json),
            agent_session_id,
            agent_summary,
            commits.as_ref().map(Json),
            pull_requests.as_ref().map(Json),
            label_ids,
            self.on.actor,
        ];
        let row = self.on.one(CREATE, parameters).await?;
        sql::written(&row, Entity::Issue, "issues", &id, read)
    }

    /// Changes an issue.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is none, [`Error::InvalidReference`] when the parent, the project or a label is not there,
    /// [`Error::Invalid`] when the parent has a parent itself, or the issue has children, or is to be its own parent.
    /// [`Error::Conflict`] when it and another were made each other's parent at the same moment.
    pub async fn update(&self, id: &IssueId, patch: IssuePatch) -> Result<Issue, Error> {
        let IssuePatch {
            title,
            description,
            kind,
            status,
            priority,
            parent_id,
            project_id,
            signal_source,
            signal_payload,
            hypothesis,
            agent_session_id,
            agent_summary,
            commits,
            pull_requests,
            label_ids,
        } = patch;
        let (hypothesis, commits, pull_requests) = (hypothesis.map(Json), commits.map(Json), pull_requests.map(Json));
        let completed = status.map(crate::IssueStatus::is_completed);
        let mut update = Update::of(UPDATE, id);
        update.set("title", "?", title.as_ref());
        update.patch("description", &description);
        update.set("type", "?::issue_type", kind.as_ref());
        update.set("status", "?::issue_status", status.as_ref());
        // Moving on within the completed statuses keeps the moment.
        update.set("completed_at", "CASE WHEN ? THEN coalesce(t.completed_at, now()) END", completed.as_ref());
        update.set("priority", "?::issue_priority", priority.as_ref());
        update.refer(
            "parentId?",
            "parent_id",
            "EXISTS (SELECT FROM issues AS p WHERE p.id = ? AND p.deleted_at IS NULL AND ($1::text IS NULL OR p.project_id = $1))",
            &parent_id,
        );
        update.refer_project(&project_id);
        update.patch("signal_source", &signal_source);
        update.patch("signal_payload", &signal_payload);
        update.patch("hypothesis", &hypothesis);
        update.patch("agent_session_id", &agent_session_id);
        update.patch("agent_summary", &agent_summary);
        update.patch("commits", &commits);
        update.patch("pull_requests", &pull_requests);
        if let Some(labels) = &label_ids {
            replace_labels(&mut update, labels);
        }
        sql::update(self.on, update, id, read).await
    }

    /// Deletes an issue, which hides it everywhere. Its children stay; they name it as their parent still, and show none.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is none.
    pub async fn delete(&self, id: &IssueId) -> Result<(), Error> {
        sql::delete(self.on, UPDATE, id).await
    }
}

/// That an issue whose parts fill no page is there at all: an empty page tells nothing, and a full one tells enough.
pub(crate) async fn require_behind<T>(on: Executor<'_>, issue: &IssueId, page: &Page<T>) -> Result<(), Error> {
    if page.data.is_empty() {
        Issues { on }.get(issue).await?;
    }
    Ok(())
}

fn replace_labels<'a>(update: &mut Update<'a>, labels: &'a Vec<LabelId>) {
    update.check(
        "labelIds?",
        "NOT EXISTS (SELECT FROM unnest(?::text[]) AS wanted (id) \
         WHERE NOT EXISTS (SELECT FROM labels AS l WHERE l.id = wanted.id AND l.deleted_at IS NULL))",
        &[bind(labels)],
    );
    update.returning(", issue_labels_replace(t.id, ?::text[])", &[bind(labels)]);
}
