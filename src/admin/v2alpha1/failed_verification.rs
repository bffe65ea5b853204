//! Failed verifications, counted for the audit trail (contract, operations section 7).

use crate::admin::state::AdminState;
use crate::audit::VerificationFailure;
use crate::request_context::RequestContext;
use crate::verifier::{Denial, Verification};

/// Counts a verification that failed for a reason, unless Keygate could not decide.
pub(super) fn note_failure(
    reason: Option<&'static str>,
    credential: &str,
    verification: &Verification,
    (context, state): (&RequestContext, &AdminState),
) {
    let Some(reason) = reason else { return };
    let key = match &verification.outcome {
        // The limit of the key is exceeded.
        Ok(verdict) => Some(verdict.key_id()),
        Err(Denial::Unavailable { .. }) => return,
        Err(denial) if has_record(denial) => state.verifier.identify(context.tenant, credential).ok(),
        Err(_) => None,
    };
    let credential_type = state.verifier.kind(credential).name();
    let failure = VerificationFailure { reason, credential_type, key };
    state.gathered_calls.failed_verifications.note(context, failure, state.lifecycle.now());
}

/// Whether a denial is about a key whose record was found. Only its id is recorded: that of an unknown text could be the digest of a
/// password.
fn has_record(denial: &Denial) -> bool {
    match denial {
        Denial::Expired | Denial::Revoked | Denial::AddressNotAllowed { .. } | Denial::AudienceMismatch => true,
        Denial::Unknown(_) | Denial::SignatureInvalid | Denial::FormatInvalid | Denial::Unavailable { .. } => false,
    }
}
