//! Keys that were revoked or deleted lately. Tokens derived from them are rejected without a lookup.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use super::cache_key::CacheKey;
use crate::clock::Timestamp;

/// Keys that were revoked or deleted within the longest lifetime of a token. Bounded: when a key does not fit, the status of every key
/// that is not in the set is [`ParentStatus::Unknown`], never wrong.
#[derive(Debug)]
pub struct RevokedParents {
    token_life: Duration,
    max: usize,
    table: RwLock<Table>,
}

/// Whether a key was revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParentStatus {
    /// It was revoked or deleted.
    Revoked,
    /// It was not, as of the last change that was applied.
    Active,
    /// The set may lack it: its record must be looked up.
    Unknown,
}

#[derive(Debug, Default)]
struct Table {
    times: HashMap<CacheKey, Timestamp>,
    /// Until when a key with valid tokens may be missing.
    incomplete_until: Option<Timestamp>,
}

impl RevokedParents {
    /// A set of at most `max` keys, for tokens that live at most `token_life`.
    pub fn new(token_life: Duration, max: usize) -> Self {
        Self { token_life, max, table: RwLock::default() }
    }

    /// Tokens of keys that were revoked before this time have expired at `now`.
    pub fn horizon(&self, now: Timestamp) -> Timestamp {
        now.checked_sub_signed(chrono::TimeDelta::from_std(self.token_life).unwrap_or(chrono::TimeDelta::MAX))
            .unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// The maximum number of keys.
    pub fn max(&self) -> usize {
        self.max
    }

    /// Adds a key that was revoked or deleted at `time`.
    pub fn add(&self, key: CacheKey, time: Timestamp, now: Timestamp) {
        let horizon = self.horizon(now);
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        if table.times.len() >= self.max {
            table.times.retain(|_, time| *time >= horizon);
        }
        if table.times.len() < self.max {
            table.times.insert(key, time);
            return;
        }
        if table.incomplete_until.is_none() {
            tracing::warn!(max = self.max, "the set of revoked keys is full; the parents of tokens are looked up");
        }
        let until = time.checked_add_signed(now - horizon).unwrap_or(Timestamp::MAX_UTC);
        table.incomplete_until = table.incomplete_until.max(Some(until));
    }

    /// Whether a key was revoked.
    pub fn status(&self, key: &CacheKey, now: Timestamp) -> ParentStatus {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        if table.times.contains_key(key) {
            ParentStatus::Revoked
        } else if table.incomplete_until.is_some_and(|until| now <= until) {
            ParentStatus::Unknown
        } else {
            ParentStatus::Active
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{KeyId, TenantId};

    fn key(number: u128) -> CacheKey {
        (TenantId::NIL, KeyId::Issued(uuid::Uuid::from_u128(number)))
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_timestamp(1_780_000_000 + seconds, 0).unwrap()
    }

    #[test]
    fn key_that_does_not_fit_makes_the_status_of_others_unknown() {
        let revoked = RevokedParents::new(Duration::from_secs(100), 2);
        assert_eq!(revoked.status(&key(1), at(0)), ParentStatus::Active);
        revoked.add(key(1), at(0), at(0));
        revoked.add(key(2), at(10), at(10));
        assert_eq!(
            (revoked.status(&key(1), at(10)), revoked.status(&key(3), at(10))),
            (ParentStatus::Revoked, ParentStatus::Active)
        );
        revoked.add(key(3), at(20), at(20));
        assert_eq!(
            (revoked.status(&key(3), at(20)), revoked.status(&key(2), at(20))),
            (ParentStatus::Unknown, ParentStatus::Revoked)
        );
        assert_eq!(revoked.status(&key(4), at(121)), ParentStatus::Active, "its tokens have expired");
    }

    #[test]
    fn key_whose_tokens_have_expired_is_replaced() {
        let revoked = RevokedParents::new(Duration::from_secs(100), 1);
        revoked.add(key(1), at(0), at(0));
        revoked.add(key(2), at(101), at(101));
        assert_eq!(
            (revoked.status(&key(1), at(101)), revoked.status(&key(2), at(101))),
            (ParentStatus::Active, ParentStatus::Revoked)
        );
    }
}
