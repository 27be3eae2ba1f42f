//! A connection as the driver gives it, with what was prepared on it.

use std::{
    collections::HashMap,
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

/// The statements that a connection has under names. Whoever prepares the same statement at the same time does so twice, and one name is kept.
#[derive(Default)]
pub(crate) struct Prepared(Mutex<Names>);

#[derive(Default)]
struct Names {
    /// By where the text is, and how long: to read it would be much more.
    fixed: HashMap<(usize, usize), tokio_postgres::Statement>,
    composed: HashMap<String, tokio_postgres::Statement>,
}

impl Prepared {
    fn names(&self) -> MutexGuard<'_, Names> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, text: Text<'_>) -> Option<tokio_postgres::Statement> {
        let names = self.names();
        let statement = if text.is_fixed { names.fixed.get(&place(text)) } else { names.composed.get(text.sql) };
        statement.cloned()
    }

    pub(crate) fn put(&self, text: Text<'_>, statement: tokio_postgres::Statement) {
        let mut names = self.names();
        if text.is_fixed {
            names.fixed.insert(place(text), statement);
        } else {
            names.composed.insert(text.sql.to_owned(), statement);
        }
    }

    /// How many of them were put together.
    pub(crate) fn composed(&self) -> usize {
        self.names().composed.len()
    }
}

fn place(text: Text<'_>) -> (usize, usize) {
    (text.sql.as_ptr().addr(), text.sql.len())
}
