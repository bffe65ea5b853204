//! Connections, and what is tried when one fails: nobody waits for ever, and nothing that may have happened is done twice.

use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgConnectOptions, PgPool, PgPoolOptions, PgRow};
use sqlx::query::QueryAs;
use sqlx::{Connection, Error, FromRow, Postgres};
use tokio::time::timeout;

use super::PostgresOptions;
use super::error::{Failure, store_error};
use crate::store::StoreError;

/// How long the network may take beside the statement itself.
const NETWORK: Duration = Duration::from_secs(1);

/// The connections of a store.
#[derive(Debug, Clone)]
pub(super) struct Connections {
    pool: PgPool,
    acquire_timeout: Duration,
    statement_timeout: Duration,
}

/// What a statement does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// It reads, so it can be tried again after any failure.
    Read,
    /// It writes, so it is tried again only when the database says that nothing was written.
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

    /// The rows that a statement gives. A statement is a transaction of its own.
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
            // After a restart of the database, a connection that only looks alive must not cost somebody their change.
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
        tracing::debug!(%error, "a statement is tried again on another connection");
        match self.run(self.tested().await?, query()).await {
            Err(Some(error)) => Err(store_error(&error)),
            done => done.map_err(|_| StoreError::Timeout),
        }
    }

    /// Runs a statement; without an error to name when it took too long.
    async fn run<R>(
        &self,
        mut lease: Lease,
        query: QueryAs<'_, Postgres, R, PgArguments>,
    ) -> Result<Vec<R>, Option<Error>>
    where
        R: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        // The database cancels a slow statement by itself; this is for one that does not even say so.
        let limit = self.statement_timeout + NETWORK;
        let result = timeout(limit, query.fetch_all(&mut **lease.connection())).await.map_err(|_| None)?;
        lease.end(result.as_ref().err());
        result.map_err(Some)
    }

    async fn any(&self) -> Result<Lease, StoreError> {
        Ok(Lease(Some(self.pool.acquire().await.map_err(|error| store_error(&error))?)))
    }

    /// A connection that has just answered.
    async fn tested(&self) -> Result<Lease, StoreError> {
        let find = async {
            // Each round takes a broken connection out, so the last one finds a new one.
            for _ in 0..=self.pool.options().get_max_connections() {
                let mut lease = self.any().await?;
                match lease.connection().ping().await {
                    Ok(()) => return Ok(lease),
                    Err(error) => lease.end(Some(&error)),
                }
            }
            Err(StoreError::Unavailable("every connection breaks".into()))
        };
        let late = || StoreError::Unavailable("no connection answers in time".into());
        timeout(self.acquire_timeout, find).await.unwrap_or_else(|_| Err(late()))
    }
}

/// A connection on loan. It comes back to the pool only when it has answered once more: the statement may have been
/// abandoned, and the network may be silent from now on.
struct Lease(Option<PoolConnection<Postgres>>);

impl Lease {
    fn connection(&mut self) -> &mut PoolConnection<Postgres> {
        self.0.as_mut().expect("a lease is used until it ends")
    }

    /// The statement is done; what it failed with says whether the connection is still good.
    fn end(mut self, error: Option<&Error>) {
        if error.is_some_and(|error| Failure::of(error) == Failure::Broken)
            && let Some(mut connection) = self.0.take()
        {
            connection.close_on_drop();
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let (Some(mut connection), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) else {
            return;
        };
        // By itself, the pool waits for the answer without end, and its place stays taken.
        runtime.spawn(timeout(NETWORK, connection.return_to_pool()));
    }
}
