//! What the shared cache stores, and where.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::cache::CacheKey;
use crate::key::ApiKey;

/// An entry of the shared cache.
#[derive(Debug, Clone, PartialEq)]
pub enum SharedEntry {
    /// The record of a key.
    Key(Arc<ApiKey>),
    /// A tombstone: the key was deleted. Its version is one above the last version of the key.
    Deleted(u64),
}

/// An entry as it was found.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundEntry {
    /// The entry.
    pub entry: SharedEntry,
    /// The time since the entry was read from the store, by whichever node, as the clock of the storage measured it.
    pub age: Duration,
}

/// The times of an entry when it is stored.
#[derive(Debug, Clone, Copy)]
pub struct EntryTimes {
    /// The time since the entry was read from the store.
    pub age: Duration,
    /// For how long it is stored.
    pub life: Duration,
}

/// Storage for entries outside of this process. It may lose entries at any time.
#[async_trait]
pub trait SharedStorage: Send + Sync {
    /// The entry of a key; `None` also after a failure, or for an entry that cannot be decoded.
    async fn get(&self, key: CacheKey) -> Option<FoundEntry>;

    /// Stores an entry unless a newer one is stored, atomically.
    async fn put(&self, key: CacheKey, entry: &SharedEntry, times: EntryTimes);
}

impl SharedEntry {
    /// The version of the record or tombstone.
    pub fn version(&self) -> u64 {
        match self {
            Self::Key(key) => key.version,
            Self::Deleted(version) => *version,
        }
    }

    /// The record, if there is one.
    pub fn record(self) -> Option<Arc<ApiKey>> {
        match self {
            Self::Key(key) => Some(key),
            Self::Deleted(_) => None,
        }
    }
}
