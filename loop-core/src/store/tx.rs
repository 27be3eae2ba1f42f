use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::time::timeout;

use super::{
    Inner, LoopStore,
    executor::{Executor, On, Pooled},
};
use crate::{Entity, Error, ProjectId, error::TimedOut};

/// A transaction under way, with the same handles as the store. It lives within [`LoopStore::transaction`].
pub struct Tx<'a> {
    pub(crate) client: deadpool_postgres::Transaction<'a>,
    pub(crate) inner: &'a Inner,
    pub(crate) running: AtomicUsize,
    scope: Option<&'a ProjectId>,
}

impl Tx<'_> {
    pub(crate) fn executor(&self) -> Executor<'_> {
        Executor { on: On::Tx(self), scope: self.scope }
    }
}

impl LoopStore {
    /// Runs `work` in one transaction: committed if it answers `Ok`, rolled back if it answers `Err` or is dropped half-way.
    ///
    /// Within `work` use only the [`Tx`]: the store itself would take another connection, and wait for ever where there is only one.
    ///
    /// # Errors
    ///
    /// What `work` answers, or [`Error::Unavailable`] when the transaction could not begin or its commit was not confirmed. In the latter
    /// case it may or may not have been committed.
    pub async fn transaction<T, E: From<Error>>(&self, work: impl AsyncFnOnce(&Tx<'_>) -> Result<T, E>) -> Result<T, E> {
        let limit = self.inner.statement_timeout;
        let mut pooled = Pooled::take(&self.inner).await?;
        let (result, clean) = {
            let begun = timeout(limit, pooled.object_mut()?.transaction()).await;
            let client = begun.map_err(|_| Error::unavailable(TimedOut(limit)))?.map_err(Error::unavailable)?;
            let tx = Tx { client, inner: &self.inner, running: AtomicUsize::new(0), scope: self.scope() };
            let result = work(&tx).await;
            let Tx { client, running, .. } = tx;
            let clean = running.load(Ordering::Relaxed) == 0;
            match result {
                Ok(value) if clean => match timeout(limit, client.commit()).await {
                    Ok(Ok(())) => (Ok(value), true),
                    Ok(Err(error)) => (Err(Error::from_driver(Entity::Issue, error).into()), false),
                    Err(_) => (Err(Error::unavailable(TimedOut(limit)).into()), false),
                },
                // A statement broke off and `work` went on as if nothing were: there is nothing that could be committed.
                Ok(_) => (Err(Error::unavailable("a statement of the transaction broke off").into()), false),
                Err(error) if clean => {
                    let clean = matches!(timeout(limit, client.rollback()).await, Ok(Ok(())));
                    (Err(error), clean)
                }
                Err(error) => (Err(error), false),
            }
        };
        if !clean {
            pooled.discard();
        }
        result
    }
}
