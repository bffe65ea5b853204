//! Keys that were revoked or deleted lately, or that will count as revoked at a known time. Tokens derived from them are rejected without
//! a lookup.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use super::cache_key::CacheKey;
use crate::clock::Timestamp;

/// Keys that were revoked or deleted within the longest lifetime of a token, and replaced keys with the time at which they count as
/// revoked. Bounded: when a key does not fit, the status of every key
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
    /// It was revoked or deleted, or is past its time to be revoked.
    Revoked,
    /// It was not, as of the last change that was applied.
    Active,
    /// The set may lack it: its record must be looked up.
    Unknown,
}

#[derive(Debug, Default)]
struct Table {
    /// When each key was revoked; in the future for a replaced key that is still valid.
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

    /// Adds a key that was revoked or deleted at `time`. The revocation is in effect at once: `time` is from another clock, which may be ahead.
    pub fn add(&self, key: CacheKey, time: Timestamp, now: Timestamp) {
        self.insert(key, time.min(now), now);
    }

    /// Adds a key that counts as revoked from `time` on.
    pub fn add_later(&self, key: CacheKey, time: Timestamp, now: Timestamp) {
        self.insert(key, time, now);
    }

    fn insert(&self, key: CacheKey, time: Timestamp, now: Timestamp) {
        let horizon = self.horizon(now);
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = table.times.get_mut(&key) {
            // A change that arrives late does not postpone a revocation.
            *known = if *known <= now && time <= now { time.max(*known) } else { time.min(*known) };
            return;
        }
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
        if table.times.get(key).is_some_and(|time| *time <= now) {
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
    fn replaced_key_is_revoked_at_its_time_and_never_later() {
        let revoked = RevokedParents::new(Duration::from_secs(100), 9);
        revoked.add_later(key(1), at(50), at(0));
        assert_eq!(revoked.status(&key(1), at(49)), ParentStatus::Active);
        assert_eq!(revoked.status(&key(1), at(50)), ParentStatus::Revoked);
        revoked.add(key(1), at(20), at(20));
        revoked.add_later(key(1), at(50), at(21));
        assert_eq!(revoked.status(&key(1), at(21)), ParentStatus::Revoked, "it was revoked before its time");
    }

    #[test]
    fn revocation_by_a_clock_that_is_ahead_is_in_effect_at_once() {
        let revoked = RevokedParents::new(Duration::from_secs(100), 9);
        revoked.add(key(1), at(5), at(0));
        assert_eq!(revoked.status(&key(1), at(0)), ParentStatus::Revoked);
    }

    #[test]
    fn second_deletion_of_a_key_is_kept_as_long_as_its_tokens_live() {
        let revoked = RevokedParents::new(Duration::from_secs(100), 1);
        revoked.add(key(1), at(0), at(0));
        revoked.add(key(1), at(90), at(90));
        revoked.add(key(2), at(120), at(120));
        assert_eq!(revoked.status(&key(1), at(120)), ParentStatus::Revoked);
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
