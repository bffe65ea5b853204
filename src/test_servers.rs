//! Temporary servers for unit tests.

#[cfg(feature = "postgres")]
pub(crate) use keygate_test_servers::Postgres;
#[cfg(feature = "redis")]
pub(crate) use keygate_test_servers::Redis;
pub(crate) use keygate_test_servers::eventually;
