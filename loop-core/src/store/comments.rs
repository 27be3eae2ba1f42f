use std::collections::HashMap;

use tokio_postgres::Row;

use super::{
    executor::Executor,
    issues,
    sql::{self, Columns, Composed, Keyed, NEWEST, Order, Statement, Target, Update, by_id, params},
};
use crate::{Comment, CommentId, CommentPatch, CommentThread, Entity, Error, IssueId, NewComment, Page, PageRequest};

/// A deleted comment keeps its place, but not what it said.
macro_rules! comment_columns {
    () => {
        "t.id, CASE WHEN t.deleted_at IS NULL THEN t.body ELSE '' END AS body, t.issue_id, t.author_name, t.author_type::text, t.parent_id, \
         t.created_at, t.updated_at, t.deleted_at, t.revision"
    };
}

/// The living comment with the id `$2`, on a living issue within the scope.
macro_rules! comment_row {
    () => {
        comment_row!("$2")
    };
    ($id:literal) => {
        concat!(
            "t.id = ",
            $id,
            " AND t.deleted_at IS NULL AND EXISTS (SELECT FROM issues AS i WHERE i.id = t.issue_id AND i.deleted_at IS NULL \
             AND ($1::text IS NULL OR i.project_id = $1))"
        )
    };
}

/// The first comments of the threads about the issue `$2` in which somebody still says something.
macro_rules! threads {
    () => {
        " FROM comments AS t JOIN issues AS i ON i.id = t.issue_id AND i.deleted_at IS NULL AND ($1::text IS NULL OR i.project_id = $1)
         WHERE t.issue_id = $2 AND t.parent_id IS NULL
           AND EXISTS (SELECT FROM comments AS s WHERE s.thread_id = t.id AND s.deleted_at IS NULL)"
    };
}

const GET: Keyed = by_id!(Entity::Comment, "comments.get", comment_columns!(), "comments AS t", comment_row);

const CREATE: Statement = comment(concat!(
    "-- comments.create
WITH parent AS (
    SELECT p.id, p.thread_id, p.depth FROM comments AS p WHERE p.id = $7 AND p.issue_id = $3 AND p.deleted_at IS NULL
), checked AS (
    SELECT EXISTS (SELECT FROM issues AS i WHERE i.id = $3 AND i.deleted_at IS NULL AND ($1::text IS NULL OR i.project_id = $1)) AS \"found?\",
           $7::text IS NULL OR EXISTS (SELECT FROM parent) AS \"parentId?\"
), written AS (
    INSERT INTO comments AS t (id, body, issue_id, author_name, author_type, parent_id, thread_id, depth)
    SELECT $2, $4, $3, $5, $6::author_type, parent.id, coalesce(parent.thread_id, $2), coalesce(parent.depth + 1, 0)
    FROM checked LEFT JOIN parent ON true WHERE \"found?\" AND \"parentId?\"
    RETURNING ",
    comment_columns!(),
    ")
SELECT checked.*, written.* FROM checked LEFT JOIN written ON true"
));

const UPDATE: Target = Target {
    entity: Entity::Comment,
    update: "comments.update",
    delete: "comments.delete",
    table: "comments",
    row: comment_row!(),
    columns: comment_columns!(),
    recorded: false,
};

const THREADS: Statement = comment(concat!("-- comments.threads\nSELECT ", comment_columns!(), threads!()));

const COUNT: Statement = comment(concat!("-- comments.count\nSELECT count(*)", threads!()));

const REPLIES: Statement = comment(concat!(
    "-- comments.replies\nSELECT ",
    comment_columns!(),
    " FROM comments AS t JOIN issues AS i ON i.id = t.issue_id AND i.deleted_at IS NULL AND ($1::text IS NULL OR i.project_id = $1)
      WHERE t.thread_id = ANY ($2::text[]) AND t.parent_id IS NOT NULL ORDER BY t.created_at, t.id"
));

const OLDEST: Order =
    Order { word: "createdAt", after: " AND (t.created_at, t.id) > (?, ?)", by: " ORDER BY t.created_at, t.id", ..NEWEST };

/// The fixed statements.
#[cfg(feature = "test-util")]
pub(crate) const STATEMENTS: &[Statement] = &[GET.one, GET.many, CREATE, THREADS, COUNT, REPLIES];

const fn comment(sql: &'static str) -> Statement {
    Statement::new(Entity::Comment, sql)
}

fn read(columns: &mut Columns<'_>) -> Result<Comment, Error> {
    Ok(Comment {
        id: columns.next()?,
        body: columns.next()?,
        issue_id: columns.next()?,
        author_name: columns.next()?,
        author_type: columns.next()?,
        parent_id: columns.next()?,
        created_at: columns.next()?,
        updated_at: columns.next()?,
        deleted_at: columns.next()?,
        revision: columns.next()?,
    })
}

fn read_row(row: &Row) -> Result<Comment, Error> {
    read(&mut Columns::of(row, "comments"))
}

/// The comments on issues.
pub struct Comments<'a> {
    pub(crate) on: Executor<'a>,
}

