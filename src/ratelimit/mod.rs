//! Rate limiting: counts requests against limits and rejects those above. Independent of credentials, headers and servers.
//!
//! [`gcra`] is the algorithm. It runs on buckets in this process ([`Local`]), on buckets in Redis with one script call for each
//! request ([`Exact`]), or on leases that this node takes from the buckets in Redis ([`Leased`]). The fronts call [`Limiter`],
//! which also handles an unavailable Redis.

mod address_budget;
mod bucket_store;
pub mod gcra;
mod leased;
mod limiter;
mod local;
mod metrics;
mod nodes;
#[cfg(feature = "redis")]
mod redis;
#[cfg(test)]
mod testing;

#[cfg(feature = "redis")]
pub use self::redis::RedisBucketStore;
pub use address_budget::AddressBudget;
pub use bucket_store::{BucketStore, ChargeRequest, ChargeResponse, Exact};
pub use gcra::{Decision, Limit, Micros, Outcome, Outcomes};
pub use leased::{LeaseWorker, Leased};
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

/// The owner of a set of buckets. They are charged in one step and are in one slot of a Redis Cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BucketOwner {
    /// A key and its derived tokens.
    Key(TenantId, KeyId),
    /// All keys of an actor, identified by the first 16 bytes of the SHA-256 of the actor's id.
    Actor(TenantId, [u8; 16]),
    /// All keys of a tenant.
    Tenant(TenantId),
    /// All clients at an address.
    Address(TenantId, IpAddr),
}

/// A limit and its name. The name is used in response headers and identifies the bucket among those of the owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedLimit {
    /// The name, unique among the limits of a request.
    pub name: Arc<str>,
    /// The quota and the window.
    pub limit: Limit,
}

/// A request to be charged to the buckets of one owner.
#[derive(Debug, Clone, Copy)]
pub struct Charge<'a> {
    /// The owner of the buckets.
    pub owner: BucketOwner,
    /// The limits, one bucket each. Either all of them are charged or none.
    pub limits: &'a [NamedLimit],
    /// The cost in requests. 0 reads the buckets.
    pub cost: u64,
}

/// The backend cannot count now. The text is the cause, for operators.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("requests cannot be counted: {0}")]
pub struct Unavailable(pub String);

/// Counts requests.
#[async_trait]
pub trait Backend: Send + Sync {
    /// Charges a request to all its buckets, or to none.
    ///
    /// # Errors
    /// [`Unavailable`] if the result is not known.
    async fn charge(&self, charge: &Charge<'_>) -> Result<Decision, Unavailable>;

    /// Refunds an admitted request that the limits of another owner reject. If the refund fails, the buckets refill with time.
    async fn refund(&self, charge: &Charge<'_>);
}

impl NamedLimit {
    /// A key's own limit, named `default`.
    pub fn of_key(policy: RateLimitPolicy) -> Self {
        static NAME: LazyLock<Arc<str>> = LazyLock::new(|| "default".into());
        Self { name: Arc::clone(&NAME), limit: policy.into() }
    }
}

impl BucketOwner {
    /// The owner for all keys of an actor.
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
