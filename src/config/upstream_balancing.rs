//! `gateway.upstreams.*`: load balancing, name resolution, retries, connection pool and ejection.

use std::time::Duration;

use http::HeaderName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::problems::Problems;
use crate::duration::ConfigDuration;

/// The largest number of retries.
const MAX_ATTEMPTS: u32 = 10;

/// How an endpoint is selected for a request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LoadBalancingConfig {
    /// The policy.
    pub policy: BalancingPolicy,
    /// What `consistent_hash` hashes.
    pub hash_by: HashBy,
    /// The header for `hash_by: header`.
    pub header: Option<String>,
}

/// A load balancing policy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BalancingPolicy {
    /// The endpoints in turn, by weight.
    #[default]
    RoundRobin,
    /// The endpoint with the fewest requests in flight in relation to its weight.
    LeastRequests,
    /// The same endpoint for the same key (ketama), so that few keys move when endpoints come and go.
    ConsistentHash,
}

/// What `consistent_hash` hashes. Requests that lack it are hashed by the client's address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HashBy {
    /// The id of the key.
    #[default]
    Key,
    /// The id of the key's actor.
    Actor,
    /// The id of the key's tenant.
    Tenant,
    /// The client's address.
    Address,
    /// The value of a request header.
    Header,
}

/// How the names of endpoints are resolved.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DnsConfig {
    /// How often names are resolved again.
    pub refresh: ConfigDuration,
    /// How long the addresses of a name are used after the last successful resolution.
    pub max_stale: ConfigDuration,
}

/// When a failed request is sent again.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RetriesConfig {
    /// How often a request is sent again at most. Connections that cannot be established do not count.
    #[schemars(range(max = 10))]
    pub attempts: u32,
    /// Maximum retries as percentage of the requests of the last ten seconds. 100 retries in ten seconds are always allowed.
    #[schemars(range(max = 100))]
    pub budget_percent: u32,
    /// Which requests with a method that is not idempotent (POST, PATCH) are sent again after they were sent.
    pub non_idempotent: NonIdempotentRetries,
}

/// Which requests with a method that is not idempotent are sent again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NonIdempotentRetries {
    /// None.
    #[default]
    Never,
    /// Those whose connection was closed before any byte of the response. The upstream may have processed the request.
    Unanswered,
}

/// Idle connections and requests in flight.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PoolConfig {
    /// How long an idle connection is kept. Shorter than the idle timeout of the upstream, or requests meet closed connections.
    pub idle_timeout: ConfigDuration,
    /// Maximum requests in flight of each endpoint; unlimited when absent.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_requests: Option<u32>,
    /// Maximum requests that wait because all endpoints have `max_requests` in flight.
    #[schemars(range(max = 1_000_000))]
    pub max_waiting: u32,
    /// How long a request waits.
    pub wait_timeout: ConfigDuration,
    /// How long requests may wait for a longer time. If all that get their turn within ten times of this have waited longer, the queue does
    /// not drain: from then on no request waits longer than this, or than twice of it if its key is in the cache. If absent, there is no
    /// such limit.
    pub wait_target: Option<ConfigDuration>,
}

/// When an endpoint that fails gets no requests for some time.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EjectionConfig {
    /// Number of consecutive failures after which an endpoint is ejected.
    #[schemars(range(min = 1, max = 1_000))]
    pub consecutive_failures: u32,
    /// How long an endpoint is ejected the first time. The time doubles each time it fails again soon after its return.
    pub time: ConfigDuration,
    /// The longest time of an ejection.
    pub max_time: ConfigDuration,
    /// Maximum percentage of endpoints that are ejected at the same time; 0 for no ejection. The last endpoint is never ejected.
    #[schemars(range(max = 100))]
    pub max_percent: u32,
}

const fn seconds(seconds: u64) -> ConfigDuration {
    ConfigDuration(Duration::from_secs(seconds))
}

impl Default for DnsConfig {
    fn default() -> Self {
        Self { refresh: seconds(10), max_stale: seconds(300) }
    }
}

impl Default for RetriesConfig {
    fn default() -> Self {
        Self { attempts: 1, budget_percent: 20, non_idempotent: NonIdempotentRetries::default() }
    }
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            idle_timeout: seconds(50),
            max_requests: None,
            max_waiting: 100,
            wait_timeout: seconds(1),
            wait_target: None,
        }
    }
}

impl Default for EjectionConfig {
    fn default() -> Self {
        Self { consecutive_failures: 3, time: seconds(10), max_time: seconds(300), max_percent: 50 }
    }
}

impl LoadBalancingConfig {
    pub(super) fn validate(&self, path: &str, problems: &mut Problems) {
        let is_name = |name: &str| HeaderName::try_from(name).is_ok();
        match &self.header {
            None if self.hash_by == HashBy::Header => {
                problems.add(&format!("{path}.header"), "is required: the name of the header for hash_by: header");
            }
            Some(name) if !is_name(name) => {
                problems.add(&format!("{path}.header"), "must be the name of a header, such as X-Session");
            }
            _ => {}
        }
    }
}

impl DnsConfig {
    pub(super) fn validate(&self, path: &str, problems: &mut Problems) {
        if self.refresh.0 < Duration::from_millis(100) {
            problems.add(&format!("{path}.refresh"), "must be at least 100ms");
        }
        if self.max_stale.0 < self.refresh.0 {
            problems.add(&format!("{path}.max_stale"), "must be at least dns.refresh");
        }
    }
}

impl RetriesConfig {
    pub(super) fn validate(&self, path: &str, problems: &mut Problems) {
        if self.attempts > MAX_ATTEMPTS {
            problems.add(&format!("{path}.attempts"), "must be 0 to 10");
        }
        if self.budget_percent > 100 {
            problems.add(&format!("{path}.budget_percent"), "must be 0 to 100");
        }
    }
}

impl PoolConfig {
    pub(super) fn validate(&self, path: &str, problems: &mut Problems) {
        if self.max_requests == Some(0) {
            problems.add(&format!("{path}.max_requests"), "must be at least 1; leave it out for no limit");
        }
        for (name, time) in [("idle_timeout", self.idle_timeout), ("wait_timeout", self.wait_timeout)] {
            if time.0.is_zero() {
                problems.add(&format!("{path}.{name}"), "must be longer than 0s");
            }
        }
        let target = self.wait_target.map(|target| target.0);
        if target.is_some_and(|target| target < Duration::from_millis(1) || target >= self.wait_timeout.0) {
            problems.add(&format!("{path}.wait_target"), "must be at least 1ms, and shorter than pool.wait_timeout");
        }
    }
}

impl EjectionConfig {
    pub(super) fn validate(&self, path: &str, problems: &mut Problems) {
        if self.consecutive_failures == 0 {
            problems.add(
                &format!("{path}.consecutive_failures"),
                "must be at least 1; set max_percent to 0 for no ejection",
            );
        }
        if self.time.0.is_zero() {
            problems.add(&format!("{path}.time"), "must be longer than 0s");
        }
        if self.max_time.0 < self.time.0 {
            problems.add(&format!("{path}.max_time"), "must be at least ejection.time");
        }
        if self.max_percent > 100 {
            problems.add(&format!("{path}.max_percent"), "must be 0 to 100");
        }
    }
}