impl Comments<'_> {
    /// The comment with this id.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is none, or its issue is deleted.
    pub async fn get(&self, id: &CommentId) -> Result<Comment, Error> {
        self.on.get(GET, id.as_str(), read_row).await
    }

    /// The threads of comments on an issue, the oldest first: a page holds that many first comments, each with all replies. A deleted
    /// comment is left out, unless there are replies to it.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is no such issue.
    pub async fn list(&self, issue: &IssueId, page: &PageRequest) -> Result<Page<CommentThread>, Error> {
        let begin = |statement| Composed::parts(statement, issue);
        let key = |comment: &Comment| (comment.created_at.as_millis(), comment.id.clone());
        let firsts = sql::list(self.on, begin(THREADS), || begin(COUNT), page, OLDEST, read_row, key).await?;
        issues::require_behind(self.on, issue, &firsts).await?;
        let ids: Vec<&CommentId> = firsts.data.iter().map(|first| &first.id).collect();
        let replies = if ids.is_empty() { Vec::new() } else { self.on.rows(REPLIES, params![ids]).await? };
        let mut by_parent: HashMap<CommentId, Vec<Comment>> = HashMap::new();
        for reply in &replies {
            let reply = read_row(reply)?;
            if let Some(parent) = reply.parent_id.clone() {
                by_parent.entry(parent).or_default().push(reply);
            }
        }
        Ok(firsts.map(|first| thread(first, &mut by_parent)))
    }

    /// Creates a comment on an issue.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is no such issue, [`Error::InvalidReference`] when the comment to reply to is not there or not one
    /// of the issue, [`Error::Invalid`] when the thread is too deep to reply there.
    pub async fn create(&self, issue: &IssueId, new: NewComment) -> Result<Comment, Error> {
        let NewComment { body, author_name, author_type, parent_id } = new;
        let row = self.on.one(CREATE, params![CommentId::new(), issue, body, author_name, author_type, parent_id]).await?;
        sql::written_under(&row, Entity::Comment, "comments", (Entity::Issue, issue), read)
    }

    /// Changes a comment.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is none, or its issue is deleted.
    pub async fn update(&self, id: &CommentId, patch: CommentPatch) -> Result<Comment, Error> {
        let CommentPatch { body } = patch;
        let mut update = Update::of(UPDATE, id);
        update.set("body", "?", body.as_ref());
        sql::update(self.on, update, id, read).await
    }

    /// Deletes a comment. Replies to it stay.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is none, or its issue is deleted.
    pub async fn delete(&self, id: &CommentId) -> Result<(), Error> {
        sql::delete(self.on, UPDATE, id).await
    }
}

/// Nests the replies to a comment. The schema bounds how deep that goes.
fn thread(comment: Comment, by_parent: &mut HashMap<CommentId, Vec<Comment>>) -> CommentThread {
    let replies = by_parent.remove(&comment.id).unwrap_or_default();
    let replies = replies.into_iter().map(|reply| thread(reply, by_parent));
    let replies = replies.filter(|reply| reply.comment.deleted_at.is_none() || !reply.replies.is_empty()).collect();
    CommentThread { comment, replies }
}
