//! The embedded engine: the verifier and the lifecycle of keys over one store.
//!
//! [`Engine`] is built from parts; [`Engine::builder`] builds the parts from a configuration and runs their background work.

#[cfg(feature = "embedded")]
mod access_logs;
#[cfg(feature = "embedded")]
mod audit;
#[cfg(feature = "embedded")]
mod auth_failures;
#[cfg(feature = "embedded")]
mod builder;
#[cfg(feature = "embedded")]
mod caches;
#[cfg(feature = "embedded")]
mod database;
#[cfg(feature = "embedded")]
mod error;
#[cfg(feature = "server")]
mod file_follower;
#[cfg(feature = "embedded")]
mod last_used;
#[cfg(feature = "embedded")]
mod limiter;
#[cfg(feature = "embedded")]
mod live_streams;
#[cfg(feature = "embedded")]
mod lookup_throttle;
#[cfg(feature = "embedded")]
#[cfg_attr(not(feature = "redis"), path = "single_node.rs")]
mod nodes;
mod parts;
#[cfg(feature = "embedded")]
mod running;
#[cfg(feature = "embedded")]
mod tasks;
#[cfg(feature = "embedded")]
#[cfg_attr(not(feature = "otlp"), path = "no_traces.rs")]
mod traces;
#[cfg(feature = "embedded")]
mod usage;

#[cfg(feature = "embedded")]
pub use builder::EngineBuilder;
#[cfg(all(feature = "embedded", any(feature = "sqlite", feature = "postgres")))]
pub(crate) use database::database;
#[cfg(feature = "server")]
pub(crate) use database::open as open_store;
#[cfg(feature = "embedded")]
pub use error::EngineError;
#[cfg(feature = "server")]
pub(crate) use file_follower::FileFollower;
pub use parts::Engine;
#[doc(hidden)]
pub use parts::{EngineParts, keyring};
#[cfg(feature = "embedded")]
pub use running::RunningEngine;
