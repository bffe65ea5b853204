//! PostgreSQL stores over temporary servers, for the tests of this module.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use super::{Migration, PostgresOptions, PostgresStore};

pub(super) use crate::test_servers::Postgres;

/// Store options for a database of the server.
pub(super) fn options(server: &Postgres, database: &str) -> PostgresOptions {
    PostgresOptions {
        url: server.url(database).into(),
        max_connections: 8,
        min_connections: 0,
        max_lifetime: None,
        idle_timeout: None,
        connect_timeout: Duration::from_secs(60),
        acquire_timeout: Duration::from_secs(60),
        statement_timeout: Duration::from_secs(60),
    }
}

/// A store over a new database of the server.
pub(super) async fn store(server: &Postgres, database: &str) -> PostgresStore {
    create_database(server, database);
    PostgresStore::open(&options(server, database), Migration::Automatic).await.unwrap()
}

/// Creates a database.
pub(super) fn create_database(server: &Postgres, name: &str) {
    assert!(server.query(&format!("CREATE DATABASE {name}")).is_some(), "CREATE DATABASE {name}");
}
