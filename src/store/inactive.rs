//! Counts of inactive keys: the query and its result.

#[cfg(any(feature = "sqlite", feature = "postgres"))]
use super::search::SearchQuery;
use crate::clock::Timestamp;
use crate::id::{KeyKind, TenantId};
use crate::key::{ApiKey, EffectiveStatus, KeySearch};
use crate::request_context::ActorScope;

/// Which keys of one kind are counted.
#[derive(Debug, Clone, Copy)]
pub struct InactiveQuery<'a> {
    /// The tenant of the keys.
    pub tenant: TenantId,
    /// The kind of the keys; that of the search is ignored.
    pub kind: KeyKind,
    /// The conditions; the status is ignored.
    pub search: &'a KeySearch,
    /// No keys whose name begins with this text.
    pub not_name_prefix: Option<&'a str>,
    /// No keys whose actor begins with this text.
    pub not_actor_prefix: Option<&'a str>,
    /// Only keys of these actors.
    pub actors: &'a ActorScope,
    /// The time at which a key counts as revoked or expired.
    pub now: Timestamp,
}

/// A number of inactive keys.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InactiveCount {
    /// The keys that were counted.
    pub count: u64,
    /// Whether these are all. A count reads a bounded number of keys.
    pub is_complete: bool,
}

/// The indexes that a count reads.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(super) enum CountedBy {
    /// Those of inactive keys. `needs_rows` is whether a condition needs columns that are not in them.
    Status { needs_rows: bool },
    /// That of ids.
    KeyId,
    /// That of names.
    Name,
    /// That of actors.
    Actor,
}

impl InactiveQuery<'_> {
    /// The conditions, without those that are ignored.
    pub(super) fn conditions(&self) -> KeySearch {
        KeySearch { kind: None, state: None, ..self.search.clone() }
    }

    /// The query for all keys that meet the conditions.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(super) fn keys<'a>(&'a self, conditions: &'a KeySearch) -> SearchQuery<'a> {
        let Self { tenant, kind, actors, now, .. } = *self;
        SearchQuery { tenant, kind, search: conditions, actors, after: None, limit: u32::MAX, now }
    }

    /// Whether a key of the tenant and the kind is counted.
    pub(super) fn matches(&self, key: &ApiKey) -> bool {
        key.effective_status(self.now) != EffectiveStatus::Active
            && self.conditions().matches(key, self.now)
            && self.actors.allows(&key.actor_id)
            && self.not_name_prefix.is_none_or(|prefix| !key.name.starts_with(prefix))
            && self.not_actor_prefix.is_none_or(|prefix| !key.actor_id.starts_with(prefix))
    }

    /// The indexes that probably have the fewest keys.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(super) fn counted_by(&self) -> CountedBy {
        let search = self.search;
        if search.key_id_prefix.is_some() {
            CountedBy::KeyId
        } else if search.name_prefix.is_some() {
            CountedBy::Name
        } else if search.actor_prefix.is_some() || self.actors.prefixes().is_some() {
            CountedBy::Actor
        } else {
            let needs_rows = search.scope.is_some()
                || search.unused_since.is_some()
                || search.never_used
                || self.not_name_prefix.is_some()
                || self.not_actor_prefix.is_some();
            CountedBy::Status { needs_rows }
        }
    }
}

impl InactiveCount {
    /// The sum of counts of different keys, each with whether it is complete.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(super) fn sum(counts: impl IntoIterator<Item = (i64, bool)>) -> Self {
        let none = Self { count: 0, is_complete: true };
        counts.into_iter().fold(none, |sum, (count, is_complete)| {
            sum.and(Self { count: u64::try_from(count).unwrap_or_default(), is_complete })
        })
    }

    /// The sum with a count of other keys.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { count: self.count + other.count, is_complete: self.is_complete && other.is_complete }
    }
}
