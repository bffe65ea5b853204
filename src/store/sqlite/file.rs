//! The file as two processes use it while one replaces the other.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::{ConnectOptions, SqliteConnection};
use tokio::sync::Mutex;

use super::error::store_error;
use super::options::{SqliteOptions, connect_options};
use super::store::SqliteStore;
use crate::clock::{Clock, SystemClock};
use crate::store::error::StoreError;
use crate::store::feed::{Change, ChangeFeed, ChangeListener, Changes, Position};
use crate::store::store_file::{LentLock, StoreFile};

/// Another value on the same connection means that another connection has committed a change, of this process or of another one.
const VERSION: &str = "PRAGMA data_version";
/// The time between two looks at the version.
const LOOK: Duration = Duration::from_millis(25);

/// Reports every change of a file as changes that were missed: what has changed is not known.
struct FileFeed(Arc<Versions>);

/// Wakes the reader of the feed when the version has changed.
struct FileListener {
    versions: Arc<Versions>,
    seen: Option<Position>,
}

struct Versions {
    options: SqliteOptions,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    connection: Option<SqliteConnection>,
    /// The number of connections so far. Versions of different connections cannot be compared.
    connections: u64,
}

impl StoreFile for SqliteStore {
    fn lend_lock(&self) -> io::Result<Option<LentLock>> {
        let Some((file, path)) = self.lock.lend()?.zip(self.options.path.as_ref()) else { return Ok(None) };
        Ok(Some(LentLock { database: path.canonicalize()?, file }))
    }

    fn own_lock(&self) -> io::Result<()> {
        self.lock.name_owner()
    }

    fn feed(&self) -> Arc<dyn ChangeFeed> {
        Arc::new(FileFeed(Arc::new(Versions { options: self.options.clone(), state: Mutex::default() })))
    }
}

impl Versions {
    async fn current(&self) -> Result<Position, StoreError> {
        let mut state = self.state.lock().await;
        // A connection whose statement fails is dropped.
        let mut connection = if let Some(connection) = state.connection.take() {
            connection
        } else {
            state.connections += 1;
            let options = connect_options(&self.options).create_if_missing(false);
            options.connect().await.map_err(store_error)?
        };
        let version: i64 = sqlx::query_scalar(VERSION).fetch_one(&mut connection).await.map_err(store_error)?;
        state.connection = Some(connection);
        Ok(Position(format!("{}:{version}", state.connections)))
    }
}

#[async_trait]
impl ChangeFeed for FileFeed {
    async fn position(&self) -> Result<Position, StoreError> {
        self.0.current().await
    }

    async fn changes_after(&self, position: &Position, _: u32) -> Result<Option<Changes>, StoreError> {
        let current = self.0.current().await?;
        let is_same = current == *position;
        let read_time = SystemClock.now();
        Ok(is_same.then_some(Changes { changes: Vec::new(), position: current, more: false, read_time }))
    }

    async fn recent(&self, _: Duration, _: u32) -> Result<Vec<Change>, StoreError> {
        Ok(Vec::new())
    }

    async fn prune(&self, _: Duration) -> Result<u64, StoreError> {
        Ok(0)
    }

    async fn listen(&self) -> Result<Box<dyn ChangeListener>, StoreError> {
        Ok(Box::new(FileListener { versions: Arc::clone(&self.0), seen: None }))
    }
}

#[async_trait]
impl ChangeListener for FileListener {
    async fn woken(&mut self) -> Result<(), StoreError> {
        loop {
            let current = self.versions.current().await?;
            // The first look wakes too: the file may have changed since it was read.
            if self.seen.replace(current.clone()).is_none_or(|seen| seen != current) {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request_context::RequestContext;
    use crate::store::contract::some_key;
    use crate::store::{Access, KeySource, KeyStore};

    #[tokio::test]
    async fn change_by_another_process_is_reported_as_missed() {
        let folder = tempfile::tempdir().unwrap();
        let options = SqliteOptions { path: Some(folder.path().join("keys.db")), max_connections: 2 };
        let one = Arc::new(SqliteStore::open(&options).await.unwrap());
        let lent = one.lend_lock().unwrap().unwrap();
        let two = Arc::new(SqliteStore::open_with(&options, Access::Lent(lent.file)).await.unwrap());
        let feed = StoreFile::feed(&*one);
        let position = feed.position().await.unwrap();
        let mut listener = feed.listen().await.unwrap();
        listener.woken().await.unwrap();
        let same = feed.changes_after(&position, 10).await.unwrap().unwrap();
        assert_eq!((same.changes.len(), &same.position), (0, &position));
        let key = some_key();
        two.insert(&RequestContext::system(key.tenant), &key, None).await.unwrap();
        listener.woken().await.unwrap();
        assert_eq!(feed.changes_after(&position, 10).await.unwrap(), None);
        assert!(one.find(key.tenant, key.id).await.unwrap().is_some());
        // The lock belongs to both, and is free when both have closed it.
        drop(one);
        assert!(SqliteStore::open(&options).await.is_err());
        two.own_lock().unwrap();
        drop(two);
        SqliteStore::open(&options).await.unwrap();
    }
}
