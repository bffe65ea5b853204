//! Counts failed verifications of credentials by client, reason and minute.

use std::net::IpAddr;

use super::counter::{Counter, client_network, count_call, first_call};
use crate::audit::{FailedVerifications, VerificationFailure};
use crate::clock::Timestamp;
use crate::request_context::RequestContext;

/// Maximum number of groups that are counted apart in a minute. With the row of all others, a minute has ten rows (contract, operations
/// section 7).
const GROUPS_MAX: usize = 9;

/// What is counted apart: address, principal and failure.
type Group = (IpAddr, String, VerificationFailure);

/// The verifications since the last row.
pub struct VerificationFailures(Counter<Group, FailedVerifications>);

impl Default for VerificationFailures {
    fn default() -> Self {
        Self(Counter::new(GROUPS_MAX))
    }
}

impl VerificationFailures {
    /// Counts a failed verification. `context` says who asked for it.
    pub fn note(&self, context: &RequestContext, failure: VerificationFailure, time: Timestamp) {
        let group = client_network(context).map(|address| (address, context.principal.name().into_owned(), failure));
        let first = |group: Option<Group>| FailedVerifications {
            calls: first_call(context, group.as_ref().map(|(address, ..)| *address), time),
            failure: group.map(|(.., failure)| failure),
        };
        self.0.note(group, first, |failed| count_call(&mut failed.calls, time));
    }

    /// Takes what was counted.
    pub fn take(&self) -> Vec<FailedVerifications> {
        self.0.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{KeyId, TenantId};

    #[test]
    fn failures_are_counted_by_reason_and_key_in_ten_rows_at_most() {
        let failures = VerificationFailures::default();
        let context = RequestContext { client_ip: "192.0.2.1".parse().ok(), ..RequestContext::system(TenantId::NIL) };
        for number in 0..1000_u128 {
            let key = Some(KeyId::Issued(uuid::Uuid::from_u128(number % 20)));
            let failure = VerificationFailure { reason: "revoked", credential_type: "issued", key };
            failures.note(&context, failure, Timestamp::UNIX_EPOCH);
        }
        let taken = failures.take();
        assert_eq!(taken.len(), 10);
        assert_eq!(taken.iter().map(|failed| failed.calls.count).sum::<u64>(), 1000, "every failure is counted");
        let rest = taken.iter().find(|failed| failed.failure.is_none()).unwrap();
        assert_eq!((rest.calls.count, rest.calls.client_ip), (550, None));
        assert!(taken.iter().all(|failed| failed.failure.is_none() || failed.calls.count == 50), "{taken:?}");
        assert!(failures.take().is_empty());
    }
}
