//! Keeps the caches of this node up to date: applies the changes that all nodes make.

mod metrics;

pub use metrics::Metrics;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cache::{Caches, Invalidation, InvalidationKind, RevokedParents, SharedCache};
use crate::clock::Clock;
use crate::store::{Change, ChangeFeed, ChangeKind, ChangeListener, Changes, KeyStore, Position, StoreError};

/// How often the feed is read without a notification, which may be lost.
const POLL_EVERY: Duration = Duration::from_secs(1);
/// The timeout of one read of the feed.
const POLL_TIMEOUT: Duration = Duration::from_secs(2);
/// Changes in one read.
const PAGE: u32 = 1000;
/// How often old changes are deleted from the feed.
const PRUNE_EVERY: Duration = Duration::from_secs(60);
/// How long changes are kept, for nodes that were disconnected or start. Longer than [`SharedCache::history`] on any node.
const KEEP_CHANGES: Duration = Duration::from_secs(3600);

/// Applies the feed of a store to the caches of a node.
pub struct CacheSync {
    feed: Arc<dyn ChangeFeed>,
    store: Arc<dyn KeyStore>,
    caches: Caches<StoreError>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
}

/// Reads from the store which keys were revoked or deleted within the longest lifetime of a token. Must run before tokens are verified.
///
/// # Errors
/// The error of the store.
pub async fn load_revoked_parents(
    store: &dyn KeyStore,
    revoked_parents: &RevokedParents,
    clock: &dyn Clock,
) -> Result<(), StoreError> {
    let now = clock.now();
    // One more than fit, so that the set knows when it is not complete.
    let limit = u32::try_from(revoked_parents.max()).unwrap_or(u32::MAX).saturating_add(1);
    for key in store.revoked_since(revoked_parents.horizon(now), limit).await? {
        let parent = (key.tenant, key.id);
        if key.is_later {
            revoked_parents.add_later(parent, key.time, now);
        } else {
            revoked_parents.add(parent, key.time, now);
        }
    }
    Ok(())
}

impl CacheSync {
    /// `feed` is the feed of `store`.
    pub fn new(
        feed: Arc<dyn ChangeFeed>,
        store: Arc<dyn KeyStore>,
        caches: Caches<StoreError>,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
    ) -> Self {
        Self { feed, store, caches, clock, metrics }
    }

    /// Clears the caches and loads the current state. The caches are up to date once this has returned.
    ///
    /// # Errors
    /// The error of the store.
    pub async fn begin(&self) -> Result<Position, StoreError> {
        let start = Instant::now();
        // First the position, then the state: a change in between is applied twice, and none is missed.
        let position = self.feed.position().await?;
        // Closed before the local cache is cleared: otherwise a read could bring a record back that a missed change replaced.
        if let Some(shared) = &self.caches.shared {
            shared.close(start);
        }
        if let Some(local) = &self.caches.local {
            local.clear();
        }
        load_revoked_parents(&*self.store, &self.caches.revoked_parents, &*self.clock).await?;
        if let Some(shared) = &self.caches.shared {
            // One more than fit, so that the minimum versions know when they are not complete. Oldest first.
            let limit = u32::try_from(SharedCache::CHANGES_MAX).unwrap_or(u32::MAX).saturating_add(1);
            // The time to live, and with it the history, may change meanwhile.
            let history = shared.history();
            for change in self.feed.recent(history, limit).await?.iter().rev() {
                let invalidation = invalidation(change);
                shared.invalidate(invalidation.key, invalidation.min_version());
            }
            if let Some(since) = start.checked_sub(history) {
                shared.open(since);
            }
        }
        self.caches.freshness.confirm(start);
        self.caches.changes.any_key_changed();
        Ok(position)
    }

    /// Applies changes from a position on. Runs until it is dropped.
    pub async fn follow(&self, mut position: Position) {
        let mut listener = None;
        let mut pruned = Instant::now();
        let mut failing = false;
        loop {
            match self.catch_up(&mut position).await {
                Ok(start) => {
                    self.caches.freshness.confirm(start);
                    if std::mem::take(&mut failing) {
                        tracing::info!("changes of keys are received again");
                    }
                }
                Err(error) => {
                    self.metrics.failed();
                    // Its connection may be dead without an error.
                    listener = None;
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "changes of keys are not received; cached records are used for a limited time");
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

    /// Applies all changes up to the returned time.
    async fn catch_up(&self, position: &mut Position) -> Result<Instant, StoreError> {
        loop {
            let start = Instant::now();
            let read = tokio::time::timeout(POLL_TIMEOUT, self.feed.changes_after(position, PAGE));
            let Some(read) = read.await.unwrap_or(Err(StoreError::Timeout))? else {
                tracing::warn!("changes of keys were missed; the caches of this node are cleared");
                *position = self.begin().await?;
                continue;
            };
            self.apply(&read, start).await;
            *position = read.position;
            if !read.more {
                return Ok(start);
            }
        }
    }

    async fn apply(&self, read: &Changes, start: Instant) {
        for change in &read.changes {
            self.caches.apply(&invalidation(change), self.clock.now()).await;
            let before = (read.read_time - change.time).to_std().unwrap_or_default();
            self.metrics.applied(before + start.elapsed());
        }
    }

    async fn prune(&self) {
        if let Err(error) = self.feed.prune(KEEP_CHANGES).await {
            tracing::debug!(%error, "old changes could not be deleted");
        }
    }

    /// Waits for a notification, or until the next poll is due.
    async fn wait(&self, listener: &mut Option<Box<dyn ChangeListener>>) {
        let notified = async {
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
        // Either way the feed is read next.
        let _ = tokio::time::timeout(POLL_EVERY, notified).await;
    }
}

/// A change as the caches take it.
fn invalidation(change: &Change) -> Invalidation {
    let kind = match change.kind {
        ChangeKind::Issue | ChangeKind::Import | ChangeKind::Update => {
            change.revoke_time.map_or(InvalidationKind::Changed, InvalidationKind::RevokedAfter)
        }
        ChangeKind::Rotate | ChangeKind::Revoke => InvalidationKind::Revoked,
        ChangeKind::Delete => InvalidationKind::Deleted,
        ChangeKind::Purge => InvalidationKind::Purged,
    };
    let key = (change.tenant, change.id);
    Invalidation { key, version: change.version, kind, time: change.time, write_through: None }
}

#[cfg(test)]
mod tests;
