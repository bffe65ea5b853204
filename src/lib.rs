//! Keygate is an API-key gateway: a reverse proxy that decides about every request inline from the credential it
//! carries, and an admin API that issues and revokes those credentials.
//!
//! The modules, from the leaves up; each imports only what stands above it:
//!
//! - [`clock`], [`id`], [`duration`], [`cidr`]: leaves.
//! - [`policy`], [`credential`], [`key`]: the domain. No I/O, no clock, nothing asynchronous.
//! - [`config`], `telemetry`: plain data, and the start of logs.
//! - [`store`], [`cache`]: where keys are, behind one trait.
//! - [`last_used`]: when keys were last used, noted aside and written in batches.
//! - `keyset`: the keys that sign derived tokens, from files and over HTTPS, kept fresh.
//! - `redis`, `follower`: the connection to Redis; what keeps the caches of a node true while others change keys.
//! - [`ratelimit`]: which requests are too many.
//! - [`verifier`], [`lifecycle`]: the read side and the write side. They do not know each other.
//! - [`wire`]: headers, and the one mapping of denials to HTTP.
//! - `gateway` (on pingora), `admin` (on axum): where requests come in. They do not know each other.
//! - `app`, `cli`: the process.
//!
//! Without default features the library has no server in it: [`verifier::Verifier`] over a
//! [`store::KeyStore`] is the decision engine.

#[cfg(feature = "admin")]
pub mod admin;
#[cfg(feature = "server")]
pub mod app;
pub mod cache;
#[cfg(feature = "server")]
pub mod cache_sync;
pub mod cidr;
#[cfg(feature = "server")]
pub mod cli;
pub mod clock;
pub mod config;
pub mod credential;
pub mod duration;
#[cfg(feature = "gateway")]
pub mod gateway;
pub mod id;
pub mod key;
pub mod last_used;
pub mod lifecycle;
pub mod policy;
pub mod ratelimit;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(feature = "server")]
pub mod signing_keys;
pub mod store;
#[cfg(feature = "server")]
pub mod telemetry;
#[cfg(all(test, any(feature = "postgres", feature = "redis")))]
mod testing;
#[cfg(any(feature = "gateway", feature = "redis", feature = "server"))]
pub mod tls;
pub mod verifier;
pub mod wire;
