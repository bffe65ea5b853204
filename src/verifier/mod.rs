//! The read side: verifies presented credentials. Knows neither HTTP nor the fronts.

mod connection_memory;
mod denial;
mod explain;
mod lookup_throttle;
mod metrics;
mod proof_cache;
mod resolver;
mod thread_memory;
mod verdict;
mod verification;
mod verify;
mod weight;

pub use connection_memory::ConnectionMemory;
pub use denial::{Denial, Outage, UnknownReason};
#[doc(hidden)]
pub use explain::VerificationSteps;
#[doc(hidden)]
pub use lookup_throttle::{Batcher, LookupThrottle, LookupThrottleMetrics, LookupThrottleSettings, lookup_throttle};
pub use metrics::Metrics;
#[doc(hidden)]
pub use proof_cache::ProofCacheSettings;
pub use proof_cache::VerifiedBy;
pub use resolver::{CacheOutcome, CachePolicy};
#[doc(hidden)]
pub use resolver::{KeyResolver, Lookup};
pub use verdict::Verdict;
pub use verification::{PendingVerification, Presented, Verification};
#[doc(hidden)]
pub use verify::Settings;
pub use verify::Verifier;

pub use crate::credential::CredentialKind;
