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
pub use gcra::{Decision, Limit, Micros, Outcome};
pub use leased::{Leased, Leasing};
pub use ledger::{Exact, Ledger, Order, Receipt};
pub use limiter::{Answer, Limiter};
pub use local::Local;
pub use metrics::Metrics;
pub use nodes::Nodes;

use std::sync::Arc;

use async_trait::async_trait;

use crate::id::{KeyId, TenantId};

/// Whose buckets a request is charged to. All buckets of a request have one owner, because a Redis Cluster charges in one step
/// only what lies in one slot. So a bucket that several keys draw on is the tenant's, and so are then all others of the
/// request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Owner {
    /// A key.
    Key(TenantId, KeyId),
    /// All keys of a tenant.
    Tenant(TenantId),
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
pub struct Request<'a> {
    /// Whose buckets.
    pub owner: Owner,
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
    async fn charge(&self, request: &Request<'_>) -> Result<Decision, Unavailable>;
}

impl Request<'_> {
    fn each_limit(&self) -> impl Iterator<Item = &Limit> + Clone {
        self.limits.iter().map(|named| &named.limit)
    }
}
