//! Caches of key records. What is cached is the record of a key, never a verdict: every request judges the record again. This module
//! depends neither on the store nor on what a record means.
//!
//! Invariant: once [`Caches::apply`] has returned, no lookup that starts afterwards gets an older record, however long a read that
//! started before may still take.

mod cache_key;
mod caches;
mod changes;
mod connection_hint;
mod freshness;
mod key_cache;
mod min_versions;
mod records;
mod refusals;
mod revoked_parents;
mod shared;
mod singleflight;

pub use cache_key::CacheKey;
pub use caches::{CacheTimes, Caches, Invalidation, InvalidationKind};
pub use changes::{ChangeSubscriber, KeyChanges};
pub use connection_hint::ConnectionHint;
pub use freshness::{Freshness, OnDatabaseDown, Trust};
pub use key_cache::{CacheEntry, KeyCache, Loaded, Source};
pub use revoked_parents::{ParentStatus, RevokedParents};
#[cfg(feature = "redis")]
pub use shared::RedisStorage;
pub use shared::{EntryTimes, FoundEntry, SharedCache, SharedEntry, SharedStorage};

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
