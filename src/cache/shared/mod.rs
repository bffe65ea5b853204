//! The cache that all nodes share, behind the one in memory.
//!
//! Its entries may have been written by a node that has seen fewer changes than this one: an entry is used only if it is not older than
//! the last change of its key that was applied here. Of the last changes this node knows those within [`SharedCache::history`]; `MinVersions`
//! says why no outdated entry is used.

#[cfg(feature = "redis")]
mod record;
#[cfg(feature = "redis")]
mod redis;
mod shared_cache;
mod storage;

#[cfg(feature = "redis")]
pub use redis::RedisStorage;
pub use shared_cache::SharedCache;
pub use storage::{EntryTimes, FoundEntry, SharedEntry, SharedStorage};
