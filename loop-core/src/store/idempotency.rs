//! Requests that are done once, however often they are sent.

use futures_util::try_join;

use super::{
    LoopStore, Tx,
    sql::{Columns, Statement, params},
};
use crate::{Entity, Error};

/// A request that is to be done once.
#[derive(Debug, Clone, Copy)]
pub struct IdempotentRequest<'a> {
    /// Whose request it is. Keys of others are other keys.
    pub owner: &'a str,
    /// The owner's name for it.
    pub key: &'a str,
    /// The SHA-256 of everything that it asks for.
    pub hash: [u8; 32],
}

/// How a request was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAnswer {
    /// The status of HTTP, or a number of the caller's own.
    pub status: u16,
    /// The answer itself.
    pub body: Vec<u8>,
}

/// What became of a request that is to be done once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Once {
    /// It was done now.
    Done(StoredAnswer),
    /// It was done before, and answered so.
    Replayed(StoredAnswer),
    /// It is being done at this moment. Ask again.
    InProgress,
    /// Another request was done under its key.
    Mismatch,
}

/// Whether the request is ours to be done, until the end of the transaction.
const CLAIM: Statement = Statement::new(
    Entity::IdempotencyKey,
    "-- idempotency.claim
SELECT pg_try_advisory_xact_lock(hashtextextended('loop_idempotency.' || $2 || '.' || $3, 0))",
);

/// How the request was answered, if it was done before. It is a statement of its own, and comes after the claim, so as to see a twin's that
/// was done just then.
const FIND: Statement = Statement::new(
    Entity::IdempotencyKey,
    "-- idempotency.find
SELECT k.request, k.status, k.answer FROM idempotency_keys AS k
WHERE k.owner = $2 AND k.key = $3 AND k.created_at > now() - interval '24 hours'",
);

/// Keeps the answer, in place of one that is old; and forgets some others of those.
const RECORD: Statement = Statement::new(
    Entity::IdempotencyKey,
    "-- idempotency.record
WITH old AS (
    SELECT owner, key FROM idempotency_keys
    WHERE created_at <= now() - interval '24 hours' AND (owner, key) <> ($2, $3) ORDER BY created_at LIMIT 8 FOR UPDATE SKIP LOCKED
), forgotten AS (
    DELETE FROM idempotency_keys AS k USING old WHERE k.owner = old.owner AND k.key = old.key
)
INSERT INTO idempotency_keys AS k (owner, key, request, status, answer) VALUES ($2, $3, $4, $5, $6)
ON CONFLICT ON CONSTRAINT idempotency_keys_pkey
DO UPDATE SET request = excluded.request, status = excluded.status, answer = excluded.answer, created_at = now()
WHERE k.created_at <= now() - interval '24 hours'
RETURNING k.owner",
);

/// The fixed statements.
#[cfg(feature = "test-util")]
pub(crate) const STATEMENTS: &[Statement] = &[CLAIM, FIND, RECORD];

impl LoopStore {
    /// Does a request once: `work` runs in a transaction, in which its answer is kept, too, for 24 hours. So either both are there or neither:
    /// a request that broke off is done when it comes again, and one that was done is answered as it was then.
    ///
    /// What `work` refuses with an error was not done, and is not kept.
    ///
    /// # Errors
    ///
    /// As [`transaction`](Self::transaction).
    pub async fn once<E: From<Error>>(
        &self,
        request: IdempotentRequest<'_>,
        work: impl AsyncFnOnce(&Tx<'_>) -> Result<StoredAnswer, E>,
    ) -> Result<Once, E> {
        self.transaction(async |tx| {
            if let Some(outcome) = claim(tx, request).await? {
                return Ok(outcome);
            }
            let answer = work(tx).await?;
            record(tx, request, &answer).await?;
            Ok(Once::Done(answer))
        })
        .await
    }
}

/// What became of the request already, or nothing if it is ours to be done.
async fn claim(tx: &Tx<'_>, request: IdempotentRequest<'_>) -> Result<Option<Once>, Error> {
    let IdempotentRequest { owner, key, hash } = request;
    let (executor, by_key): (_, &[_]) = (tx.executor(), params![owner, key]);
    // They travel together, and are done in this order.
    let (ours, found) = try_join!(executor.one(CLAIM, by_key), executor.opt(FIND, by_key))?;
    let Some(row) = found else {
        let ours = Columns::of(&ours, "idempotency_keys").next::<bool>()?;
        return Ok((!ours).then_some(Once::InProgress));
    };
    let mut columns = Columns::of(&row, "idempotency_keys");
    if columns.next::<&[u8]>()? != hash {
        return Ok(Some(Once::Mismatch));
    }
    let status = columns.next::<i16>()?;
    Ok(Some(Once::Replayed(StoredAnswer { status: status.unsigned_abs(), body: columns.next()? })))
}

/// Keeps the answer.
async fn record(tx: &Tx<'_>, request: IdempotentRequest<'_>, answer: &StoredAnswer) -> Result<(), Error> {
    let IdempotentRequest { owner, key, hash } = request;
    let status = i16::try_from(answer.status).unwrap_or(i16::MAX);
    tx.executor().one(RECORD, params![owner, key, hash.as_slice(), status, answer.body.as_slice()]).await?;
    Ok(())
}
