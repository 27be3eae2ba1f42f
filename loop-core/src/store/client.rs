//! A connection as the driver gives it, with what was prepared on it.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    ops::Deref,
    sync::{Mutex, MutexGuard, PoisonError},
};

use deadpool_postgres::ClientWrapper;
use tokio::task::JoinHandle;

/// A connection to the server, and the task that sends and receives for it. Both end when this is dropped: what is on its way is not waited
/// for, since the other side may have gone silent.
pub(crate) struct Client {
    wrapper: ClientWrapper,
    prepared: Prepared,
}

impl Client {
    pub(crate) fn new(driver: tokio_postgres::Client, serving: JoinHandle<()>) -> Self {
        Self { wrapper: ClientWrapper::new(driver, serving), prepared: Prepared::default() }
    }

    /// What was prepared on it.
    pub(crate) fn prepared(&self) -> &Prepared {
        &self.prepared
    }

    /// The connection for a transaction, and what was prepared on it.
    pub(crate) fn split(&mut self) -> (&mut tokio_postgres::Client, &Prepared) {
        (&mut self.wrapper, &self.prepared)
    }
}

impl Deref for Client {
    type Target = tokio_postgres::Client;

    fn deref(&self) -> &tokio_postgres::Client {
        &self.wrapper
    }
}

/// How many composed statements a connection keeps prepared before others travel without a name. There are as many of those as there are
/// combinations of filters and fields, and each that is prepared takes memory here and in the server for as long as the connection lives.
const MAX_PREPARED: usize = 256;

/// The text of a statement.
#[derive(Clone, Copy)]
pub(crate) struct Text<'a> {
    pub(crate) sql: &'a str,
    /// Whether it stays where it is for good.
    pub(crate) is_fixed: bool,
    /// Whether it may get a name.
    pub(crate) is_named: bool,
}

impl<'a> Text<'a> {
    pub(crate) fn fixed(sql: &'static str) -> Self {
        Self { sql, is_fixed: true, is_named: true }
    }

    pub(crate) fn composed(sql: &'a str, is_named: bool) -> Self {
        Self { sql, is_fixed: false, is_named }
    }
}

/// The statements that a connection has under names.
#[derive(Default)]
pub(crate) struct Prepared(Mutex<Names>);

/// In order, not hashed: to compare a few places or long texts takes less than to hash one, which `HashMap` does for attackers.
#[derive(Default)]
struct Names {
    /// By where the text is, and how long: to read it would be much more. Nothing, for one that is being prepared.
    fixed: BTreeMap<(usize, usize), Option<tokio_postgres::Statement>>,
    composed: BTreeMap<String, tokio_postgres::Statement>,
}

impl Prepared {
    fn names(&self) -> MutexGuard<'_, Names> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, text: Text<'_>) -> Option<tokio_postgres::Statement> {
        let names = self.names();
        if text.is_fixed { names.fixed.get(&place(text))?.clone() } else { names.composed.get(text.sql).cloned() }
    }

    /// Whether the caller is to prepare a statement that has no name. Of statements that travel together, one is.
    pub(crate) fn begin(&self, text: Text<'_>) -> bool {
        let mut names = self.names();
        if !text.is_fixed {
            return names.composed.len() < MAX_PREPARED;
        }
        let Entry::Vacant(first) = names.fixed.entry(place(text)) else { return false };
        first.insert(None);
        true
    }

    /// Takes in what was prepared, or that it could not be.
    pub(crate) fn end(&self, text: Text<'_>, statement: Option<tokio_postgres::Statement>) {
        let mut names = self.names();
        match (statement, text.is_fixed) {
            (statement @ Some(_), true) => drop(names.fixed.insert(place(text), statement)),
            (None, true) => drop(names.fixed.remove(&place(text))),
            (Some(statement), false) => drop(names.composed.insert(text.sql.to_owned(), statement)),
            (None, false) => {}
        }
    }
}

fn place(text: Text<'_>) -> (usize, usize) {
    (text.sql.as_ptr().addr(), text.sql.len())
}
