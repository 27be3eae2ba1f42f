//! What the routes share.

use std::sync::Arc;

use loop_core::{
    LoopStore,
    webhook::{GithubVerifier, PosthogVerifier, SentryVerifier},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{config::AdminSecret, error::ApiError, limits::Limits};

/// What the routes share: the store, and who may send webhooks. Cheap to clone.
#[derive(Clone)]
pub struct AppState(Arc<Shared>);

struct Shared {
    store: LoopStore,
    webhooks: Webhooks,
    admin_secret: Option<AdminSecret>,
    limits: Limits,
    /// A permit for each kibibyte of webhooks' bodies.
    room: Arc<Semaphore>,
}

/// How much memory the bodies of webhooks take together, in KiB: anybody may send one, and it is read whole before it can be verified.
const ROOM_KIB: u32 = 256 << 10;

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

impl AppState {
    /// The state over a store. Without an admin secret there is no `POST /admin/migrate`.
    pub fn new(store: LoopStore, webhooks: Webhooks, admin_secret: Option<AdminSecret>) -> Self {
        Self(Arc::new(Shared { store, webhooks, admin_secret, limits: Limits::new(), room: Arc::new(Semaphore::new(ROOM_KIB as usize)) }))
    }

    /// The store, bound to no project. Routes for keys take theirs from [`crate::auth`].
    pub(crate) fn store(&self) -> &LoopStore {
        &self.0.store
    }

    pub(crate) fn webhooks(&self) -> &Webhooks {
        &self.0.webhooks
    }

    pub(crate) fn admin_secret(&self) -> Option<&AdminSecret> {
        self.0.admin_secret.as_ref()
    }

    /// Room for the body of a webhook of that many bytes, if there is some.
    pub(crate) fn make_room(&self, bytes: usize) -> Result<OwnedSemaphorePermit, ApiError> {
        let kib = u32::try_from(bytes >> 10).unwrap_or(ROOM_KIB).saturating_add(1).min(ROOM_KIB);
        Arc::clone(&self.0.room).try_acquire_many_owned(kib).map_err(|_| ApiError::busy())
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
