//! The tables of a database, and their migrations.

use std::sync::LazyLock;

use sqlx::migrate::{Migrate, Migrator};
use sqlx::{ConnectOptions, Connection, PgConnection};
use tokio::time::timeout;

use super::error::store_error;
use super::options::PostgresOptions;
use crate::store::error::StoreError;
use crate::store::schema::{Change, Migration, Schema, SchemaError, Scripts, Tables, check_known, migrator};

static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| migrator(&SCRIPTS));

const SCRIPTS: [Scripts; 7] = [
    Scripts {
        version: 1,
        description: "keys",
        up: include_str!("../migrations/postgres/0001_keys.up.sql"),
        down: include_str!("../migrations/postgres/0001_keys.down.sql"),
    },
    Scripts {
        version: 2,
        description: "changes",
        up: include_str!("../migrations/postgres/0002_changes.up.sql"),
        down: include_str!("../migrations/postgres/0002_changes.down.sql"),
    },
    Scripts {
        version: 3,
        description: "ends",
        up: include_str!("../migrations/postgres/0003_ends.up.sql"),
        down: include_str!("../migrations/postgres/0003_ends.down.sql"),
    },
    Scripts {
        version: 4,
        description: "rotation",
        up: include_str!("../migrations/postgres/0004_rotation.up.sql"),
        down: include_str!("../migrations/postgres/0004_rotation.down.sql"),
    },
    Scripts {
        version: 5,
        description: "audit",
        up: include_str!("../migrations/postgres/0005_audit.up.sql"),
        down: include_str!("../migrations/postgres/0005_audit.down.sql"),
    },
    Scripts {
        version: 6,
        description: "usage",
        up: include_str!("../migrations/postgres/0006_usage.up.sql"),
        down: include_str!("../migrations/postgres/0006_usage.down.sql"),
    },
    Scripts {
        version: 7,
        description: "lists",
        up: include_str!("../migrations/postgres/0007_lists.up.sql"),
        down: include_str!("../migrations/postgres/0007_lists.down.sql"),
    },
];

const INITIALIZED: &str = "SELECT to_regclass('_sqlx_migrations') IS NOT NULL";
/// How long a migration waits for the lock of another one, or of a transaction on the tables.
const LOCK_TIMEOUT: &str = "60s";

/// Checks that this program can use the tables; applies pending migrations if they are to be applied automatically.
pub(super) async fn prepare(options: &PostgresOptions, migration: Migration) -> Result<(), SchemaError> {
    match read(options).await?.check() {
        // Not in any other case: a migration needs a role that may create tables.
        Err(SchemaError::Outdated { .. }) if migration == Migration::Automatic => change(options, Change::Up).await,
        result => result,
    }
}

/// Returns the state of a database's schema.
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

/// Changes a database's schema, under a lock that ends with the connection.
pub(in crate::store) async fn change(options: &PostgresOptions, change: Change) -> Result<(), SchemaError> {
    let mut connection = connect(options).await?;
    let locked = connection.lock().await;
    locked.map_err(|error| tables(&mut connection).failed(error))?;
    if let Change::Force(version) = change {
        check_known(&MIGRATIONS, version)?;
        if is_initialized(&mut connection).await? {
            let deleted = sqlx::query("DELETE FROM _sqlx_migrations").execute(&mut connection).await;
            deleted.map_err(|error| store_error(&error))?;
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

/// Closes a connection. An error is only logged, because the work is committed.
async fn close(connection: PgConnection) {
    if let Err(error) = connection.close().await {
        tracing::debug!(%error, "the connection of a migration could not be closed");
    }
}

fn tables(connection: &mut PgConnection) -> Tables<'_, PgConnection> {
    Tables { migrator: &MIGRATIONS, connection, store_error }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[tokio::test]
    async fn every_script_of_the_folder_is_embedded() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/migrations/postgres");
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
