//! The keys that were found to open something a moment ago.

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use super::moment::Moment;
use crate::{ApiKey, Timestamp};

/// How long an answer of the database is believed. A key that is revoked elsewhere opens nothing after that.
const BELIEVED: Duration = Duration::from_millis(750);
/// After how long one of those who use it asks again, so that the others need not when it is no longer believed.
const RENEWED: Duration = Duration::from_millis(300);
/// How many keys are known at most. Each is less than a kibibyte.
const MOST: usize = 10_000;

/// What is known of keys, by the SHA-256 of their plain text. Only of those that open something: to guess is no faster with this.
#[derive(Default)]
pub(crate) struct KeyCache {
    known: RwLock<HashMap<[u8; 32], Known>>,
    /// How often keys were changed by this store. What was asked before a change is not believed after it.
    changes: AtomicU64,
}

struct Known {
    key: Arc<ApiKey>,
    asked: Asked,
    /// Whether somebody is asking again.
    renewing: AtomicBool,
}

/// When the database was asked.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    at: Moment,
    changes: u64,
}

impl KeyCache {
    /// Says that the database is about to be asked.
    pub(crate) fn ask(&self) -> Asked {
        Asked { at: Moment::now(), changes: self.changes.load(Ordering::Acquire) }
    }

    /// The key, unless the caller has to ask the database.
    pub(crate) fn get(&self, hash: &[u8; 32]) -> Option<Arc<ApiKey>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let Known { key, asked, renewing } = known.get(hash)?;
        let expired = || key.expires_at.is_some_and(|end| end <= Timestamp::now());
        let age = asked.at.elapsed();
        let is_believed = asked.changes == self.changes.load(Ordering::Acquire) && age < BELIEVED;
        let due = || age >= RENEWED && !renewing.swap(true, Ordering::Relaxed);
        (is_believed && !expired() && !due()).then(|| Arc::clone(key))
    }

    /// Takes in what the database answered.
    pub(crate) fn put(&self, hash: [u8; 32], asked: Asked, key: Option<&Arc<ApiKey>>) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST {
            known.clear();
        }
        match key {
            Some(key) => known.insert(hash, Known { key: Arc::clone(key), asked, renewing: AtomicBool::new(false) }),
            None => known.remove(&hash),
        };
    }

    /// Forgets all keys, because some were changed.
    pub(crate) fn forget(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ApiKeyId, Role};

    fn key(expires_at: Option<Timestamp>) -> Arc<ApiKey> {
        let (now, id) = (Timestamp::now(), ApiKeyId::new());
        Arc::new(ApiKey {
            id,
            name: "Key".parse().unwrap(),
            prefix: "loop_0123456".to_owned(),
            project_id: None,
            role: Role::Read,
            active: true,
            last_used_at: None,
            expires_at,
            created_at: now,
            updated_at: now,
            deleted_at: None,
        })
    }

    #[test]
    fn what_is_known_is_believed_until_it_ends_or_something_changes() {
        let cache = KeyCache::default();
        let in_ms = |ms| Timestamp::from_millis(Timestamp::now().as_millis() + ms).unwrap();
        assert!(cache.get(&[0; 32]).is_none());
        for (hash, expires_at, believed) in [([1; 32], None, true), ([2; 32], Some(in_ms(60_000)), true), ([3; 32], Some(in_ms(-1)), false)]
        {
            let key = key(expires_at);
            cache.put(hash, cache.ask(), Some(&key));
            assert_eq!(cache.get(&hash), believed.then_some(key));
        }
        // An answer to a question from before a change says nothing.
        let asked = cache.ask();
        cache.forget();
        cache.put([4; 32], asked, Some(&key(None)));
        assert!([1, 2, 4].iter().all(|number| cache.get(&[*number; 32]).is_none()));
        cache.put([1; 32], cache.ask(), Some(&key(None)));
        assert!(cache.get(&[1; 32]).is_some());
        cache.put([1; 32], cache.ask(), None);
        assert!(cache.get(&[1; 32]).is_none());
        // However many there are, no more are kept than that.
        for number in 0..=u32::try_from(MOST).unwrap() {
            let mut hash = [0; 32];
            hash[..4].copy_from_slice(&number.to_be_bytes());
            cache.put(hash, cache.ask(), Some(&key(None)));
        }
        assert!(cache.known.read().unwrap().len() <= MOST);
    }
}
