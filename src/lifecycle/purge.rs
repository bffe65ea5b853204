//! Taking out what nobody can use any more.

use std::time::Duration;

use chrono::TimeDelta;

use super::Lifecycle;
use super::log::log_change;
use crate::clock::Timestamp;
use crate::request_context::RequestContext;
use crate::store::StoreError;

/// Rows taken out in one statement: few enough that nobody waits for it.
const BATCH: u32 = 500;
/// Between two statements others have the database.
const PAUSE: Duration = Duration::from_millis(50);
/// Between two looks for what is to be taken out.
const INTERVAL: Duration = Duration::from_secs(3600);

impl Lifecycle {
    /// Takes out keys that ended longer than `keep` ago, now and every hour, for as long as it is polled.
    pub async fn keep_purging(&self, context: &RequestContext, keep: Duration) {
        loop {
            match self.purge(context, keep).await {
                Ok(0) => {}
                Ok(count) => log_change!(context, count, "{count} keys that ended long ago were taken out"),
                Err(error) => tracing::warn!(%error, "old keys could not be taken out; tried again in an hour"),
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// Takes out all keys whose end lies longer than `keep` back, and forgets which keys were deleted before any token of today
    /// was derived; tells how many keys it took out. When another node is at it, this one leaves it to that.
    ///
    /// # Errors
    /// What the store fails with; what was taken out before is counted all the same.
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
        while self.store.forget_deleted(context, self.caches.revoked_parents.horizon(self.now()), BATCH).await?
            >= u64::from(BATCH)
        {
            tokio::time::sleep(PAUSE).await;
        }
        Ok(count)
    }

    async fn purge_batch(&self, context: &RequestContext, before: Timestamp) -> Result<u64, StoreError> {
        let purged = self.store.purge(context, before, BATCH).await?;
        for key in &purged {
            let id = (key.tenant, key.id);
            if let Some(shared) = &self.caches.shared {
                shared.invalidate(id, key.version + 1);
            }
            if let Some(local) = &self.caches.local {
                local.invalidate_deleted(id, key.version);
            }
        }
        self.metrics.purged(purged.len());
        Ok(purged.len() as u64)
    }
}
