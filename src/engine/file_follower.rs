//! Follows the changes that another process makes to the file of the database, while one process replaces the other.

use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;

use super::error::EngineError;
use crate::cache::Caches;
use crate::cache_sync::{self, CacheSync};
use crate::clock::SystemClock;
use crate::store::{KeyStore, Position, StoreError};

/// The pause after a read of the state that has failed.
const RETRY: Duration = Duration::from_millis(100);

/// Keeps the caches up to date with a file that another process uses as well.
pub(crate) struct FileFollower {
    sync: CacheSync,
    position: Position,
}

impl FileFollower {
    /// Begins to follow: all changes until now are known once this has returned. `None` if the store has no file.
    pub(super) async fn begin(
        store: &Arc<dyn KeyStore>,
        caches: Caches<StoreError>,
    ) -> Result<Option<Self>, EngineError> {
        let Some(file) = Arc::clone(store).file() else { return Ok(None) };
        // For a short time only, so its metrics are not published.
        let metrics = cache_sync::Metrics::register(&Registry::new(), Arc::clone(&caches.freshness))?;
        let sync = CacheSync::new(file.feed(), Arc::clone(store), caches, Arc::new(SystemClock), metrics);
        let position = sync.begin().await?;
        Ok(Some(Self { sync, position }))
    }

    /// Follows until the other process has ended.
    pub(crate) async fn run(self, ended: impl Future<Output = ()>) {
        tokio::select! {
            () = self.sync.follow(self.position) => {}
            () = ended => {}
        }
        // Its last changes.
        while let Err(error) = self.sync.begin().await {
            tracing::warn!(%error, "the changes of another process cannot be read; it is tried again");
            tokio::time::sleep(RETRY).await;
        }
    }
}
