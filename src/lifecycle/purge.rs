//! Deleting keys some time after their expiry, and their usage.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;

use super::log::log_change;
use super::write_side::Lifecycle;
use crate::cache::Invalidation;
use crate::clock::Timestamp;
use crate::request_context::RequestContext;
use crate::store::{StoreError, UsageHour};

/// Rows deleted per statement, few enough to delay no other statement noticeably.
const BATCH: u32 = 500;
/// Rows of usage deleted per statement: they are smaller than keys, and no change follows.
const USAGE_BATCH: u32 = 5000;
/// Pause between two statements, to leave the database to others.
const PAUSE: Duration = Duration::from_millis(50);
/// Interval between two purges.
const INTERVAL: Duration = Duration::from_secs(3600);

/// How long what is no longer needed is kept; `None` keeps it without time limit.
#[derive(Debug, Clone, Copy, Default)]
pub struct Retention {
    /// Keys, after their expiry.
    pub expired_keys: Option<Duration>,
    /// The usage of an hour.
    pub usage: Option<Duration>,
}

impl Lifecycle {
    /// Purges keys and their usage now and every hour. Never returns.
    pub async fn keep_purging(&self, context: &RequestContext, retention: Retention) {
        loop {
            if let Some(keep) = retention.expired_keys {
                match self.purge(context, keep).await {
                    Ok(0) => {}
                    Ok(count) => log_change!(context, count, "{count} expired keys purged"),
                    Err(error) => tracing::warn!(%error, "expired keys could not be purged; next try in an hour"),
                }
            }
            if let Some(keep) = retention.usage
                && let Err(error) = self.purge_usage(context, keep).await
            {
                tracing::warn!(%error, "the usage of keys could not be purged; next try in an hour");
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// Removes the usage of hours that are over for longer than `keep`. Returns the number of removed rows. The principal of `context`
    /// must be [`Principal::System`].
    ///
    /// [`Principal::System`]: crate::request_context::Principal::System
    ///
    /// # Errors
    /// The error of the store.
    pub async fn purge_usage(&self, context: &RequestContext, keep: Duration) -> Result<u64, StoreError> {
        let Some(usage) = Arc::clone(&self.store).usage() else { return Ok(0) };
        let before = TimeDelta::from_std(keep).ok().and_then(|keep| self.now().checked_sub_signed(keep));
        let Some(before) = before.map(UsageHour::of) else { return Ok(0) };
        let mut count = 0;
        loop {
            let removed = usage.prune_usage(context, before, USAGE_BATCH).await?;
            count += removed;
            if removed < u64::from(USAGE_BATCH) {
                return Ok(count);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Deletes all keys that expired more than `keep` ago. Also removes records of deletions that are older than the longest
    /// lifetime of a token. Returns the number of deleted keys. Deletes nothing while another node purges. The principal of
    /// `context` must be [`Principal::System`].
    ///
    /// [`Principal::System`]: crate::request_context::Principal::System
    ///
    /// # Errors
    /// The error of the store. Keys that were deleted before it are counted in the metric.
    pub async fn purge(&self, context: &RequestContext, keep: Duration) -> Result<u64, StoreError> {
        let before = TimeDelta::from_std(keep).ok().and_then(|keep| self.now().checked_sub_signed(keep));
        let mut count = 0;
        if let Some(before) = before {
            loop {
                let purged = self.purge_batch(context, before).await?;
                count += purged;
                if purged < u64::from(BATCH) {
                    break;
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        while self.store.prune_deleted(context, self.caches.revoked_parents.horizon(self.now()), BATCH).await?
            >= u64::from(BATCH)
        {
            tokio::time::sleep(PAUSE).await;
        }
        Ok(count)
    }

    async fn purge_batch(&self, context: &RequestContext, before: Timestamp) -> Result<u64, StoreError> {
        let purged = self.store.purge(context, before, BATCH).await?;
        let now = self.now();
        for key in &purged {
            self.caches.apply(&Invalidation::purged((key.tenant, key.id), key.version, now), now).await;
        }
        self.metrics.purged(purged.len());
        Ok(purged.len() as u64)
    }
}
