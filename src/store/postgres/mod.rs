//! Keys in PostgreSQL: any number of nodes over one database. Every change is one statement, which writes the key and its
//! row in the feed together.

mod error;
mod feed;
mod keys;
mod list;
mod pool;
mod schema;

pub(super) use schema::{change as change_schema, read as schema};

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::PgConnectOptions;

use self::error::store_error;
use self::pool::Connections;
use super::StoreError;
use super::schema::{Database, Migration, SchemaError, prepare};

/// Where the database is and how it is used.
#[derive(Clone)]
pub struct PostgresOptions {
    /// `postgres://USER:PASSWORD@HOST:PORT/DATABASE`, with the options of libpq that say how to connect.
    pub url: SecretString,
    /// Connections at the most.
    pub max_connections: u32,
    /// Connections that are kept open.
    pub min_connections: u32,
    /// After how long a connection is replaced; never when absent.
    pub max_lifetime: Option<Duration>,
    /// After how long without use a connection is closed; never when absent.
    pub idle_timeout: Option<Duration>,
    /// How long the first connection may take.
    pub connect_timeout: Duration,
    /// How long a caller waits for a free connection, or for a new one.
    pub acquire_timeout: Duration,
    /// How long a statement may take.
    pub statement_timeout: Duration,
}

/// Keys in PostgreSQL.
#[derive(Debug, Clone)]
pub struct PostgresStore {
    connections: Connections,
    /// Of its own: however many keys are asked for, a node hears of changes.
    feed: Connections,
    options: PostgresOptions,
}

impl fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresOptions").field("max_connections", &self.max_connections).finish_non_exhaustive()
    }
}

impl PostgresOptions {
    /// How to connect; statements may take any time.
    pub(super) fn connect_options(&self) -> Result<PgConnectOptions, StoreError> {
        let options = PgConnectOptions::from_str(self.url.expose_secret()).map_err(|error| store_error(&error))?;
        let named = options.get_application_name().is_some();
        Ok(if named { options } else { options.application_name("keygate") })
    }
}

impl PostgresStore {
    /// Connects, and sees that the tables are what this version needs.
    ///
    /// # Errors
    /// [`SchemaError`] when the database cannot be reached, or its tables are older or newer.
    pub async fn open(options: &PostgresOptions, migration: Migration) -> Result<Self, SchemaError> {
        let database = Database::Postgres(options.clone());
        prepare(&database, migration).await?;
        let timeout = options.statement_timeout.as_millis().to_string();
        let connect = options.connect_options()?.options([("statement_timeout", timeout)]);
        let one = PostgresOptions { max_connections: 1, min_connections: 0, ..options.clone() };
        Ok(Self {
            connections: Connections::new(options, connect.clone()),
            feed: Connections::new(&one, connect),
            options: options.clone(),
        })
    }
}

#[cfg(test)]
mod tests;
