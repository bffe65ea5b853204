//! Buckets that nodes share, and the backend that charges them on every request.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Backend, BucketOwner, Charge, Decision, NamedLimit, Unavailable};

/// Stores the buckets that nodes share. The store's clock decides.
#[async_trait]
pub trait BucketStore: Send + Sync {
    /// Charges a request, and takes the wanted leases, in one atomic step.
    ///
    /// # Errors
    /// [`Unavailable`] if the result is not known. The request may have been charged.
    async fn charge(&self, request: &ChargeRequest<'_>) -> Result<ChargeResponse, Unavailable>;

    /// Returns a number of charged and unused requests to each bucket. What exceeds a full bucket is dropped.
    ///
    /// # Errors
    /// [`Unavailable`] if the result is not known.
    async fn refund(&self, owner: BucketOwner, unused: &[(NamedLimit, u64)]) -> Result<(), Unavailable>;
}

/// A charge, and the leases to take with it.
#[derive(Debug, Clone, Copy)]
pub struct ChargeRequest<'a> {
    /// The charge: applied to all its buckets or to none.
    pub charge: &'a Charge<'a>,
    /// The size of the lease to take from each bucket if the charge is admitted: b bits are up to 2^b - 1 requests, as many as
    /// the bucket holds. No lease is taken from a bucket without an entry.
    pub lease_bits: &'a [u8],
}

/// The result of a [`ChargeRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChargeResponse {
    /// The decision about the charge, without the leases.
    pub decision: Decision,
    /// The number of requests leased from each bucket.
    pub leased: Vec<u64>,
}

/// Charges the shared buckets on every request.
pub struct Exact {
    store: Arc<dyn BucketStore>,
}

impl<'a> ChargeRequest<'a> {
    /// A charge without leases.
    pub fn without_leases(charge: &'a Charge<'a>) -> Self {
        Self { charge, lease_bits: &[] }
    }

    pub(super) fn lease_bits_of(&self, bucket: usize) -> u8 {
        self.lease_bits.get(bucket).copied().unwrap_or_default()
    }
}

impl Exact {
    /// A backend that charges the buckets in `store`.
    pub fn new(store: Arc<dyn BucketStore>) -> Self {
        Self { store }
    }
}

#[async_trait]
impl Backend for Exact {
    async fn charge(&self, charge: &Charge<'_>) -> Result<Decision, Unavailable> {
        Ok(self.store.charge(&ChargeRequest::without_leases(charge)).await?.decision)
    }

    async fn refund(&self, charge: &Charge<'_>) {
        refund_charge(&*self.store, charge).await;
    }
}

/// Refunds a whole charge.
pub(super) async fn refund_charge(store: &dyn BucketStore, charge: &Charge<'_>) {
    let unused: Vec<_> = charge.limits.iter().map(|named| (named.clone(), charge.cost)).collect();
    if let Err(error) = store.refund(charge.owner, &unused).await {
        tracing::debug!(%error, "a rejected request could not be refunded");
    }
}
