//! How often one address may fail to authenticate, or make keys.

use std::{net::IpAddr, num::NonZeroU32};

use governor::{
    DefaultKeyedRateLimiter, Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
};

use crate::error::ApiError;

/// Failed authentications that one address has at once, and gets back per minute.
const FAILED_AUTHENTICATIONS: NonZeroU32 = NonZeroU32::new(120).unwrap();
/// Tries of the admin secret that one address has at once, and gets back per minute.
const ADMIN_TRIES: NonZeroU32 = NonZeroU32::new(60).unwrap();
/// Keys that one address may make at once, and per minute.
const KEY_CREATIONS: NonZeroU32 = NonZeroU32::new(60).unwrap();
/// How many addresses are remembered before those that did nothing lately are forgotten.
const REMEMBERED: usize = 10_000;

/// The limits of one process.
pub(crate) struct Limits {
    failed_authentications: DefaultKeyedRateLimiter<IpAddr>,
    admin_tries: DefaultKeyedRateLimiter<IpAddr>,
    key_creations: DefaultKeyedRateLimiter<IpAddr>,
}

impl Limits {
    pub(crate) fn new() -> Self {
        Self {
            failed_authentications: RateLimiter::keyed(Quota::per_minute(FAILED_AUTHENTICATIONS)),
            admin_tries: RateLimiter::keyed(Quota::per_minute(ADMIN_TRIES)),
            key_creations: RateLimiter::keyed(Quota::per_minute(KEY_CREATIONS)),
        }
    }

    /// Counts a failed authentication.
    pub(crate) fn failed_authentication(&self, address: Option<IpAddr>) -> Result<(), ApiError> {
        count(&self.failed_authentications, address)
    }

    /// Counts a try of the admin secret, right or wrong.
    pub(crate) fn admin_try(&self, address: Option<IpAddr>) -> Result<(), ApiError> {
        count(&self.admin_tries, address)
    }

    /// Counts the making of a key.
    pub(crate) fn key_creation(&self, address: Option<IpAddr>) -> Result<(), ApiError> {
        count(&self.key_creations, address)
    }
}

fn count(limiter: &DefaultKeyedRateLimiter<IpAddr>, address: Option<IpAddr>) -> Result<(), ApiError> {
    let Some(address) = address else { return Ok(()) };
    if limiter.len() > REMEMBERED {
        limiter.retain_recent();
    }
    limiter.check_key(&address).map_err(|not_until| {
        let wait = not_until.wait_time_from(DefaultClock::default().now());
        ApiError::too_many(wait.as_secs() + 1)
    })
}
