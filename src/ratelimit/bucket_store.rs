//! The buckets that nodes share, and the limiter that asks them about every request.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Backend, BucketOwner, Charge, Decision, NamedLimit, Unavailable};

/// Buckets that nodes share. Its clock decides.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// Charges a request, and what is ordered beyond it, in one step.
    ///
    /// # Errors
    /// [`Unavailable`] when that is not known to have been done; it may have been.
    async fn charge(&self, order: &ChargeRequest<'_>) -> Result<ChargeResponse, Unavailable>;

    /// Puts back what was charged and not used: so many requests for each limit. More than a full bucket is lost.
    ///
    /// # Errors
    /// [`Unavailable`] when that is not known to have been done.
    async fn give_back(&self, owner: BucketOwner, unused: &[(NamedLimit, u64)]) -> Result<(), Unavailable>;
}

/// What a ledger is to charge.
#[derive(Debug, Clone, Copy)]
pub struct ChargeRequest<'a> {
    /// The request: charged to all its buckets or to none.
    pub request: &'a Charge<'a>,
    /// For each bucket, how much it is to give beyond the request, if that is admitted: of b bits up to 2^b - 1 requests, as
    /// many as it has. None for a bucket that is left out.
    pub extra_bits: &'a [u8],
}

/// What a ledger charged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChargeResponse {
    /// What became of the request, as if there had been no extras.
    pub decision: Decision,
    /// Requests that each bucket gave beyond it.
    pub extras: Vec<u64>,
}

/// Asks the ledger about every request.
pub struct Exact {
    ledger: Arc<dyn Ledger>,
}

impl ChargeRequest<'_> {
    pub(super) fn bits(&self, bucket: usize) -> u8 {
        self.extra_bits.get(bucket).copied().unwrap_or_default()
    }
}

impl Exact {
    /// Asks that ledger.
    pub fn new(ledger: Arc<dyn Ledger>) -> Self {
        Self { ledger }
    }
}

#[async_trait]
impl Backend for Exact {
    async fn charge(&self, request: &Charge<'_>) -> Result<Decision, Unavailable> {
        Ok(self.ledger.charge(&ChargeRequest { request, extra_bits: &[] }).await?.decision)
    }

    async fn refund(&self, request: &Charge<'_>) {
        give_back_request(&*self.ledger, request).await;
    }
}

/// Gives a whole request back.
pub(super) async fn give_back_request(ledger: &dyn Ledger, request: &Charge<'_>) {
    let unused: Vec<_> = request.limits.iter().map(|named| (named.clone(), request.cost)).collect();
    if let Err(error) = ledger.give_back(request.owner, &unused).await {
        tracing::debug!(%error, "a refused request is not given back");
    }
}
