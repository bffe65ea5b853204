//! Keeps the caches of this node true: follows the changes that any node makes.

mod metrics;

pub use metrics::Metrics;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cache::{Caches, Invalidation, InvalidationKind, RevokedParents, SharedCache};
use crate::clock::Clock;
use crate::store::{Change, ChangeFeed, ChangeKind, ChangeListener, Changes, KeyStore, Position, StoreError};

/// A wake-up may be lost; then a change is seen this late.
const POLL_EVERY: Duration = Duration::from_secs(1);
/// How long one look at the feed may take.
const POLL_TIMEOUT: Duration = Duration::from_secs(2);
/// Changes read at once.
const PAGE: u32 = 1000;
/// Between two prunings of the feed.
const PRUNE_EVERY: Duration = Duration::from_secs(60);
/// How long changes are kept at least, for nodes that were away.
const KEEP_CHANGES: Duration = Duration::from_secs(3600);

/// Follows the feed of a store.
pub struct CacheSync {
    feed: Arc<dyn ChangeFeed>,
    store: Arc<dyn KeyStore>,
    caches: Caches<StoreError>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
}

/// Reads from the store which keys ended within the longest life of a token; call it before tokens are judged.
///
/// # Errors
/// What the store fails with.
pub async fn load_revoked_parents(
    store: &dyn KeyStore,
    revoked_parents: &RevokedParents,
    clock: &dyn Clock,
) -> Result<(), StoreError> {
    let now = clock.now();
    // One more than are remembered shows that there are more.
    let limit = u32::try_from(revoked_parents.max()).unwrap_or(u32::MAX).saturating_add(1);
    for key in store.revoked_since(revoked_parents.horizon(now), limit).await? {
        revoked_parents.add((key.tenant, key.id), key.time, now);
    }
    Ok(())
}

impl CacheSync {
    /// A cache_sync of `feed`, which is the feed of `store`.
    pub fn new(
        feed: Arc<dyn ChangeFeed>,
        store: Arc<dyn KeyStore>,
        caches: Caches<StoreError>,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
    ) -> Self {
        Self { feed, store, caches, clock, metrics }
    }

    /// Takes over what is true now, forgetting all that was before. The caches are true once this has returned.
    ///
    /// # Errors
    /// What the store fails with.
    pub async fn begin(&self) -> Result<Position, StoreError> {
        let begun = Instant::now();
        // First the place, then the state: what changes in between is seen twice, and nothing is missed.
        let position = self.feed.position().await?;
        // Shut before the local cache is cleared: else that would take from it, for good, what a missed change replaced.
        if let Some(shared) = &self.caches.shared {
            shared.close(begun);
        }
        if let Some(local) = &self.caches.local {
            local.clear();
        }
        load_revoked_parents(&*self.store, &self.caches.revoked_parents, &*self.clock).await?;
        if let Some(shared) = &self.caches.shared {
            // One more than are remembered shows that there are more. The latest is told last, as it came.
            let limit = u32::try_from(SharedCache::CHANGES_MAX).unwrap_or(u32::MAX).saturating_add(1);
            for change in self.feed.recent(shared.memory(), limit).await?.iter().rev() {
                let invalidation = invalidation(change);
                shared.invalidate(invalidation.key, invalidation.min_version());
            }
            shared.open();
        }
        self.caches.freshness.confirm(begun);
        Ok(position)
    }

    /// Follows from a position, for as long as it is polled.
    pub async fn follow(&self, mut position: Position) {
        let mut listener = None;
        let mut pruned = Instant::now();
        let mut failing = false;
        loop {
            match self.catch_up(&mut position).await {
                Ok(begun) => {
                    self.caches.freshness.confirm(begun);
                    if std::mem::take(&mut failing) {
                        tracing::info!("changes of keys are heard of again");
                    }
                }
                Err(error) => {
                    self.metrics.failed();
                    // It may wait at a connection that will never tell.
                    listener = None;
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "changes of keys are not heard of; caches are believed for a while only");
                    }
                }
            }
            if pruned.elapsed() >= PRUNE_EVERY {
                pruned = Instant::now();
                self.prune().await;
            }
            self.wait(&mut listener).await;
        }
    }

    /// Applies all changes up to the moment that it tells.
    async fn catch_up(&self, position: &mut Position) -> Result<Instant, StoreError> {
        loop {
            let begun = Instant::now();
            let look = tokio::time::timeout(POLL_TIMEOUT, self.feed.changes_after(position, PAGE));
            let Some(read) = look.await.unwrap_or(Err(StoreError::Timeout))? else {
                tracing::warn!("changes of keys were missed; this node's caches begin anew");
                *position = self.begin().await?;
                continue;
            };
            self.apply(&read, begun).await;
            *position = read.position;
            if !read.more {
                return Ok(begun);
            }
        }
    }

    async fn apply(&self, read: &Changes, begun: Instant) {
        for change in &read.changes {
            self.caches.apply(&invalidation(change), self.clock.now()).await;
            let before = (read.read_time - change.time).to_std().unwrap_or_default();
            self.metrics.applied(before + begun.elapsed());
        }
    }

    async fn prune(&self) {
        let keep = self.caches.shared.as_ref().map_or(KEEP_CHANGES, |shared| KEEP_CHANGES.max(shared.memory() * 2));
        if let Err(error) = self.feed.prune(keep).await {
            tracing::debug!(%error, "old changes could not be taken out");
        }
    }

    /// Waits for a wake-up, or for the time of the next look.
    async fn wait(&self, listener: &mut Option<Box<dyn ChangeListener>>) {
        let woken = async {
            if listener.is_none() {
                *listener = self.feed.listen().await.ok();
            }
            let woken = match listener {
                Some(listener) => listener.woken().await.is_ok(),
                None => false,
            };
            if !woken {
                std::future::pending::<()>().await;
            }
        };
        // Whoever wins: the feed tells what happened.
        let _ = tokio::time::timeout(POLL_EVERY, woken).await;
    }
}

/// A change as the caches take it.
fn invalidation(change: &Change) -> Invalidation {
    let kind = match change.kind {
        ChangeKind::Issue | ChangeKind::Import | ChangeKind::Update => InvalidationKind::Changed,
        ChangeKind::Rotate | ChangeKind::Revoke => InvalidationKind::Revoked,
        ChangeKind::Delete => InvalidationKind::Deleted,
        ChangeKind::Purge => InvalidationKind::Purged,
    };
    let key = (change.tenant, change.id);
    Invalidation { key, version: change.version, kind, time: change.time, write_through: None }
}

#[cfg(test)]
mod tests;
