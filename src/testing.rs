//! What unit tests share with the tests in `tests/it`: throw-away servers.

#![expect(dead_code, reason = "the tests in tests/it use more of it")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../tests/it/support/process.rs"]
mod process;
#[path = "../tests/it/support/servers.rs"]
mod servers;
#[path = "../tests/it/support/wait.rs"]
mod wait;

#[cfg(feature = "postgres")]
pub(crate) use servers::Postgres;
#[cfg(feature = "redis")]
pub(crate) use servers::Redis;
pub(crate) use wait::{eventually, free_port};
