//! The read side: verifies presented credentials. Knows neither HTTP nor the fronts.

mod denial;
mod lookup_throttle;
mod metrics;
mod proof_cache;
mod resolver;
mod verdict;
mod verification;
mod verify;
mod weight;

pub use denial::{Denial, Outage, UnknownReason};
pub use lookup_throttle::{Batcher, LookupThrottle, LookupThrottleMetrics, LookupThrottleSettings, lookup_throttle};
pub use metrics::Metrics;
pub use proof_cache::{ConnectionMemory, ProofCacheSettings, VerifiedBy};
pub use resolver::{CacheOutcome, CachePolicy, KeyResolver, Lookup};
pub use verdict::Verdict;
pub use verification::{PendingVerification, Presented, Verification};
pub use verify::{Settings, Verifier};
