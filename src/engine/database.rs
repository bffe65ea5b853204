//! Opens the configured database.

use std::sync::Arc;

#[cfg(feature = "postgres")]
use {std::num::NonZeroUsize, std::time::Duration};

use super::error::EngineError;
use crate::config::DatabaseConfig;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
use crate::config::Dsn;
#[cfg(feature = "postgres")]
use crate::config::PostgresDsn;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
use crate::store::Database;
use crate::store::{Access, KeyStore};
#[cfg(feature = "postgres")]
use crate::store::{Migration, PostgresOptions, PostgresStore};
#[cfg(feature = "sqlite")]
use crate::store::{SqliteOptions, SqliteStore};

/// Default number of connections per processor.
#[cfg(feature = "postgres")]
const CONNECTIONS_PER_CPU: usize = 2;

/// Opens the configured store. `access` is how this process uses a SQLite file.
///
/// # Errors
/// [`EngineError`] when the database cannot be used.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) async fn open(config: &DatabaseConfig, access: Access) -> Result<Arc<dyn KeyStore>, EngineError> {
    match database(&config.dsn, "db.dsn")? {
        #[cfg(feature = "sqlite")]
        Database::Sqlite(options) => Ok(Arc::new(SqliteStore::open_with(&options, access).await?)),
        #[cfg(feature = "postgres")]
        Database::Postgres(options) => {
            let _ = access;
            let migration = if config.auto_migrate { Migration::Automatic } else { Migration::Manual };
            Ok(Arc::new(PostgresStore::open(&options, migration).await?))
        }
    }
}

/// Without a database, a store must be given.
#[cfg(not(any(feature = "sqlite", feature = "postgres")))]
#[expect(clippy::unused_async, reason = "as with a database")]
pub(crate) async fn open(_: &DatabaseConfig, _: Access) -> Result<Arc<dyn KeyStore>, EngineError> {
    Err(EngineError::Setting(
        "this program is built without a database; enable the feature sqlite or postgres of keygate, or give the engine a store".into(),
    ))
}

/// The database at a data source name; `origin` names the setting or option that it is from, for errors.
///
/// # Errors
/// [`EngineError::Setting`] when the data source name is invalid.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) fn database(dsn: &str, origin: &str) -> Result<Database, EngineError> {
    let dsn = Dsn::parse(dsn).map_err(|why| EngineError::Setting(format!("{origin}: {why}")))?;
    match dsn {
        #[cfg(feature = "sqlite")]
        Dsn::Sqlite { path, max_connections } => Ok(Database::Sqlite(SqliteOptions { path, max_connections })),
        #[cfg(feature = "postgres")]
        Dsn::Postgres(dsn) => Ok(Database::Postgres(postgres_options(dsn))),
        #[cfg(not(all(feature = "sqlite", feature = "postgres")))]
        _ => Err(EngineError::Setting(format!(
            "{origin}: this program is built without that kind of database; enable the feature sqlite or postgres of keygate"
        ))),
    }
}

#[cfg(feature = "postgres")]
fn postgres_options(dsn: PostgresDsn) -> PostgresOptions {
    let unless_zero = |time: Duration| (!time.is_zero()).then_some(time);
    PostgresOptions {
        url: dsn.url,
        max_connections: dsn.max_connections.unwrap_or_else(default_connections),
        min_connections: dsn.min_connections,
        max_lifetime: unless_zero(dsn.max_lifetime),
        idle_timeout: unless_zero(dsn.idle_timeout),
        connect_timeout: dsn.connect_timeout,
        acquire_timeout: dsn.acquire_timeout,
        statement_timeout: dsn.statement_timeout,
    }
}

#[cfg(feature = "postgres")]
fn default_connections() -> u32 {
    let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    u32::try_from(processors * CONNECTIONS_PER_CPU).unwrap_or(u32::MAX)
}
