//! Counts requests against limits and decides which are too many. Knows no credential, no header and no server.
//!
//! [`gcra`] is the arithmetic. It is done on buckets in this process ([`Local`]), or on buckets in Redis, one script for each
//! request ([`Exact`]), or on slices that this node leases from there ([`Leased`]). [`Limiter`] is what the fronts ask: it
//! also knows what becomes of requests when Redis is away.

pub mod gcra;
mod leased;
mod ledger;
mod limiter;
mod local;
mod metrics;
mod nodes;
#[cfg(feature = "redis")]
mod redis;
#[cfg(test)]
mod testing;

#[cfg(feature = "redis")]
pub use self::redis::RedisLedger;
pub use gcra::{Decision, Limit, Micros, Outcome, Outcomes};
pub use leased::{Leased, Leasing};
pub use ledger::{ChargeRequest, ChargeResponse, Exact, Ledger};
pub use limiter::{ChargeResult, ChargeResults, Limiter};
pub use local::Local;
pub use metrics::Metrics;
pub use nodes::Nodes;

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use sha2::{Digest, Sha256};

use crate::id::{KeyId, TenantId};
use crate::policy::RateLimitPolicy;

/// Whose buckets. All buckets of an owner are charged in one step; a Redis Cluster keeps them in one slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BucketOwner {
    /// A key, with its derived tokens.
    Key(TenantId, KeyId),
    /// All keys of an actor, known by the beginning of the SHA-256 of the actor's id.
    Actor(TenantId, [u8; 16]),
    /// All keys of a tenant.
    Tenant(TenantId),
    /// Everybody at a client address.
    Address(TenantId, IpAddr),
}

/// A limit with the name that its headers, and its bucket among those of the owner, go by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedLimit {
    /// The name, once in a request.
    pub name: Arc<str>,
    /// What is allowed.
    pub limit: Limit,
}

/// What is to be charged.
#[derive(Debug, Clone, Copy)]
pub struct Charge<'a> {
    /// Whose buckets.
    pub owner: BucketOwner,
    /// The buckets: charged all or not at all.
    pub limits: &'a [NamedLimit],
    /// How many plain requests this one is worth; 0 only looks.
    pub cost: u64,
}

/// Nothing can be counted now. The text says why, for operators.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("requests cannot be counted: {0}")]
pub struct Unavailable(pub String);

/// Where requests are counted.
#[async_trait]
pub trait Backend: Send + Sync {
    /// Charges a request to all its buckets, or to none.
    ///
    /// # Errors
    /// [`Unavailable`] when that is not known to have been done.
    async fn charge(&self, request: &Charge<'_>) -> Result<Decision, Unavailable>;

    /// Takes an admitted request back, because another owner's limits refused it. What cannot be given back comes back with
    /// time.
    async fn refund(&self, request: &Charge<'_>);
}

impl NamedLimit {
    /// The limit that a key itself has, by the name that it has everywhere.
    pub fn of_key(policy: RateLimitPolicy) -> Self {
        static NAME: LazyLock<Arc<str>> = LazyLock::new(|| "default".into());
        Self { name: Arc::clone(&NAME), limit: policy.into() }
    }
}

impl BucketOwner {
    /// The owner of all keys of an actor.
    pub fn actor(tenant: TenantId, actor_id: &str) -> Self {
        let digest: [u8; 32] = Sha256::digest(actor_id).into();
        let mut name = [0; 16];
        name.copy_from_slice(&digest[..16]);
        Self::Actor(tenant, name)
    }
}

impl Charge<'_> {
    fn each_limit(&self) -> impl Iterator<Item = &Limit> + Clone {
        self.limits.iter().map(|named| &named.limit)
    }
}
