//! The keys with the most requests.

use std::sync::Arc;

use chrono::TimeDelta;

use super::error::LifecycleError;
use super::write_side::Lifecycle;
use crate::key::ApiKey;
use crate::request_context::RequestContext;
use crate::store::{TopUsageQuery, UsageHour};

/// How many of the keys are looked at, because a context may not have the actors of all of them.
const CANDIDATES: u32 = 50;

impl Lifecycle {
    /// Returns the keys of the actors of the context with the most requests in this hour and the one before, or with the most refused ones:
    /// at most `limit` of the first 50 of all actors. Empty if usage is not stored. Deleted keys are left out.
    ///
    /// # Errors
    /// A failure of the store.
    pub async fn top_keys(
        &self,
        context: &RequestContext,
        only_refused: bool,
        limit: usize,
    ) -> Result<Vec<(ApiKey, u64)>, LifecycleError> {
        let Some(store) = Arc::clone(&self.store).usage() else { return Ok(Vec::new()) };
        let from = UsageHour::of(self.now() - TimeDelta::hours(1));
        let query = TopUsageQuery { tenant: context.tenant, from, only_refused, limit: CANDIDATES };
        let mut keys = Vec::new();
        for (id, requests) in store.top_usage(&query).await? {
            match self.get(context, id).await {
                Ok(key) => keys.push((key, requests)),
                Err(LifecycleError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
            if keys.len() == limit {
                break;
            }
        }
        Ok(keys)
    }
}
