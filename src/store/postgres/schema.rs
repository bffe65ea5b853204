//! The tables of a database, and their migrations.

use sqlx::migrate::{Migrate, Migrator};
use sqlx::{ConnectOptions, Connection, PgConnection};
use tokio::time::timeout;

use super::PostgresOptions;
use super::error::store_error;
use crate::store::StoreError;
use crate::store::schema::{Change, Schema, SchemaError, Tables, check_known};

static MIGRATIONS: Migrator = sqlx::migrate!("src/store/migrations/postgres");

const INITIALIZED: &str = "SELECT to_regclass('_sqlx_migrations') IS NOT NULL";
/// How long a migration waits for another one, or for a transaction that holds the tables.
const LOCK_TIMEOUT: &str = "60s";

/// The state of a database's tables.
pub(in crate::store) async fn read(options: &PostgresOptions) -> Result<Schema, SchemaError> {
    let mut connection = connect(options).await?;
    let schema = if is_initialized(&mut connection).await? {
        tables(&mut connection).schema().await?
    } else {
        Schema::new(&MIGRATIONS, None, None)
    };
    close(connection).await;
    Ok(schema)
}

/// Changes a database's tables, under a lock that ends with the connection.
pub(in crate::store) async fn change(options: &PostgresOptions, change: Change) -> Result<(), SchemaError> {
    let mut connection = connect(options).await?;
    let locked = connection.lock().await;
    locked.map_err(|error| tables(&mut connection).failed(error))?;
    if let Change::Force(version) = change {
        check_known(&MIGRATIONS, version)?;
        if is_initialized(&mut connection).await? {
            let forget = sqlx::query("DELETE FROM _sqlx_migrations").execute(&mut connection).await;
            forget.map_err(|error| store_error(&error))?;
        }
    }
    tables(&mut connection).change(change).await?;
    close(connection).await;
    Ok(())
}

async fn connect(options: &PostgresOptions) -> Result<PgConnection, StoreError> {
    let connect = options.connect_options()?.options([("lock_timeout", LOCK_TIMEOUT)]);
    let connection = timeout(options.connect_timeout, connect.connect()).await;
    let late = |_| StoreError::Unavailable(format!("no connection within {:?}", options.connect_timeout));
    connection.map_err(late)?.map_err(|error| store_error(&error))
}

async fn is_initialized(connection: &mut PgConnection) -> Result<bool, StoreError> {
    sqlx::query_scalar(INITIALIZED).fetch_one(connection).await.map_err(|error| store_error(&error))
}

/// What was to be done is done, so a connection that does not end well changes nothing.
async fn close(connection: PgConnection) {
    if let Err(error) = connection.close().await {
        tracing::debug!(%error, "the connection of a migration did not end well");
    }
}

fn tables(connection: &mut PgConnection) -> Tables<'_, PgConnection> {
    Tables { migrator: &MIGRATIONS, connection, store_error }
}
