//! What the routes share.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared as SharedFuture, WeakShared},
};
use loop_core::{
    Error, LoopStore, MigrationStatus,
    webhook::{GithubVerifier, PosthogVerifier, SentryVerifier},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    config::BearerSecret,
    error::ApiError,
    limits::{LimitOptions, Limits},
    metrics::{Metrics, MetricsAccess},
};

/// What the routes share: the store, and who may send webhooks. Cheap to clone.
#[derive(Clone)]
pub struct AppState(Arc<Shared>);

struct Shared {
    store: LoopStore,
    webhooks: Webhooks,
    admin_secret: Option<BearerSecret>,
    limits: Arc<Limits>,
    /// A permit for each kibibyte of webhooks' bodies, beyond what of each takes none.
    room: Arc<Semaphore>,
    metrics: Option<Arc<Metrics>>,
    /// The look at the database that is under way: anybody may ask for one, so all who ask at once share it.
    status: Mutex<Option<WeakShared<Status>>>,
}

type Status = BoxFuture<'static, Result<MigrationStatus, Error>>;

/// How much memory the bodies of webhooks take together, in KiB, beyond what of each takes none: anybody may send one, and it is read whole
/// before it can be verified.
const ROOM_KIB: u32 = 256 << 10;
/// How much of each takes no room: so that those who fill it, and take their time, are in nobody's way whose deliveries are of the usual size.
const FREE: usize = 64 << 10;

/// How webhooks are taken in. A provider without a verifier is not configured: its route answers 503.
#[derive(Debug, Clone)]
pub struct Webhooks {
    /// Who GitHub is.
    pub github: Option<GithubVerifier>,
    /// Who Sentry is.
    pub sentry: Option<SentryVerifier>,
    /// Who PostHog is.
    pub posthog: Option<PosthogVerifier>,
    /// How large a delivery may be, in bytes.
    pub body_limit: usize,
}

impl Webhooks {
    /// The usual limit of a delivery's size: 5 MiB. GitHub sends up to 25 MB.
    pub const DEFAULT_BODY_LIMIT: usize = 5 << 20;
}

impl Default for Webhooks {
    fn default() -> Self {
        Self { github: None, sentry: None, posthog: None, body_limit: Self::DEFAULT_BODY_LIMIT }
    }
}

/// The room that one body takes, for as long as this is held.
pub(crate) struct Room {
    all: Arc<Semaphore>,
    taken: Option<OwnedSemaphorePermit>,
    bytes: usize,
}

impl Room {
    /// Takes room for that many bytes more, if there is some beside what others have.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), ApiError> {
        self.bytes += bytes;
        let Some(beyond) = self.bytes.checked_sub(FREE + 1) else { return Ok(()) };
        let needed = (beyond >> 10) + 1 - self.taken.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = u32::try_from(needed).map_err(|_| ApiError::busy())?;
        let more = Arc::clone(&self.all).try_acquire_many_owned(more).map_err(|_| ApiError::busy())?;
        match &mut self.taken {
            Some(taken) => taken.merge(more),
            None => self.taken = Some(more),
        }
        Ok(())
    }
}

impl AppState {
    /// The state over a store, with the usual limits. Without an admin secret there is no `POST /admin/migrate`.
    pub fn new(store: LoopStore, webhooks: Webhooks, admin_secret: Option<BearerSecret>) -> Self {
        Self::with_limits(store, webhooks, admin_secret, LimitOptions::default())
    }

    /// The same with limits of the operator's.
    pub fn with_limits(store: LoopStore, webhooks: Webhooks, admin_secret: Option<BearerSecret>, limits: LimitOptions) -> Self {
        let (limits, room) = (Arc::new(Limits::new(limits)), Arc::new(Semaphore::new(ROOM_KIB as usize)));
        Self(Arc::new(Shared { store, webhooks, admin_secret, limits, room, metrics: None, status: Mutex::default() }))
    }

    /// The same state, with `GET /metrics` for whom this says. What is counted is what this state's router does.
    pub fn with_metrics(self, access: MetricsAccess) -> Self {
        let metrics = Arc::new(Metrics::new(access));
        let Shared { store, webhooks, admin_secret, limits, room, .. } = &*self.0;
        Self(Arc::new(Shared {
            store: store.observed_by(Arc::clone(&metrics) as _),
            webhooks: webhooks.clone(),
            admin_secret: admin_secret.clone(),
            limits: Arc::clone(limits),
            room: Arc::clone(room),
            metrics: Some(metrics),
            status: Mutex::default(),
        }))
    }

    /// The store, bound to no project. Routes for keys take theirs from [`crate::auth`].
    pub(crate) fn store(&self) -> &LoopStore {
        &self.0.store
    }

    pub(crate) fn webhooks(&self) -> &Webhooks {
        &self.0.webhooks
    }

    pub(crate) fn admin_secret(&self) -> Option<&BearerSecret> {
        self.0.admin_secret.as_ref()
    }

    /// What is counted, where it is.
    pub(crate) fn metrics(&self) -> Option<&Arc<Metrics>> {
        self.0.metrics.as_ref()
    }

    /// Room for the body of a webhook, which takes as much as has arrived.
    pub(crate) fn room(&self) -> Room {
        Room { all: Arc::clone(&self.0.room), taken: None, bytes: 0 }
    }

    /// Whether the database answers, and is migrated.
    pub(crate) async fn migration_status(&self) -> Result<MigrationStatus, Error> {
        let look = || {
            let store = self.0.store.clone();
            async move { store.migration_status().await }.boxed().shared()
        };
        let shared = {
            let mut under_way = self.0.status.lock().unwrap_or_else(PoisonError::into_inner);
            let known = under_way.as_ref().and_then(WeakShared::upgrade).filter(|status| status.peek().is_none());
            let shared: SharedFuture<Status> = known.unwrap_or_else(look);
            *under_way = shared.downgrade();
            shared
        };
        shared.await
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.0.limits
    }
}

impl std::fmt::Debug for AppState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AppState").field("store", &self.0.store).field("webhooks", &self.0.webhooks).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_share_one_room() {
        let all = Arc::new(Semaphore::new(8));
        let room = || Room { all: Arc::clone(&all), taken: None, bytes: 0 };
        let (mut one, mut two) = (room(), room());
        // What is usual takes none.
        one.grow(FREE).unwrap_or_else(|error| panic!("{error:?}"));
        two.grow(FREE).unwrap_or_else(|error| panic!("{error:?}"));
        assert_eq!(all.available_permits(), 8);
        // Then a kibibyte is taken for the first byte, and no more for the next thousand.
        for _ in 0..1000 {
            one.grow(1).unwrap_or_else(|error| panic!("{error:?}"));
        }
        assert_eq!(all.available_permits(), 7);
        two.grow(6 << 10).unwrap_or_else(|error| panic!("{error:?}"));
        assert!(one.grow(2 << 10).is_err() && room().grow(FREE + (2 << 10)).is_err());
        room().grow(FREE).unwrap_or_else(|error| panic!("{error:?}"));
        drop(two);
        one.grow(2 << 10).unwrap_or_else(|error| panic!("{error:?}"));
        drop(one);
        assert_eq!(all.available_permits(), 8);
    }
}
