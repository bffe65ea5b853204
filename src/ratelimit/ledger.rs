//! The buckets that nodes share, and the limiter that asks them about every request.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Backend, Decision, NamedLimit, Owner, Request, Unavailable};

/// Buckets that nodes share. Its clock decides.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// Charges a request, and what is ordered beyond it, in one step.
    ///
    /// # Errors
    /// [`Unavailable`] when that is not known to have been done; it may have been.
    async fn charge(&self, order: &Order<'_>) -> Result<Receipt, Unavailable>;

    /// Puts back what was charged and not used: so many requests for each limit. More than a full bucket is lost.
    ///
    /// # Errors
    /// [`Unavailable`] when that is not known to have been done.
    async fn give_back(&self, owner: Owner, unused: &[(NamedLimit, u64)]) -> Result<(), Unavailable>;
}

/// What a ledger is to charge.
#[derive(Debug, Clone, Copy)]
pub struct Order<'a> {
    /// The request: charged to all its buckets or to none.
    pub request: &'a Request<'a>,
    /// For each bucket, how much it is to give beyond the request, if that is admitted: of b bits up to 2^b - 1 requests, as
    /// many as it has. None for a bucket that is left out.
    pub extra_bits: &'a [u8],
}

/// What a ledger charged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// What became of the request, as if there had been no extras.
    pub decision: Decision,
    /// Requests that each bucket gave beyond it.
    pub extras: Vec<u64>,
}

/// Asks the ledger about every request.
pub struct Exact {
    ledger: Arc<dyn Ledger>,
}

impl Order<'_> {
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
    async fn charge(&self, request: &Request<'_>) -> Result<Decision, Unavailable> {
        Ok(self.ledger.charge(&Order { request, extra_bits: &[] }).await?.decision)
    }

    async fn refund(&self, request: &Request<'_>) {
        give_back_request(&*self.ledger, request).await;
    }
}

/// Gives a whole request back.
pub(super) async fn give_back_request(ledger: &dyn Ledger, request: &Request<'_>) {
    let unused: Vec<_> = request.limits.iter().map(|named| (named.clone(), request.cost)).collect();
    if let Err(error) = ledger.give_back(request.owner, &unused).await {
        tracing::debug!(%error, "a refused request is not given back");
    }
}
