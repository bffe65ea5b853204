//! Test helpers: servers, clocks, limits, and a bucket store in memory.

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use super::gcra::{self, Tat};
use super::{BucketOwner, BucketStore, ChargeRequest, ChargeResponse, Limit, Micros, NamedLimit, Unavailable};
use crate::clock::{Clock, ManualClock, Timestamp};
use crate::id::{KeyId, TenantId};

#[cfg(feature = "redis")]
pub(super) use crate::test_servers::eventually;

/// A Redis server, the connection to it, and its runtime.
#[cfg(feature = "redis")]
pub(super) struct RedisServer {
    pub(super) runtime: tokio::runtime::Runtime,
    pub(super) redis: Arc<crate::redis::Redis>,
    pub(super) server: crate::test_servers::Redis,
}

#[cfg(feature = "redis")]
impl RedisServer {
    /// Starts a server and connects.
    pub(super) fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server with more options and connects.
    pub(super) fn start_with(options: &[&str]) -> Self {
        let server = crate::test_servers::Redis::start_with(options);
        let timeout = crate::duration::ConfigDuration(Duration::from_secs(10));
        let config = crate::config::RedisConfig { addrs: vec![server.address()], timeout, ..Default::default() };
        let redis = Arc::new(crate::redis::Redis::new(&config).unwrap());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let connection = Arc::clone(&redis);
        runtime.spawn(async move { connection.keep_connected().await });
        runtime.block_on(redis.connected(Duration::from_secs(10)));
        Self { runtime, redis, server }
    }
}

/// A clock that moves only by calls.
pub(super) fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(Timestamp::from_timestamp(1_800_000_000, 0).unwrap()))
}

/// The owner with this number.
pub(super) fn owner(number: u128) -> BucketOwner {
    BucketOwner::Key(TenantId::NIL, KeyId::Issued(Uuid::from_u128(number)))
}

/// A limit with this name.
pub(super) fn named(name: &str, quota: u64, window: Duration) -> NamedLimit {
    NamedLimit { name: name.into(), limit: Limit::new(NonZeroU64::new(quota).unwrap(), window) }
}

/// A bucket store in memory that can be switched off.
pub(super) struct MemoryBucketStore {
    clock: Arc<dyn Clock>,
    buckets: Mutex<HashMap<(BucketOwner, Arc<str>), Tat>>,
    pub(super) is_down: AtomicBool,
    pub(super) calls: AtomicUsize,
}

impl MemoryBucketStore {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, buckets: Mutex::default(), is_down: AtomicBool::default(), calls: AtomicUsize::default() }
    }

    fn call(&self) -> Result<Micros, Unavailable> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let down = self.is_down.load(Ordering::Relaxed);
        if down { Err(Unavailable("it is switched off".into())) } else { Ok(Micros::of(self.clock.now())) }
    }
}

#[async_trait]
impl BucketStore for MemoryBucketStore {
    async fn charge(&self, request: &ChargeRequest<'_>) -> Result<ChargeResponse, Unavailable> {
        let now = self.call()?;
        // Other tasks run, as while a caller waits for a server.
        tokio::task::yield_now().await;
        let charge = request.charge;
        let mut buckets = self.buckets.lock().unwrap();
        let name = |named: &NamedLimit| (charge.owner, Arc::clone(&named.name));
        let mut tats: Vec<_> =
            charge.limits.iter().map(|named| buckets.get(&name(named)).copied().unwrap_or_default()).collect();
        let decision = gcra::charge(&mut tats, charge.each_limit(), now, charge.cost);
        let mut leased = Vec::new();
        for (index, (named, tat)) in charge.limits.iter().zip(&mut tats).enumerate() {
            let mut count = 0;
            for bit in (0..request.lease_bits_of(index)).rev().filter(|_| decision.admitted) {
                if let Ok(next) = tat.take(now, &named.limit, 1 << bit) {
                    *tat = next;
                    count += 1 << bit;
                }
            }
            leased.push(count);
            buckets.insert(name(named), *tat);
        }
        Ok(ChargeResponse { decision, leased })
    }

    async fn refund(&self, owner: BucketOwner, unused: &[(NamedLimit, u64)]) -> Result<(), Unavailable> {
        let now = self.call()?;
        let mut buckets = self.buckets.lock().unwrap();
        for (named, count) in unused {
            if let Some(tat) = buckets.get_mut(&(owner, Arc::clone(&named.name))) {
                *tat = tat.earlier(named.limit.increment(*count));
            }
        }
        buckets.retain(|_, tat| *tat >= Tat::full(now));
        Ok(())
    }
}
