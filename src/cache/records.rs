//! The map of records: what it finds them by, and what a record takes of the memory of the process. Rather too much than too
//! little: the bound is for the process.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, Equivalent, OptionsBuilder, Weighter};

use super::{CacheKey, Held};
use crate::key::CachedKey;

/// Of a record in the map: its places in the table and in the list, with the room that both keep for more, and its share of the
/// ghosts. From `benches/records.rs`, in bytes.
const ENTRY: u64 = 88;
/// Of a small record with its entry: how many fit at the most, for a first guess.
const SMALL: u64 = 256;
/// A part of the map has so much room at least, so that the largest record fits: metadata, scopes and ranges of a key have 200 KiB
/// at the most.
const SHARD_MIN: u64 = 1 << 20;
/// Enough that two requests rarely meet at one lock, and that a part is soon copied when it grows.
const SHARDS_MAX: u64 = 256;
/// Records that made room and are still known to have been there, so that they are held longer when they come back; a part of all
/// that fit.
const GHOSTS: f64 = 0.25;

/// The records by their ids.
pub(super) type Records = Cache<ById, Held, Weigh, DefaultHashBuilder, DefaultLifecycle<ById, Held>>;

/// A record as it is found: the id is not held twice.
pub(super) struct ById(pub(super) Arc<CachedKey>);

/// Weighs records.
#[derive(Clone)]
pub(super) struct Weigh;

impl ById {
    fn key(&self) -> CacheKey {
        (self.0.tenant(), self.0.id())
    }
}

impl Hash for ById {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl PartialEq for ById {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for ById {}

impl Equivalent<ById> for CacheKey {
    fn equivalent(&self, held: &ById) -> bool {
        *self == held.key()
    }
}

impl Weighter<ById, Held> for Weigh {
    fn weight(&self, _: &ById, held: &Held) -> u64 {
        ENTRY + u64::from(held.record.size())
    }
}

/// An empty map of at most `max_bytes`. A record that does not fit into a part is not kept.
pub(super) fn records(max_bytes: u64) -> Records {
    let shards = (max_bytes / SHARD_MIN).clamp(1, SHARDS_MAX);
    // Rounded down, so that no part is smaller.
    let shards = 1 << shards.ilog2();
    let options = OptionsBuilder::new()
        .shards(shards)
        .weight_capacity(max_bytes)
        .estimated_items_capacity(usize::try_from(max_bytes / SMALL).unwrap_or(usize::MAX))
        .ghost_allocation(GHOSTS)
        .build()
        .expect("both capacities are given");
    Cache::with_options(options, Weigh, DefaultHashBuilder::default(), DefaultLifecycle::default())
}
