//! Rows by their keys: what several ask for at the same moment is one statement.
//!
//! A statement takes the server, and the way there and back, several times what one more row in it does. So no more than a few are on their
//! way at a time, and whoever asks meanwhile asks together with the others who do.

use std::{
    ops::Range,
    ptr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{
    FutureExt as _,
    future::{Shared, WeakShared},
};
use tokio::{
    sync::{Semaphore, SemaphorePermit, oneshot},
    time::timeout,
};
use tokio_postgres::Row;
use tracing::Instrument as _;

use super::{
    LoopStore,
    sql::{Columns, Keyed, Statement, params},
};
use crate::{Error, ProjectId, error::TimedOut, time_limit::limited};

/// How many are on their way before others wait: while the server is at work on the one, the other's rows are read.
const TURNS: usize = 2;

/// How long others wait for one to come back, as exactly as the runtime's timers are. Where the server is far away, it takes longer than that, and the
/// next one follows on another connection.
const PATIENCE: Duration = Duration::from_millis(1);

/// How many keys one takes. Nobody has a row before all are there.
const MOST: usize = 32;

/// Who asks together with whom.
pub(crate) struct Loader {
    turns: Semaphore,
    boarding: Mutex<Boarding>,
}

#[derive(Default)]
struct Boarding {
    batches: Vec<Batch>,
    /// The number of the next one.
    next: u64,
}

/// What several ask for, until it is sent.
struct Batch {
    number: u64,
    statement: Statement,
    scope: Option<ProjectId>,
    keys: Vec<String>,
    /// For as long as anybody waits for it.
    answer: Option<WeakShared<Pending>>,
}

/// What came of it, for everyone who asked.
type Answer = Shared<Pending>;
type Pending = oneshot::Receiver<Result<Arc<Loaded>, Error>>;

impl Default for Loader {
    fn default() -> Self {
        Self { turns: Semaphore::new(TURNS), boarding: Mutex::default() }
    }
}

impl Loader {
    /// A turn to send a statement, unless all are taken.
    pub(crate) fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.turns.try_acquire().ok()
    }

    fn boarding(&self) -> MutexGuard<'_, Boarding> {
        self.boarding.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The rows of several keys.
pub(crate) struct Loaded {
    rows: Vec<Row>,
    /// Where those of each key are, in the order of the keys.
    places: Vec<Range<usize>>,
}

impl Loaded {
    /// The rows that a statement for several answered.
    fn new(statement: Statement, rows: Vec<Row>) -> Result<Self, Error> {
        let mut places: Vec<Range<usize>> = Vec::new();
        let mut end = 0;
        for of_one in rows.chunk_by(|one, next| key(one) == key(next)) {
            Columns::of(&of_one[0], statement.name).next::<&str>()?;
            places.push(end..end + of_one.len());
            end += of_one.len();
        }
        places.sort_unstable_by_key(|place| key(&rows[place.start]));
        Ok(Self { rows, places })
    }

    /// Those of one key.
    pub(crate) fn of(&self, wanted: &str) -> &[Row] {
        let place = self.places.binary_search_by_key(&wanted, |place| key(&self.rows[place.start]));
        place.map_or(&[], |place| &self.rows[self.places[place].clone()])
    }
}

/// The key of a row, its first column.
fn key(row: &Row) -> &str {
    row.try_get(0).unwrap_or_default()
}

impl LoopStore {
    /// The rows of this key and of those that others ask for meanwhile, within the same scope.
    pub(crate) async fn load_together(&self, statement: Keyed, key: &str) -> Result<Arc<Loaded>, Error> {
        let answer = self.board(statement.many, key).instrument(tracing::debug_span!("together", statement = statement.many.name));
        // Whoever sends it has limits of his own, but may be of a runtime that stands still.
        let limit = self.inner.statement_timeout.saturating_add(self.inner.pool.timeouts().wait.unwrap_or_default());
        match limited(limit, answer).await {
            Some(answer) => answer.unwrap_or_else(|gone| Err(Error::unavailable(gone))),
            None => Err(Error::unavailable(TimedOut(limit))),
        }
    }

    /// Adds the key to those of a batch.
    fn board(&self, statement: Statement, key: &str) -> Answer {
        let mut boarding = self.inner.loader.boarding();
        for batch in &mut boarding.batches {
            if !ptr::eq(batch.statement.sql, statement.sql) || batch.scope.as_ref() != self.scope() {
                continue;
            }
            let Some(answer) = batch.answer.as_ref().and_then(WeakShared::upgrade) else { continue };
            let is_asked = batch.keys.iter().any(|other| other == key);
            if !is_asked && batch.keys.len() < MOST {
                batch.keys.push(key.to_owned());
            } else if !is_asked {
                continue;
            }
            return answer;
        }
        let number = boarding.next;
        boarding.next += 1;
        let (mut answers, answer) = oneshot::channel();
        let answer = answer.shared();
        let batch = Batch { number, statement, scope: self.scope().cloned(), keys: vec![key.to_owned()], answer: answer.downgrade() };
        boarding.batches.push(batch);
        drop(boarding);
        let departure = Departure { store: self.clone(), statement, number };
        let run = async move {
            tokio::select! {
                // Nobody waits for it any more: it leaves the line, or the server is told, as with any statement.
                () = answers.closed() => {}
                answer = departure.run() => drop(answers.send(answer)),
            }
        };
        tokio::spawn(run.in_current_span());
        answer
    }
}

/// What sends a batch. Whatever becomes of it, nobody is let on the batch afterwards.
struct Departure {
    store: LoopStore,
    statement: Statement,
    number: u64,
}

impl Departure {
    async fn run(self) -> Result<Arc<Loaded>, Error> {
        // Either the turn is over with the answer, or there was none to be had.
        let _turn = timeout(PATIENCE, self.store.inner.loader.turns.acquire()).await;
        // While it stands in line for a connection, others are still let on.
        let connection = self.store.executor().connection().await?;
        let keys = self.close();
        let rows = connection.rows(self.statement, params![keys]).await?;
        Ok(Arc::new(Loaded::new(self.statement, rows)?))
    }

    /// Closes the batch, and answers its keys.
    fn close(&self) -> Vec<String> {
        let mut boarding = self.store.inner.loader.boarding();
        let place = boarding.batches.iter().position(|batch| batch.number == self.number);
        let closed = place.map(|place| boarding.batches.swap_remove(place));
        drop(boarding);
        closed.map(|batch| batch.keys).unwrap_or_default()
    }
}

impl Drop for Departure {
    fn drop(&mut self) {
        self.close();
    }
}
