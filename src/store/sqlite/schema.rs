//! The tables of a file, and their migrations.

use std::sync::LazyLock;

use sqlx::migrate::Migrator;
use sqlx::{ConnectOptions, Connection, SqliteConnection};

use super::error::store_error;
use super::lock::FileLock;
use super::options::{SqliteOptions, connect_options};
use super::private_files::make_files_private;
use crate::store::error::StoreError;
use crate::store::schema::{Change, Schema, SchemaError, Scripts, Tables, check_known, migrator};

static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| migrator(&SCRIPTS));

const SCRIPTS: [Scripts; 7] = [
    Scripts {
        version: 1,
        description: "keys",
        up: include_str!("../migrations/sqlite/0001_keys.up.sql"),
        down: include_str!("../migrations/sqlite/0001_keys.down.sql"),
    },
    Scripts {
        version: 2,
        description: "lists",
        up: include_str!("../migrations/sqlite/0002_lists.up.sql"),
        down: include_str!("../migrations/sqlite/0002_lists.down.sql"),
    },
    Scripts {
        version: 3,
        description: "ends",
        up: include_str!("../migrations/sqlite/0003_ends.up.sql"),
        down: include_str!("../migrations/sqlite/0003_ends.down.sql"),
    },
    Scripts {
        version: 4,
        description: "rotation",
        up: include_str!("../migrations/sqlite/0004_rotation.up.sql"),
        down: include_str!("../migrations/sqlite/0004_rotation.down.sql"),
    },
    Scripts {
        version: 5,
        description: "audit",
        up: include_str!("../migrations/sqlite/0005_audit.up.sql"),
        down: include_str!("../migrations/sqlite/0005_audit.down.sql"),
    },
    Scripts {
        version: 6,
        description: "usage",
        up: include_str!("../migrations/sqlite/0006_usage.up.sql"),
        down: include_str!("../migrations/sqlite/0006_usage.down.sql"),
    },
    Scripts {
        version: 7,
        description: "lists",
        up: include_str!("../migrations/sqlite/0007_lists.up.sql"),
        down: include_str!("../migrations/sqlite/0007_lists.down.sql"),
    },
];

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

/// Changes a file's schema. No other process may use the file, unless nothing is to be changed.
pub(in crate::store) async fn change(options: &SqliteOptions, change: Change) -> Result<(), SchemaError> {
    if let Some(path) = &options.path {
        make_files_private(path);
    }
    if change == Change::Up && read(options).await?.check().is_ok() {
        return Ok(());
    }
    let mut connection = connect_options(options).connect().await.map_err(store_error)?;
    let _lock = match &options.path {
        Some(path) => Some(FileLock::acquire_in_time(path).await?),
        None => None,
    };
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[tokio::test]
    async fn every_script_of_the_folder_is_embedded() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/migrations/sqlite");
        let of = |migrator: &Migrator| -> Vec<_> {
            let scripts = migrator.iter();
            scripts
                .map(|script| (script.version, script.description.clone(), script.checksum.clone(), script.no_tx))
                .collect()
        };
        let from_folder = Migrator::new(folder).await.expect("scripts");
        assert_eq!(of(&MIGRATIONS), of(&from_folder));
        assert_eq!(MIGRATIONS.iter().count(), 2 * SCRIPTS.len());
    }
}
