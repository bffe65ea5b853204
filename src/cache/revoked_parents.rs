//! Keys that were revoked or deleted lately: tokens derived from them need no lookup to be refused.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use super::CacheKey;
use crate::clock::Timestamp;

/// Keys that revoked within the longest life of a token. Bounded: what does not fit makes every answer about other keys
/// [`ParentStatus::Unknown`], never a wrong one.
#[derive(Debug)]
pub struct RevokedParents {
    longest_life: Duration,
    max: usize,
    table: RwLock<Table>,
}

/// Whether a key has revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParentStatus {
    /// It was revoked or deleted.
    Revoked,
    /// It was not, as far as this process has heard.
    Active,
    /// More keys have revoked than are remembered; its record tells.
    Unknown,
}

#[derive(Debug, Default)]
struct Table {
    times: HashMap<CacheKey, Timestamp>,
    /// Until when something that revoked may be missing.
    incomplete_until: Option<Timestamp>,
}

impl RevokedParents {
    /// A set for tokens that live `longest_life` at the most, of `max` keys at the most.
    pub fn new(longest_life: Duration, max: usize) -> Self {
        Self { longest_life, max, table: RwLock::default() }
    }

    /// From when on a key must have revoked for its tokens to be alive at `now`.
    pub fn horizon(&self, now: Timestamp) -> Timestamp {
        now.checked_sub_signed(chrono::TimeDelta::from_std(self.longest_life).unwrap_or(chrono::TimeDelta::MAX))
            .unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// How many keys are remembered at the most.
    pub fn max(&self) -> usize {
        self.max
    }

    /// Remembers that a key revoked at `time`.
    pub fn add(&self, key: CacheKey, time: Timestamp, now: Timestamp) {
        let horizon = self.horizon(now);
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        if table.times.len() >= self.max {
            table.times.retain(|_, revoked| *revoked >= horizon);
        }
        if table.times.len() < self.max {
            table.times.insert(key, time);
            return;
        }
        if table.incomplete_until.is_none() {
            tracing::warn!(
                max = self.max,
                "more keys have revoked than are remembered; parents of tokens are looked up"
            );
        }
        let forgettable = time.checked_add_signed(now - horizon).unwrap_or(Timestamp::MAX_UTC);
        table.incomplete_until = table.incomplete_until.max(Some(forgettable));
    }

    /// Whether a key has revoked.
    pub fn ask(&self, key: &CacheKey, now: Timestamp) -> ParentStatus {
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
    fn what_ended_is_known_and_what_does_not_fit_is_never_denied() {
        let revoked = RevokedParents::new(Duration::from_secs(100), 2);
        assert_eq!(revoked.ask(&key(1), at(0)), ParentStatus::Active);
        revoked.add(key(1), at(0), at(0));
        revoked.add(key(2), at(10), at(10));
        assert_eq!(
            (revoked.ask(&key(1), at(10)), revoked.ask(&key(3), at(10))),
            (ParentStatus::Revoked, ParentStatus::Active)
        );
        revoked.add(key(3), at(20), at(20));
        assert_eq!(
            (revoked.ask(&key(3), at(20)), revoked.ask(&key(2), at(20))),
            (ParentStatus::Unknown, ParentStatus::Revoked)
        );
        assert_eq!(revoked.ask(&key(4), at(121)), ParentStatus::Active, "its tokens have revoked with it");
    }

    #[test]
    fn what_ended_long_ago_makes_room() {
        let revoked = RevokedParents::new(Duration::from_secs(100), 1);
        revoked.add(key(1), at(0), at(0));
        revoked.add(key(2), at(101), at(101));
        assert_eq!(
            (revoked.ask(&key(1), at(101)), revoked.ask(&key(2), at(101))),
            (ParentStatus::Active, ParentStatus::Revoked)
        );
    }
}
