//! The connection pool, and retries. Every wait has a timeout. A statement that may have been executed is not repeated, unless
//! it only reads.

use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgConnectOptions, PgPool, PgPoolOptions, PgRow};
use sqlx::query::QueryAs;
use sqlx::{Connection, Error, FromRow, Postgres};
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use super::error::{Failure, store_error};
use super::options::PostgresOptions;
use crate::store::error::StoreError;

/// Time allowed for the network, in addition to the statement timeout.
const NETWORK: Duration = Duration::from_secs(1);

/// A pool of connections.
#[derive(Debug, Clone)]
pub(super) struct Connections {
    pool: PgPool,
    acquire_timeout: Duration,
    statement_timeout: Duration,
}

/// What a statement does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Reads. Retried after any failure of the connection.
    Read,
    /// Writes. Retried only if the database reports that nothing was written.
    Write,
}

impl Connections {
    pub(super) fn new(options: &PostgresOptions, connect: PgConnectOptions) -> Self {
        let pool = PgPoolOptions::new()
            .max_connections(options.max_connections)
            .min_connections(options.min_connections)
            .max_lifetime(options.max_lifetime)
            .idle_timeout(options.idle_timeout)
            .acquire_timeout(options.acquire_timeout)
            // A ping before each statement would cost as much as the statement.
            .test_before_acquire(false)
            .connect_lazy_with(connect);
        Self { pool, acquire_timeout: options.acquire_timeout, statement_timeout: options.statement_timeout }
    }

    pub(super) async fn close(&self) {
        self.pool.close().await;
    }

    /// Runs a statement, as a transaction of its own, and returns its rows.
    pub(super) async fn rows<'q, R>(
        &self,
        access: Access,
        query: impl Fn() -> QueryAs<'q, Postgres, R, PgArguments> + Send + Sync,
    ) -> Result<Vec<R>, StoreError>
    where
        R: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        let lease = match access {
            Access::Read => self.any().await?,
            // After a restart of the database, a stale connection must not fail a write.
            Access::Write => self.tested().await?,
        };
        let error = match self.run(lease, query()).await {
            Err(Some(error)) => error,
            done => return done.map_err(|_| StoreError::Timeout),
        };
        let again = match Failure::of(&error) {
            Failure::Broken => access == Access::Read,
            Failure::RolledBack => true,
            Failure::Statement => false,
        };
        if !again {
            return Err(store_error(&error));
        }
        tracing::debug!(%error, "a statement is retried on another connection");
        match self.run(self.tested().await?, query()).await {
            Err(Some(error)) => Err(store_error(&error)),
            done => done.map_err(|_| StoreError::Timeout),
        }
    }

    /// Runs a statement. `Err(None)` is a timeout.
    async fn run<R>(
        &self,
        mut lease: Lease,
        query: QueryAs<'_, Postgres, R, PgArguments>,
    ) -> Result<Vec<R>, Option<Error>>
    where
        R: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        // The database cancels slow statements itself; this covers a database that does not respond.
        let limit = self.statement_timeout + NETWORK;
        let result = timeout(limit, query.fetch_all(&mut **lease.connection())).await.map_err(|_| None)?;
        lease.finish(result.as_ref().err());
        result.map_err(Some)
    }

    async fn any(&self) -> Result<Lease, StoreError> {
        Ok(Lease(Some(self.pool.acquire().await.map_err(|error| store_error(&error))?)))
    }

    /// The time limit of a transaction of a few statements.
    pub(super) fn transaction_timeout(&self) -> Duration {
        4 * (self.statement_timeout + NETWORK)
    }

    /// A connection that has just responded to a ping.
    pub(super) async fn tested(&self) -> Result<Lease, StoreError> {
        let find = async {
            // Each round removes a broken connection, so the last round opens a new one.
            for _ in 0..=self.pool.options().get_max_connections() {
                let mut lease = self.any().await?;
                match lease.connection().ping().await {
                    Ok(()) => return Ok(lease),
                    Err(error) => lease.finish(Some(&error)),
                }
            }
            Err(StoreError::Unavailable("every connection fails".into()))
        };
        let late = || StoreError::Unavailable("no connection answers in time".into());
        timeout(self.acquire_timeout, find).await.unwrap_or_else(|_| Err(late()))
    }
}

/// A connection from the pool. It returns to the pool only after another response: the statement may have been cancelled, and
/// the network may have failed without notice.
pub(super) struct Lease(Option<PoolConnection<Postgres>>);

impl Lease {
    pub(super) fn connection(&mut self) -> &mut PoolConnection<Postgres> {
        self.0.as_mut().expect("a lease has its connection until it is finished")
    }

    /// Closes the connection if the error of the statement shows that it is broken.
    fn finish(mut self, error: Option<&Error>) {
        if error.is_some_and(|error| Failure::of(error) == Failure::Broken)
            && let Some(mut connection) = self.0.take()
        {
            connection.close_on_drop();
        }
    }
}

impl Lease {
    /// Ends the use of the connection for a transaction.
    pub(super) fn finish_transaction<T>(self, result: Result<Result<T, Error>, Elapsed>) -> Result<T, StoreError> {
        let result = result.map_err(|_| StoreError::Timeout)?;
        self.finish(result.as_ref().err());
        result.map_err(|error| store_error(&error))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let (Some(mut connection), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) else {
            return;
        };
        // Without the timeout, the pool would wait for the response forever and keep the slot occupied.
        runtime.spawn(timeout(NETWORK, connection.return_to_pool()));
    }
}
