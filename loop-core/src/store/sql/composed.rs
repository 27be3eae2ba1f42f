//! Statements put together from fragments.

use super::{Bound, Param, Statement, bind};
use crate::{Entity, ProjectId};

/// A statement put together from fragments, each with its values beside it.
pub(crate) struct Composed<'a> {
    pub(crate) entity: Entity,
    /// Its name, which is the first line of its text.
    pub(crate) name: &'static str,
    pub(crate) sql: String,
    /// The parameters from `$2` on.
    pub(crate) params: Vec<Bound<'a>>,
    /// Whether a connection may keep it under a name, and with that a plan for any values. If not, each is planned for its own.
    pub(crate) is_named: bool,
    /// Whether an index has just these rows in the list's order, whatever the values are. One plan does for all values then, and the planner is
    /// not shown them: each stands in a sub-select, or for some it would believe that to plan anew each time is cheaper. Of any other list
    /// the planner should see how many rows have the values that are asked for.
    pub(crate) is_indexed: bool,
    /// Whether it stands in a query around it, which is open still: see [`indexed`](Self::indexed).
    pub(crate) is_inner: bool,
}

/// What keeps a list within the scope of a store that is bound to a project. Every list must say.
#[derive(Clone, Copy)]
pub(crate) enum Within {
    /// A condition on `$1`.
    Project(&'static str),
    /// The rows are shared by all projects.
    Shared,
}

impl<'a> Composed<'a> {
    /// Begins a list, or its count, with a text that ends in a condition.
    pub(crate) fn list(statement: Statement, scope: Option<&ProjectId>, within: Within) -> Self {
        let mut list = Self::begin(statement, statement.sql.to_owned());
        if let (Some(_), Within::Project(condition)) = (scope, within) {
            list.condition(condition, &[]);
        }
        list
    }

    /// Begins a list of which an index has just the rows, in its order, whatever the values are: those of the scope and of all that is pushed.
    ///
    /// Where the planner believes that these are few, it would take and sort all of them, also where they are many. So the list stands in a query
    /// of its own, with a limit that the planner does not know and takes for a tenth of what there is.
    pub(crate) fn indexed(statement: Statement, scope: Option<&ProjectId>, within: Within) -> Self {
        let mut list = Self::begin(statement, statement.sql.replacen('\n', "\nSELECT * FROM (", 1));
        list.is_inner = true;
        if let (Some(_), Within::Project(condition)) = (scope, within) {
            list.push(" AND ", &[]);
            list.push(condition, &[]);
        }
        list
    }

    fn begin(statement: Statement, sql: String) -> Self {
        Self { entity: statement.entity, name: statement.name, sql, params: Vec::new(), is_named: true, is_indexed: true, is_inner: false }
    }

    /// Begins a list of what belongs to a row, or its count. The statement has that row's id as `$2`, and says itself, through that row, what
    /// the scope is.
    pub(crate) fn parts<Id: Param>(statement: Statement, owner: &'a Id) -> Self {
        let mut list = Self::list(statement, None, Within::Shared);
        list.params.push(bind(owner));
        list.is_indexed = false;
        list
    }

    /// Adds a fragment. Each `?` in it stands for the next of these values.
    pub(crate) fn push(&mut self, fragment: &'static str, values: &[Bound<'a>]) {
        let marks = if self.is_indexed { HIDDEN } else { SHOWN };
        place(&mut self.sql, &mut self.params, fragment, values, marks);
    }

    /// The same with values that the planner is shown in any case.
    pub(crate) fn push_shown(&mut self, fragment: &'static str, values: &[Bound<'a>]) {
        number(&mut self.sql, &mut self.params, fragment, values);
    }

    /// Adds a condition that must hold too.
    pub(crate) fn condition(&mut self, fragment: &'static str, values: &[Bound<'a>]) {
        self.is_indexed = false;
        self.push(" AND ", &[]);
        self.push(fragment, values);
    }

    /// Adds a condition if there is a value for it.
    pub(crate) fn condition_if<T: Param>(&mut self, fragment: &'static str, value: Option<&'a T>) {
        if let Some(value) = value {
            self.condition(fragment, &[bind(value)]);
        }
    }

    /// Adds the condition that a column is one of these words, if there are any. `value` is a word's expression, such as `?::issue_status`.
    ///
    /// The words stand one by one, because the planner does not look into a parameter that is an array and cast: it would take any number
    /// of words for nearly all rows, and walk a whole table in the list's order for the few there are.
    pub(crate) fn any_of<T: Param + PartialEq>(&mut self, column: &'static str, value: &'static str, words: &'a [T]) {
        let mut distinct: Vec<&'a T> = Vec::new();
        for word in words {
            if !distinct.contains(&word) {
                distinct.push(word);
            }
        }
        let [first, rest @ ..] = &distinct[..] else { return };
        self.condition(column, &[]);
        self.push(if rest.is_empty() { " = " } else { " = ANY (ARRAY[" }, &[]);
        self.push(value, &[bind(*first)]);
        for word in rest {
            self.push(", ", &[]);
            self.push(value, &[bind(*word)]);
        }
        self.push(if rest.is_empty() { "" } else { "])" }, &[]);
    }
}

/// What stands before and after the number of a parameter.
type Marks = (&'static str, &'static str);

const SHOWN: Marks = ("$", "");
const HIDDEN: Marks = ("(SELECT $", ")");

/// Appends a fragment, putting the number of the next parameter for each `?`.
pub(super) fn number<'a>(sql: &mut String, params: &mut Vec<Bound<'a>>, fragment: &'static str, values: &[Bound<'a>]) {
    place(sql, params, fragment, values, SHOWN);
}

fn place<'a>(sql: &mut String, params: &mut Vec<Bound<'a>>, fragment: &'static str, values: &[Bound<'a>], (before, after): Marks) {
    let mut rest = fragment;
    for value in values {
        let Some((piece, behind)) = rest.split_once('?') else { break };
        params.push(*value);
        sql.push_str(piece);
        sql.push_str(before);
        // `$1` is the scope, so the first of these is `$2`.
        sql.push_str(itoa::Buffer::new().format(params.len() + 1));
        sql.push_str(after);
        rest = behind;
    }
    sql.push_str(rest);
}
