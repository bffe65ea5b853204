//! The store over a PostgreSQL database.

use super::options::PostgresOptions;
use super::pool::Connections;
use super::schema::prepare;
use crate::store::audit_store::RecorderSlot;
use crate::store::schema::{Migration, SchemaError};

/// Keys in PostgreSQL.
#[derive(Debug, Clone)]
pub struct PostgresStore {
    pub(super) connections: Connections,
    /// A separate connection: the feed is read on time even if all other connections are busy.
    pub(super) feed: Connections,
    pub(super) options: PostgresOptions,
    pub(super) recorder: RecorderSlot,
}

impl PostgresStore {
    /// Connects, and checks or migrates the tables.
    ///
    /// # Errors
    /// [`SchemaError`] when the database cannot be reached, or its tables are older or newer than this program needs.
    pub async fn open(options: &PostgresOptions, migration: Migration) -> Result<Self, SchemaError> {
        prepare(options, migration).await?;
        let timeout = options.statement_timeout.as_millis().to_string();
        let connect = options.connect_options()?.options([("statement_timeout", timeout)]);
        let one = PostgresOptions { max_connections: 1, min_connections: 0, ..options.clone() };
        Ok(Self {
            connections: Connections::new(options, connect.clone()),
            feed: Connections::new(&one, connect),
            options: options.clone(),
            recorder: RecorderSlot::default(),
        })
    }
}
