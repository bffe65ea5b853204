//! A throw-away PostgreSQL for the tests of this module: the one that the tests in `tests/it` use.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use super::{Migration, PostgresOptions, PostgresStore};

#[path = "../../tests/it/support/process.rs"]
#[expect(dead_code, reason = "the tests in tests/it use more of it")]
mod process;
#[path = "../../tests/it/support/servers.rs"]
#[expect(dead_code, reason = "the tests in tests/it use more of it")]
mod servers;
#[path = "../../tests/it/support/wait.rs"]
mod wait;

pub(super) use servers::Postgres;
pub(super) use wait::eventually;
use wait::free_port;

/// How a database of the server is used.
pub(super) fn options(server: &Postgres, database: &str) -> PostgresOptions {
    PostgresOptions {
        url: server.url(database).into(),
        max_connections: 8,
        min_connections: 0,
        max_lifetime: None,
        idle_timeout: None,
        connect_timeout: Duration::from_secs(10),
        acquire_timeout: Duration::from_secs(10),
        statement_timeout: Duration::from_secs(30),
    }
}

/// A store over a new database of the server.
pub(super) async fn store(server: &Postgres, database: &str) -> PostgresStore {
    create_database(server, database);
    PostgresStore::open(&options(server, database), Migration::Automatic).await.unwrap()
}

/// Makes a database.
pub(super) fn create_database(server: &Postgres, name: &str) {
    assert!(server.query(&format!("CREATE DATABASE {name}")).is_some(), "CREATE DATABASE {name}");
}
