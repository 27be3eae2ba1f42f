//! The one error of the store, and the one table from PostgreSQL's errors to it.

use std::{fmt, ops::Deref, sync::Arc, time::Duration};

use deadpool::managed::PoolError;
use tokio_postgres::error::{DbError, SqlState};

/// The cause of an [`Error`], for logs. Clones of the error share it.
#[derive(Clone)]
pub struct Source(Arc<dyn std::error::Error + Send + Sync + 'static>);

impl Source {
    pub(crate) fn new(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(cause.into().into())
    }
}

// It is no error itself, so that the cause of an error is what can be downcast.
impl Deref for Source {
    type Target = dyn std::error::Error + Send + Sync + 'static;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What kind of row an error speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the entity of its name")]
pub enum Entity {
    ApiKey,
    Comment,
    Goal,
    IdempotencyKey,
    Issue,
    Label,
    Migration,
    Project,
    PromptReview,
    PromptTemplate,
    PromptVersion,
    Relation,
    Signal,
}

impl Entity {
    /// The name people read, such as `prompt template`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ApiKey => "API key",
            Self::Comment => "comment",
            Self::Goal => "goal",
            Self::IdempotencyKey => "idempotency key",
            Self::Issue => "issue",
            Self::Label => "label",
            Self::Migration => "migration",
            Self::Project => "project",
            Self::PromptReview => "prompt review",
            Self::PromptTemplate => "prompt template",
            Self::PromptVersion => "prompt version",
            Self::Relation => "relation",
            Self::Signal => "signal",
        }
    }
}

impl fmt::Display for Entity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What went wrong, as far as a caller can act on it.
///
/// `Display` speaks of its own level only; what caused it is in [`source`](std::error::Error::source).
/// The enum is exhaustive on purpose while the crate is 0.x: a new variant must be handled where errors become answers.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// No living row of that id is within the store's scope.
    #[error("{entity} not found")]
    NotFound {
        /// What was looked for.
        entity: Entity,
        /// The id that was asked for.
        id: String,
    },
    /// A unique name is taken, or another caller changed the same thing at the same moment.
    #[error("{}", conflict_text(*entity, constraint))]
    Conflict {
        /// What could not be written.
        entity: Entity,
        /// The constraint that refused it, such as `labels_name_key`.
        constraint: &'static str,
    },
    /// The row is not at a revision that the change was meant for: somebody else changed it meanwhile.
    #[error("{entity} was changed meanwhile")]
    Stale {
        /// What was to be changed.
        entity: Entity,
    },
    /// Fields refer to rows that do not exist, are deleted, or are outside the store's scope.
    #[error("{entity} refers to something unknown in {}", fields.join(", "))]
    InvalidReference {
        /// What was being written.
        entity: Entity,
        /// The fields at fault, by their names on the wire; for a batch with the item's position, `signals[3].projectId`.
        fields: Vec<String>,
    },
    /// A value breaks a rule.
    #[error("{field}: {reason}")]
    Invalid {
        /// The field at fault, by its name on the wire.
        field: String,
        /// The rule, for people.
        reason: String,
    },
    /// A store bound to a project was asked for something only an unbound one may do.
    #[error("not allowed within a single project: {action}")]
    OutOfScope {
        /// What was refused, such as `creating a project`.
        action: &'static str,
    },
    /// A store of a replica was asked to write.
    #[error("a replica cannot write: {entity}")]
    ReadOnly {
        /// What was to be written.
        entity: Entity,
    },
    /// A page cursor was not made by this list under this order.
    #[error("malformed cursor")]
    MalformedCursor,
    /// The database is away, restarting, out of resources or too slow, or no connection came free in time. Try again.
    #[error("the database is unavailable")]
    Unavailable {
        /// Why, for logs.
        source: Source,
    },
    /// A stored value cannot be read as its type.
    #[error("stored value in {table}.{column} cannot be read")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The column.
        column: String,
        /// Why, for logs.
        source: Source,
    },
    /// The database refused a statement for a reason that is no caller's fault.
    #[error("the database refused a statement")]
    Database {
        /// Why, for logs.
        source: Source,
    },
    /// The schema cannot be brought to, or is not at, the version this library knows.
    #[error("migrating the database failed")]
    Migration {
        /// Why, for logs.
        source: Source,
    },
    /// A setting of the store, such as its connection string, cannot be used, or does not fit the database it leads to. Somebody has to
    /// change the one or the other.
    #[error("{setting}: {reason}")]
    Configuration {
        /// Which setting.
        setting: &'static str,
        /// Why, without the value.
        reason: String,
    },
}

