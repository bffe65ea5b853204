//! Options of a PostgreSQL database.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::PgConnectOptions;

use super::error::store_error;
use crate::store::error::StoreError;

/// Where the database is and how it is used.
#[derive(Clone)]
pub struct PostgresOptions {
    /// `postgres://USER:PASSWORD@HOST:PORT/DATABASE`, with libpq's connection options.
    pub url: SecretString,
    /// Maximum number of connections.
    pub max_connections: u32,
    /// Number of connections that are kept open.
    pub min_connections: u32,
    /// Age at which a connection is replaced; no limit if absent.
    pub max_lifetime: Option<Duration>,
    /// Idle time after which a connection is closed; no limit if absent.
    pub idle_timeout: Option<Duration>,
    /// Timeout of the first connection.
    pub connect_timeout: Duration,
    /// How long a caller waits for a free or new connection.
    pub acquire_timeout: Duration,
    /// Timeout of a statement.
    pub statement_timeout: Duration,
}

impl fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresOptions").field("max_connections", &self.max_connections).finish_non_exhaustive()
    }
}

impl PostgresOptions {
    /// Options of a connection without a statement timeout.
    pub(super) fn connect_options(&self) -> Result<PgConnectOptions, StoreError> {
        let options = PgConnectOptions::from_str(self.url.expose_secret()).map_err(|error| store_error(&error))?;
        let named = options.get_application_name().is_some();
        Ok(if named { options } else { options.application_name("keygate") })
    }
}
