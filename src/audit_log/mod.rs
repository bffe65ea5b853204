//! The background work of the audit trail: rows are sealed within a second of their commit, chains are tied together by a
//! checkpoint each minute, old rows are removed up to an anchor, refused calls and
//! failed verifications are counted and recorded. And the verification
//! of a stored trail.

mod checkpoint;
mod counter;
mod gathered;
mod latest;
mod metrics;
mod output;
mod refused;
mod retention;
mod sealer;
mod verifications;
mod verify;
mod worker;

pub use gathered::GatheredCalls;
pub use latest::{LatestRows, verify_latest};
pub use metrics::Metrics;
pub use output::Output;
pub use refused::{RefusedCall, RefusedCalls};
pub use verifications::VerificationFailures;
pub use verify::{Verification, verify};
pub use worker::{Settings, Worker};

#[cfg(test)]
mod tests;