/// In place of a constraint's name: the loser of a deadlock.
const CONCURRENT_CHANGE: &str = "concurrent_change";

fn conflict_text(entity: Entity, constraint: &str) -> String {
    match constraint {
        "labels_name_key" => "A label with this name already exists".into(),
        "prompt_templates_slug_key" => "A prompt template with this slug already exists".into(),
        "issue_relations_pair_key" => "This relation already exists".into(),
        _ => format!("The {entity} was changed by someone else at the same moment"),
    }
}

impl Error {
    /// Whether the same call may succeed when tried again, a moment later and unchanged.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unavailable { .. } => true,
            Self::Conflict { constraint, .. } => *constraint == CONCURRENT_CHANGE,
            _ => false,
        }
    }

    /// Whether it is that an answer, or a connection, did not come in time; or that the server gave up a statement, which it does after the same time.
    pub fn is_timeout(&self) -> bool {
        let Self::Unavailable { source } = self else { return false };
        source.is::<TimedOut>()
            || source.downcast_ref::<Refused>().is_some_and(|refused| refused.code == SqlState::QUERY_CANCELED.code())
            || matches!(source.downcast_ref(), Some(PoolError::<Self>::Timeout(_)))
    }

    pub(crate) fn not_found(entity: Entity, id: &(impl fmt::Display + ?Sized)) -> Self {
        Self::NotFound { entity, id: id.to_string() }
    }

    pub(crate) fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), reason: reason.into() }
    }

    pub(crate) fn configuration(setting: &'static str, reason: impl fmt::Display) -> Self {
        Self::Configuration { setting, reason: reason.to_string() }
    }

    pub(crate) fn unavailable(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Unavailable { source: Source::new(source) }
    }

    pub(crate) fn database(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Database { source: Source::new(source) }
    }

    /// Maps what the driver reports while a statement about `entity` runs.
    pub(crate) fn from_driver(entity: Entity, error: tokio_postgres::Error) -> Self {
        let unavailable = is_unavailable(&error);
        let Some(db) = error.as_db_error() else {
            return if unavailable { Self::unavailable(error) } else { Self::database(error) };
        };
        if unavailable {
            return Self::unavailable(Refused::of(db));
        }
        match classify(db) {
            Class::Conflict(constraint) => Self::Conflict { entity, constraint },
            Class::Reference(field) => Self::InvalidReference { entity, fields: vec![field.into()] },
            Class::Rule(field, reason) => Self::invalid(field, reason),
            Class::Unavailable => Self::unavailable(Refused::of(db)),
            Class::Pooled => pooled(db.message()),
            Class::Unguarded => Self::configuration(
                "row security",
                "is switched on in the database and not in this store: `StoreBuilder::row_security`, LOOP_ROW_SECURITY=true, or \
                 row_security=true in the connection string",
            ),
            Class::Other => Self::database(Refused::of(db)),
        }
    }
}

/// Statements with names do not work on what is between here and the database.
pub(crate) fn pooled(message: &str) -> Error {
    let reason = format!(
        "statements that are prepared under a name do not work behind this transaction pooler ({message}); choose statements without names: \
         `StatementMode::Unnamed`, LOOP_STATEMENT_MODE=unnamed, or pgbouncer=true in the connection string"
    );
    Error::configuration("statement mode", reason)
}

/// Whether the connection broke, or the server has no time or room at the moment.
pub(crate) fn is_unavailable(error: &tokio_postgres::Error) -> bool {
    let Some(db) = error.as_db_error() else {
        // No answer of the server's: the connection broke, unless the client itself could not encode or decode.
        return error.is_closed() || std::error::Error::source(error).is_some_and(<dyn std::error::Error>::is::<std::io::Error>);
    };
    // Connection exceptions, lack of resources such as room on the disk, a server going down or starting, transactions that were idle for too
    // long, statements cancelled by a timeout, and a disk that does not do what it is told.
    // 25006 is what a primary answers that has just become a standby, or that somebody has made read-only for a while.
    let code = db.code();
    ["08", "53", "57P0", "25P03"].iter().any(|class| code.code().starts_with(class))
        || [SqlState::QUERY_CANCELED, SqlState::LOCK_NOT_AVAILABLE, SqlState::READ_ONLY_SQL_TRANSACTION, SqlState::IO_ERROR].contains(code)
}

