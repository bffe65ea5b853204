//! Write transactions. Changes that wait for each other are committed together: SQLite has one writer at a time, and a commit takes
//! longer than a change, because it waits until the disk has the data.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, OnceLock};

use sqlx::{Sqlite, SqliteConnection, SqlitePool, Transaction};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::timeout;

use super::error::store_error;
use super::options::BUSY_TIMEOUT;
use crate::store::error::StoreError;

/// The writers of a file. Callers write in their order; several connections would sleep and try again while the file is locked.
#[derive(Debug, Clone)]
pub(super) struct Writers {
    /// One connection. Its page cache stays valid, because no other connection of this process writes.
    pool: SqlitePool,
    open: Arc<Mutex<Option<Group>>>,
}

/// An open transaction, and the changes in it that wait for its commit.
#[derive(Debug)]
struct Group {
    transaction: Transaction<'static, Sqlite>,
    outcome: Outcome,
}

/// The result of the commit. Unset until then.
type Outcome = Arc<OnceLock<Result<(), StoreError>>>;

/// A change in a write transaction. If it is dropped before its commit, the transaction is rolled back, with all changes in it.
pub(super) struct Write {
    group: Group,
    turn: OwnedMutexGuard<Option<Group>>,
    open: Arc<Mutex<Option<Group>>>,
}

impl Writers {
    /// The writers over a pool of one connection.
    pub(super) fn new(pool: SqlitePool) -> Self {
        Self { pool, open: Arc::default() }
    }

    /// Begins a change, in the transaction of the callers before it if that is not committed yet.
    pub(super) async fn begin(&self) -> Result<Write, StoreError> {
        let turn = timeout(BUSY_TIMEOUT, Arc::clone(&self.open).lock_owned()).await;
        let mut turn = turn.map_err(|_| StoreError::Timeout)?;
        let group = match turn.take() {
            Some(group) => group,
            None => Group {
                transaction: self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(store_error)?,
                outcome: Outcome::default(),
            },
        };
        Ok(Write { group, turn, open: Arc::clone(&self.open) })
    }

    /// Waits for the running transaction and closes the connection.
    pub(super) async fn close(&self) {
        self.pool.close().await;
    }
}

impl Write {
    /// Completes the change. The callers that wait already write into the same transaction; then it is committed.
    ///
    /// # Errors
    /// [`StoreError`] when it is not known whether the change is stored, or when another change in the transaction failed.
    pub(super) async fn commit(self) -> Result<(), StoreError> {
        let Self { group, mut turn, open } = self;
        let outcome = Arc::clone(&group.outcome);
        *turn = Some(group);
        drop(turn);
        // The lock is fair: all who waited have had their turns.
        let mut open = open.lock().await;
        if let Some(group) = open.take_if(|group| Arc::ptr_eq(&group.outcome, &outcome)) {
            let result = group.transaction.commit().await.map_err(store_error);
            return outcome.get_or_init(|| result).clone();
        }
        outcome.get().cloned().unwrap_or_else(|| {
            Err(StoreError::Unavailable("another change in the same transaction failed; try again".into()))
        })
    }
}

impl Deref for Write {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        &self.group.transaction
    }
}

impl DerefMut for Write {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.group.transaction
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::{SqliteOptions, SqliteStore};

    const INSERT: &str = "INSERT INTO deleted_keys (tenant, kind, key_id, delete_time) VALUES ('t', 'issued', ?, 0)";

    async fn store() -> (SqliteStore, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let options = SqliteOptions { path: Some(folder.path().join("keys.db")), max_connections: 2 };
        (SqliteStore::open(&options).await.unwrap(), folder)
    }

    async fn insert(store: &SqliteStore, id: &str) -> Write {
        let mut write = store.begin().await.unwrap();
        sqlx::query(INSERT).bind(id).execute(&mut *write).await.unwrap();
        write
    }

    async fn stored(store: &SqliteStore) -> Vec<String> {
        let ids = sqlx::query_scalar("SELECT key_id FROM deleted_keys ORDER BY key_id");
        ids.fetch_all(&store.pool).await.unwrap()
    }

    /// Begins a change that waits for its turn; it fails if it must.
    fn waiting(store: &SqliteStore, id: &'static str, fails: bool) -> tokio::task::JoinHandle<Result<(), StoreError>> {
        let store = store.clone();
        tokio::spawn(async move {
            let write = insert(&store, id).await;
            if fails { Err(StoreError::Timeout) } else { write.commit().await }
        })
    }

    /// Waits until a number of changes wait for their turns. The store refers to the lock once, the first change twice, and each of
    /// the others twice.
    async fn until_waiting(store: &SqliteStore, count: usize) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        while Arc::strong_count(&store.writers.open) < 3 + 2 * count {
            assert!(tokio::time::Instant::now() < deadline, "they do not wait");
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn changes_that_wait_are_committed_with_the_one_before_them() {
        let (store, _folder) = store().await;
        let first = insert(&store, "a").await;
        let outcome = Arc::clone(&first.group.outcome);
        let others = [waiting(&store, "b", false), waiting(&store, "c", false)];
        until_waiting(&store, 2).await;
        assert_eq!(stored(&store).await, [""; 0], "nothing is stored before the commit");
        first.commit().await.unwrap();
        assert_eq!(stored(&store).await, ["a", "b", "c"]);
        // The others hold the outcome of the same commit.
        assert!(matches!(outcome.get(), Some(Ok(()))));
        for other in others {
            other.await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn failed_change_leaves_nothing_of_its_transaction_and_does_not_stop_later_ones() {
        let (store, _folder) = store().await;
        let first = insert(&store, "a").await;
        let failed = waiting(&store, "b", true);
        until_waiting(&store, 1).await;
        let later = waiting(&store, "c", false);
        until_waiting(&store, 2).await;
        let refused = first.commit().await.unwrap_err();
        assert!(matches!(refused, StoreError::Unavailable(_)), "{refused:?}");
        failed.await.unwrap().unwrap_err();
        later.await.unwrap().unwrap();
        assert_eq!(stored(&store).await, ["c"]);
    }

    #[tokio::test]
    async fn abandoned_change_releases_the_file() {
        let (store, _folder) = store().await;
        drop(insert(&store, "a").await);
        insert(&store, "b").await.commit().await.unwrap();
        let mut other = store.pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
        sqlx::query(INSERT).bind("c").execute(&mut *other).await.unwrap();
        other.commit().await.unwrap();
        assert_eq!(stored(&store).await, ["b", "c"]);
    }
}
