//! The rate-limit status of a key under its own limit (contract, admin API section 5.9 and operations section 10).

use http::HeaderMap;

use super::state::AdminState;
use crate::clock::Timestamp;
use crate::id::{KeyId, TenantId};
use crate::policy::RateLimitPolicy;
use crate::ratelimit::{BucketOwner, Charge, ChargeResult, NamedLimit, Outcome};
use crate::verifier::{Verdict, Verification};
use crate::wire::ratelimit::describe;

/// A key's limit, and its outcome for a verification.
#[derive(Default)]
pub(super) struct RateLimitStatus {
    limit: Option<NamedLimit>,
    outcome: Option<Outcome>,
}

impl RateLimitStatus {
    /// Charges the verification of a valid key to its limit. Derived tokens have no limit in the contract.
    pub(super) async fn charge(verification: &Verification, state: &AdminState) -> Self {
        let Ok(verdict) = &verification.outcome else {
            return Self::default();
        };
        match verdict.rate_limit() {
            Some(policy) => Self::charge_key(verdict, policy, state).await,
            None => Self::default(),
        }
    }

    /// Charges one use to the limit of the key behind a credential, if limits are enforced. If it cannot be counted, it is
    /// admitted.
    pub(super) async fn charge_key(verdict: &Verdict, policy: RateLimitPolicy, state: &AdminState) -> Self {
        let limit = NamedLimit::of_key(policy);
        let outcome = charge((verdict.tenant(), verdict.key_id()), &limit, 1, state).await;
        Self { limit: Some(limit), outcome }
    }

    /// Reads the limit of a key, if limits are enforced. Charges nothing.
    pub(super) async fn read(
        tenant: TenantId,
        key: KeyId,
        policy: RateLimitPolicy,
        state: &AdminState,
    ) -> Option<Outcome> {
        charge((tenant, key), &NamedLimit::of_key(policy), 0, state).await
    }

    /// Whether the verification was counted.
    pub(super) fn is_counted(&self) -> bool {
        self.outcome.is_some()
    }

    /// The remaining verifications.
    pub(super) fn remaining(&self) -> Option<i64> {
        self.outcome.map(|outcome| i64::try_from(outcome.remaining).unwrap_or(i64::MAX))
    }

    /// The time at which the whole quota is available again.
    pub(super) fn reset_time(&self, now: Timestamp) -> Option<Timestamp> {
        let reset = chrono::TimeDelta::from_std(self.outcome?.reset()).ok()?;
        now.checked_add_signed(reset)
    }

    /// Whether the verification exceeds the limit.
    pub(super) fn is_exceeded(&self) -> bool {
        self.outcome.is_some_and(|outcome| !outcome.admitted)
    }

    /// Sets the rate-limit headers. In this API, `Retry-After` is the time until the whole quota is available again.
    pub(super) fn describe(&self, headers: &mut HeaderMap) {
        let wait = self.outcome.filter(|outcome| !outcome.admitted).map(|outcome| outcome.reset());
        describe(headers, self.limit.as_slice(), self.outcome.as_slice(), wait);
    }
}

/// Charges a cost to the limit of a key; `None` if it cannot be counted or limits are not enforced.
async fn charge(
    (tenant, key): (TenantId, KeyId),
    limit: &NamedLimit,
    cost: u64,
    state: &AdminState,
) -> Option<Outcome> {
    let charge = Charge { owner: BucketOwner::Key(tenant, key), limits: std::slice::from_ref(limit), cost };
    match state.limiter.as_ref()?.charge(&charge).await {
        ChargeResult::Counted(decision) => decision.outcomes.first().copied(),
        ChargeResult::Open | ChargeResult::Closed => None,
    }
}