#[derive(Clone, Copy)]
enum Class {
    Conflict(&'static str),
    Reference(&'static str),
    Rule(&'static str, &'static str),
    Unavailable,
    Pooled,
    Unguarded,
    Other,
}

/// What each constraint's violation means to a caller. Names are chosen in `migrations/`.
const CONSTRAINTS: &[(&str, Class)] = &[
    ("labels_name_key", Class::Conflict("labels_name_key")),
    ("prompt_templates_slug_key", Class::Conflict("prompt_templates_slug_key")),
    ("issue_relations_pair_key", Class::Conflict("issue_relations_pair_key")),
    ("issue_relations_self_check", Class::Rule("relatedIssueId", "An issue cannot be related to itself")),
    ("issues_parent_self_check", Class::Rule("parentId", "An issue cannot be its own parent")),
    ("issues_parent_depth_check", Class::Rule("parentId", "The parent has a parent itself; the hierarchy is one level deep")),
    (
        "issues_parent_children_check",
        Class::Rule("parentId", "The issue has children, so it cannot have a parent; the hierarchy is one level deep"),
    ),
    ("comments_depth_check", Class::Rule("parentId", "The thread is too deep to reply here")),
    ("goals_target_value_check", Class::Rule("targetValue", "Must be a finite number")),
    ("goals_current_value_check", Class::Rule("currentValue", "Must be a finite number")),
    ("issues_parent_id_fkey", Class::Reference("parentId")),
    ("issues_project_id_fkey", Class::Reference("projectId")),
    ("loop_scope", Class::Unguarded),
];

fn classify(db: &DbError) -> Class {
    let code = db.code();
    if let Some((_, class)) = db.constraint().and_then(|name| CONSTRAINTS.iter().find(|(known, _)| *known == name)) {
        return *class;
    }
    if *code == SqlState::T_R_DEADLOCK_DETECTED || *code == SqlState::T_R_SERIALIZATION_FAILURE {
        return Class::Conflict(CONCURRENT_CHANGE);
    }
    // It has no code of its own, and its text is not translated.
    if db.message() == "tsquery stack too small" {
        return Class::Rule("q", "Cannot be searched for");
    }
    // A prepared statement that is another one, or none, on this connection: a pooler that was not recognised.
    if [SqlState::INVALID_SQL_STATEMENT_NAME, SqlState::DUPLICATE_PSTATEMENT].contains(code) {
        return Class::Pooled;
    }
    // What is not there waits for a migration: a table, or what a newer build asks of an older schema. A prepared statement whose answer a
    // migration has changed, which has no code of its own, works on another connection.
    let missing =
        [SqlState::UNDEFINED_TABLE, SqlState::UNDEFINED_COLUMN, SqlState::UNDEFINED_FUNCTION, SqlState::UNDEFINED_OBJECT].contains(code);
    let changed = *code == SqlState::FEATURE_NOT_SUPPORTED && db.routine() == Some("RevalidateCachedQuery");
    if missing || changed { Class::Unavailable } else { Class::Other }
}

/// What the server said, without its detail: that may hold a whole row, and causes are logged.
#[derive(Debug, thiserror::Error)]
#[error("{severity}: {message} (SQLSTATE {code})")]
struct Refused {
    severity: String,
    message: String,
    code: String,
}

impl Refused {
    fn of(db: &DbError) -> Self {
        Self { severity: db.severity().to_owned(), message: db.message().to_owned(), code: db.code().code().to_owned() }
    }
}

/// An error with its causes.
pub(crate) struct Chain<'a>(pub(crate) &'a (dyn std::error::Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// A statement or a wait that took longer than its limit.
#[derive(Debug, thiserror::Error)]
#[error("no answer from the database within {0:?}")]
pub(crate) struct TimedOut(pub(crate) Duration);

#[cfg(test)]
mod tests {
    use std::{error::Error as _, io};

    use super::*;

    #[test]
    fn clones_have_the_same_cause_and_it_is_what_it_was() {
        let error = Error::unavailable(io::Error::from(io::ErrorKind::ConnectionReset));
        for error in [error.clone(), error] {
            let cause = error.source().and_then(<dyn std::error::Error>::downcast_ref::<io::Error>).map(io::Error::kind);
            assert_eq!(cause, Some(io::ErrorKind::ConnectionReset));
        }
        let error = Error::unavailable(TimedOut(Duration::from_secs(1)));
        assert!(error.is_timeout() && error.clone().is_timeout());
        let refused = |code: &str| Refused { severity: "ERROR".to_owned(), message: "canceled".to_owned(), code: code.to_owned() };
        assert!(Error::unavailable(refused("57014")).is_timeout());
        assert!(!Error::unavailable(refused("57P01")).is_timeout());
    }
}
