use std::sync::atomic::AtomicBool;

use super::{
    Inner, LoopStore, Observer,
    client::Prepared,
    executor::{Executor, On},
    pooled::{Pooled, Unfinished},
};
use crate::{Entity, Error, ProjectId, error::TimedOut, time_limit::limited};

/// A transaction under way, with the same handles as the store. It lives within [`LoopStore::transaction`].
pub struct Tx<'a> {
    pub(crate) transaction: tokio_postgres::Transaction<'a>,
    pub(crate) prepared: &'a Prepared,
    pub(crate) inner: &'a Inner,
    pub(crate) unfinished: Unfinished,
    /// Whether the server refused a statement, after which it takes no more of them and makes a rollback of a commit.
    pub(crate) failed: AtomicBool,
    /// Whether API keys open something else than before, once this is committed.
    pub(crate) keys_changed: AtomicBool,
    scope: Option<&'a ProjectId>,
    actor: &'a String,
    observer: Option<&'a dyn Observer>,
}

impl Tx<'_> {
    pub(crate) fn executor(&self) -> Executor<'_> {
        Executor { on: On::Tx(self), scope: self.scope, actor: self.actor, expected: None, observer: self.observer }
    }
}

impl LoopStore {
    /// Runs `work` in one transaction: committed if it answers `Ok`, rolled back if it answers `Err` or is dropped half-way.
    ///
    /// Within `work` use only the [`Tx`]: the store itself would take another connection, and wait in vain where there is only one.
    ///
    /// It may wait for a minute between two statements; then the server ends it.
    ///
    /// A statement that the database itself refuses, as it does a name that is taken, ends the transaction: whatever `work` answers then,
    /// nothing is kept. What the store finds out by looking (a row or a reference that is not there) does not.
    ///
    /// # Errors
    ///
    /// What `work` answers, or [`Error::Unavailable`] when the transaction could not begin or its commit was not confirmed. In the latter
    /// case it may or may not have been committed. [`Error::Database`] when `work` passed over a statement that was refused.
    pub async fn transaction<T, E: From<Error>>(&self, work: impl AsyncFnOnce(&Tx<'_>) -> Result<T, E>) -> Result<T, E> {
        let limit = self.inner.statement_timeout;
        let mut pooled = Pooled::take(&self.inner, self.observer()).await?;
        // A caller that goes away, or a panic, leaves it so.
        pooled.unfinished.set(true);
        let (result, clean, keys_changed) = {
            let (transaction, prepared) = pooled.begin(&self.inner, self.scope()).await?;
            let (unfinished, failed, keys_changed) = (Unfinished::default(), AtomicBool::new(false), AtomicBool::new(false));
            let (scope, observer) = (self.scope(), self.observer());
            let tx =
                Tx { transaction, prepared, inner: &self.inner, unfinished, failed, keys_changed, scope, actor: &self.actor, observer };
            let result = work(&tx).await;
            let Tx { transaction, unfinished, failed, keys_changed, .. } = tx;
            let (result, clean) = match (result, !unfinished.get(), failed.into_inner()) {
                (Ok(value), true, false) => match limited(limit, transaction.commit()).await {
                    Some(Ok(())) => (Ok(value), true),
                    Some(Err(error)) => (Err(Error::from_driver(Entity::Issue, error).into()), false),
                    None => (Err(Error::unavailable(TimedOut(limit)).into()), false),
                },
                // A statement broke off, and `work` went on as if nothing were.
                (Ok(_), false, _) => (Err(Error::unavailable("a statement of the transaction broke off").into()), false),
                (result, true, _) => {
                    let clean = matches!(limited(limit, transaction.rollback()).await, Some(Ok(())));
                    let refused = || Error::database("a statement of the transaction was refused, so that nothing could be kept");
                    (Err(result.err().unwrap_or_else(|| refused().into())), clean)
                }
                (Err(error), false, _) => (Err(error), false),
            };
            (result, clean, keys_changed.into_inner())
        };
        if keys_changed {
            self.inner.keys.forget();
        }
        if clean {
            pooled.unfinished.set(false);
        }
        result
    }
}
