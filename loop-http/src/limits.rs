//! How often one party may fail to authenticate, make keys, or ask at all.

use std::{
    hash::Hash,
    net::IpAddr,
    num::NonZeroU32,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use governor::{
    DefaultKeyedRateLimiter, Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
};
use ipnet::IpNet;
use loop_core::ApiKeyId;

use crate::error::ApiError;

/// Failed authentications that one address, or one beginning of a key, has at once and gets back per minute.
const FAILED_AUTHENTICATIONS: NonZeroU32 = NonZeroU32::new(120).unwrap();
/// Tries of the admin secret that one address has at once, and gets back per minute.
const ADMIN_TRIES: NonZeroU32 = NonZeroU32::new(60).unwrap();
/// Keys that may be made from one address at once, and per minute.
const KEY_CREATIONS: NonZeroU32 = NonZeroU32::new(60).unwrap();
/// Keys that may be made with one key at once, and per minute, from wherever.
const KEY_CREATIONS_BY_KEY: NonZeroU32 = NonZeroU32::new(300).unwrap();
/// How many parties are remembered before those that did nothing lately are forgotten.
const REMEMBERED: usize = 10_000;
/// How long it takes at least until they are looked through again.
const SWEEP: Duration = Duration::from_secs(10);
/// How much of a key tells it from others, and is no secret.
const PREFIX: usize = 12;

/// What an operator says of limits.
#[derive(Debug, Clone, Default)]
pub struct LimitOptions {
    /// The proxies whose `X-Forwarded-For` is believed: networks, or single addresses as such. From anybody else the header means nothing.
    pub trusted_proxies: Vec<IpNet>,
    /// How many requests one API key may make per minute, and at once. No limit without.
    pub key_requests_per_minute: Option<NonZeroU32>,
}

/// The limits of one process.
pub(crate) struct Limits {
    trusted_proxies: Vec<IpNet>,
    failed_authentications: Limiter<IpAddr>,
    failed_prefixes: Limiter<String>,
    admin_tries: Limiter<IpAddr>,
    key_creations: Limiter<IpAddr>,
    key_creations_by_key: Limiter<ApiKeyId>,
    key_requests: Option<Limiter<ApiKeyId>>,
}

impl Limits {
    pub(crate) fn new(options: LimitOptions) -> Self {
        let LimitOptions { trusted_proxies, key_requests_per_minute } = options;
        Self {
            trusted_proxies: trusted_proxies.into_iter().map(canonical).collect(),
            failed_authentications: Limiter::per_minute(FAILED_AUTHENTICATIONS),
            failed_prefixes: Limiter::per_minute(FAILED_AUTHENTICATIONS),
            admin_tries: Limiter::per_minute(ADMIN_TRIES),
            key_creations: Limiter::per_minute(KEY_CREATIONS),
            key_creations_by_key: Limiter::per_minute(KEY_CREATIONS_BY_KEY),
            key_requests: key_requests_per_minute.map(Limiter::per_minute),
        }
    }

    /// Whether this address is a proxy's that is trusted to say whom it speaks for.
    pub(crate) fn is_trusted_proxy(&self, address: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|network| network.contains(&address))
    }

    /// Counts a failed authentication, with this token if there was one.
    pub(crate) fn failed_authentication(&self, address: Option<IpAddr>, token: Option<&str>) -> Result<(), ApiError> {
        // Who guesses at the rest of one key may do so from many addresses.
        let prefix = token.and_then(|token| token.get(..PREFIX));
        self.failed_authentications.count(address)?;
        self.failed_prefixes.count(prefix.map(str::to_owned))
    }

    /// Counts a try of the admin secret, right or wrong.
    pub(crate) fn admin_try(&self, address: Option<IpAddr>) -> Result<(), ApiError> {
        self.admin_tries.count(address)
    }

    /// Counts the making of a key with another one.
    pub(crate) fn key_creation(&self, address: Option<IpAddr>, with: &ApiKeyId) -> Result<(), ApiError> {
        self.key_creations.count(address)?;
        self.key_creations_by_key.count(Some(with.clone()))
    }

    /// Counts a request with this key.
    pub(crate) fn request(&self, key: &ApiKeyId) -> Result<(), ApiError> {
        self.key_requests.as_ref().map_or(Ok(()), |limiter| limiter.count(Some(key.clone())))
    }
}

/// A network in the family that its addresses are compared in: an IPv4 one may be written as part of IPv6.
fn canonical(network: IpNet) -> IpNet {
    const MAPPED: u8 = 96;
    match network.network().to_canonical() {
        address @ IpAddr::V4(_) if network.prefix_len() >= MAPPED => IpNet::new(address, network.prefix_len() - MAPPED).unwrap_or(network),
        _ => network,
    }
}

/// How often each of many parties did something lately.
struct Limiter<K: Hash + Eq + Clone> {
    counts: DefaultKeyedRateLimiter<K>,
    swept: Mutex<Instant>,
}

impl<K: Hash + Eq + Clone> Limiter<K> {
    fn per_minute(often: NonZeroU32) -> Self {
        Self { counts: RateLimiter::keyed(Quota::per_minute(often)), swept: Mutex::new(Instant::now()) }
    }

    /// Counts a party once more. One that is not known is not counted.
    fn count(&self, party: Option<K>) -> Result<(), ApiError> {
        let Some(party) = party else { return Ok(()) };
        if self.counts.len() > REMEMBERED && self.is_due() {
            self.counts.retain_recent();
        }
        self.counts.check_key(&party).map_err(|not_until| {
            let wait = not_until.wait_time_from(DefaultClock::default().now());
            ApiError::too_many(wait.as_secs() + 1)
        })
    }

    /// Whether it is time to look through all of them, which takes a while if there are many.
    fn is_due(&self) -> bool {
        let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        let due = swept.elapsed() >= SWEEP;
        if due {
            *swept = Instant::now();
        }
        due
    }
}
