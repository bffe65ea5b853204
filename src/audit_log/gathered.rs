//! What is counted between two rows.

use super::refused::RefusedCalls;
use super::verifications::VerificationFailures;

/// The calls of the admin API that share rows.
#[derive(Default)]
pub struct GatheredCalls {
    /// Refused calls.
    pub refused: RefusedCalls,
    /// Failed verifications.
    pub failed_verifications: VerificationFailures,
}
