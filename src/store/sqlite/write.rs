//! Write transactions. Changes that wait for each other are committed together: SQLite has one writer at a time, and a commit takes
//! longer than a change, because it waits until the disk has the data.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, OnceLock};

use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteTransactionManager};
use sqlx::{ConnectOptions, Connection as _, SqlSafeStr, Sqlite, SqliteConnection, SqlitePool};
use sqlx_core::transaction::TransactionManager;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::timeout;

use super::error::store_error;
use super::options::ACQUIRE_TIMEOUT;
use crate::store::error::StoreError;

const BEGIN: &str = "BEGIN IMMEDIATE";

/// The writers of a database. Callers write in their order; several connections would sleep and try again while the file is locked.
#[derive(Debug, Clone)]
pub(super) struct Writers {
    source: Source,
    state: Arc<Mutex<State>>,
}

/// Where the connection for writes comes from.
#[derive(Debug, Clone)]
pub(super) enum Source {
    /// A connection of its own, which is kept. Its page cache stays valid, because no other connection of this process writes.
    Own(Arc<SqliteConnectOptions>),
    /// The only connection to the database, which is shared with reads.
    Shared(SqlitePool),
}

#[derive(Debug, Default)]
struct State {
    connection: Option<Connection>,
    /// The outcome of the open transaction, in which changes wait for the commit.
    open: Option<Outcome>,
}

/// A connection. An open transaction is rolled back when it is dropped.
#[derive(Debug)]
enum Connection {
    Own(SqliteConnection),
    Shared(Shared),
}

#[derive(Debug)]
struct Shared(PoolConnection<Sqlite>);

/// The result of a commit. Unset until then.
type Outcome = Arc<OnceLock<Result<(), StoreError>>>;

/// A change in a write transaction. If it is dropped before its commit, the transaction is rolled back, with all changes in it.
pub(super) struct Write {
    connection: Connection,
    outcome: Outcome,
    turn: OwnedMutexGuard<State>,
    writers: Writers,
}

impl Writers {
    pub(super) fn new(source: Source) -> Self {
        Self { source, state: Arc::default() }
    }

    /// Begins a change, in the transaction of the callers before it if that is not committed yet.
    pub(super) async fn begin(&self) -> Result<Write, StoreError> {
        let turn = timeout(ACQUIRE_TIMEOUT, Arc::clone(&self.state).lock_owned()).await;
        let mut turn = turn.map_err(|_| StoreError::Timeout)?;
        let mut connection = match turn.connection.take() {
            Some(connection) => connection,
            None => self.source.connect().await.map_err(store_error)?,
        };
        let outcome = if let Some(outcome) = turn.open.take() {
            outcome
        } else {
            let begin = SqliteTransactionManager::begin(connection.get(), Some(BEGIN.into_sql_str()));
            begin.await.map_err(store_error)?;
            Outcome::default()
        };
        Ok(Write { connection, outcome, turn, writers: self.clone() })
    }

    /// Waits for the running transaction and closes a connection of its own.
    pub(super) async fn close(&self) -> Result<(), StoreError> {
        match self.state.lock().await.connection.take() {
            Some(Connection::Own(connection)) => connection.close().await.map_err(store_error),
            Some(Connection::Shared(_)) | None => Ok(()),
        }
    }
}

impl Source {
    async fn connect(&self) -> sqlx::Result<Connection> {
        Ok(match self {
            Self::Own(options) => Connection::Own(options.connect().await?),
            Self::Shared(pool) => Connection::Shared(Shared(pool.acquire().await?)),
        })
    }
}

impl Connection {
    fn get(&mut self) -> &mut SqliteConnection {
        match self {
            Self::Own(connection) => connection,
            Self::Shared(shared) => &mut shared.0,
        }
    }
}

impl Write {
    /// Completes the change. The callers that wait already write into the same transaction; then it is committed.
    ///
    /// # Errors
    /// [`StoreError`] when it is not known whether the change is stored, or when another change in the transaction failed.
    pub(super) async fn commit(self) -> Result<(), StoreError> {
        let Self { connection, outcome, mut turn, writers } = self;
        *turn = State { connection: Some(connection), open: Some(Arc::clone(&outcome)) };
        drop(turn);
        // The lock is fair: all who waited have had their turns.
        let mut state = writers.state.lock().await;
        if state.open.take_if(|open| Arc::ptr_eq(open, &outcome)).is_some()
            && let Some(mut connection) = state.connection.take()
        {
            let result = SqliteTransactionManager::commit(connection.get()).await.map_err(store_error);
            let is_kept = result.is_ok() && matches!(connection, Connection::Own(_));
            state.connection = Some(connection).filter(|_| is_kept);
            return outcome.get_or_init(|| result).clone();
        }
        outcome.get().cloned().unwrap_or_else(|| {
            Err(StoreError::Unavailable("another change in the same transaction failed; try again".into()))
        })
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        SqliteTransactionManager::start_rollback(&mut self.0);
    }
}

impl Deref for Write {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        match &self.connection {
            Connection::Own(connection) => connection,
            Connection::Shared(shared) => &shared.0,
        }
    }
}

impl DerefMut for Write {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        self.connection.get()
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
        while Arc::strong_count(&store.writers.state) < 3 + 2 * count {
            assert!(tokio::time::Instant::now() < deadline, "they do not wait");
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn changes_that_wait_are_committed_with_the_one_before_them() {
        let (store, _folder) = store().await;
        let first = insert(&store, "a").await;
        let outcome = Arc::clone(&first.outcome);
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

    #[test]
    fn store_can_be_dropped_outside_of_a_runtime() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (store, _folder) = runtime.block_on(store());
        runtime.block_on(async { insert(&store, "a").await.commit().await }).unwrap();
        drop(runtime);
        drop(store);
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
