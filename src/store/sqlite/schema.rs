//! The tables of a file, and their migrations.

use sqlx::migrate::Migrator;
use sqlx::{ConnectOptions, Connection, SqliteConnection};

use super::error::store_error;
use super::options::{SqliteOptions, connect_options};
use crate::store::error::StoreError;
use crate::store::schema::{Change, Schema, SchemaError, Tables, check_known};

static MIGRATIONS: Migrator = sqlx::migrate!("src/store/migrations/sqlite");

const INITIALIZED: &str = "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE name = '_sqlx_migrations')";

/// Returns the state of a file's schema. Does not create the file.
pub(in crate::store) async fn read(options: &SqliteOptions) -> Result<Schema, SchemaError> {
    let none = Schema::new(&MIGRATIONS, None, None);
    if !options.path.as_ref().is_some_and(|path| path.exists()) {
        return Ok(none);
    }
    let mut connection = connect_options(options).create_if_missing(false).connect().await.map_err(store_error)?;
    let initialized: bool = sqlx::query_scalar(INITIALIZED).fetch_one(&mut connection).await.map_err(store_error)?;
    let schema = if initialized { tables(&mut connection).schema().await? } else { none };
    connection.close().await.map_err(store_error)?;
    Ok(schema)
}

/// Changes a file's schema.
pub(in crate::store) async fn change(options: &SqliteOptions, change: Change) -> Result<(), SchemaError> {
    let mut connection = connect_options(options).connect().await.map_err(store_error)?;
    change_tables(&mut connection, change).await?;
    Ok(connection.close().await.map_err(store_error)?)
}

/// Changes the schema of an open file, in one transaction.
pub(super) async fn change_tables(connection: &mut SqliteConnection, change: Change) -> Result<(), SchemaError> {
    // Concurrent callers wait here.
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(store_error)?;
    if let Change::Force(version) = change {
        check_known(&MIGRATIONS, version)?;
        let initialized = sqlx::query_scalar(INITIALIZED).fetch_one(&mut *transaction).await.map_err(store_error)?;
        if initialized {
            sqlx::query("DELETE FROM _sqlx_migrations").execute(&mut *transaction).await.map_err(store_error)?;
        }
    }
    tables(&mut transaction).change(change).await?;
    Ok(transaction.commit().await.map_err(store_error)?)
}

fn tables(connection: &mut SqliteConnection) -> Tables<'_, SqliteConnection> {
    Tables { migrator: &MIGRATIONS, connection, store_error: migration_error }
}

fn migration_error(error: &sqlx::Error) -> StoreError {
    StoreError::Unavailable(error.to_string())
}
