//! Keygate is an API-key gateway: a reverse proxy that verifies the credential of every request before the upstream sees it, and an
//! admin API that issues, imports, rotates, revokes and verifies those credentials.
//!
//! This library contains all parts of the `keygate` binary. Without default features it is the decision engine alone: it needs no
//! server, no database and no cmake.
//!
//! # Verify a key
//!
//! An [`engine::Engine`] issues and verifies keys over a [`store::KeyStore`], here one in memory.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Instant;
//!
//! use keygate::config::Config;
//! use keygate::engine::Engine;
//! use keygate::id::TenantId;
//! use keygate::key::KeyDraft;
//! use keygate::request_context::RequestContext;
//! use keygate::store::MemoryStore;
//! use keygate::verifier::Presented;
//! use secrecy::ExposeSecret;
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! let secret = "a secret of at least 32 characters".to_owned();
//! let config = Config::new("https://keys.example.com".into(), secret.into(), "memory".into());
//! let engine = Engine::over(Arc::new(MemoryStore::default()), &config, &prometheus::Registry::new())?;
//!
//! let draft = KeyDraft { name: "reports".into(), actor_id: "ana".into(), ..KeyDraft::default() };
//! let issued = engine.lifecycle.issue(&RequestContext::system(TenantId::NIL), draft).await?;
//! let credential = issued.secret.expect("a new key has a secret");
//!
//! let presented = Presented::new(TenantId::NIL, credential.expose_secret(), Instant::now());
//! let verdict = engine.verifier.verify(&presented).await.outcome.expect("the key is valid");
//! assert_eq!(verdict.actor_id(), "ana");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! `Engine::builder` (feature `embedded`) starts an engine with a database, a change feed, rate limits and background work.
//!
//! # Authenticate a service
//!
//! `layer::AuthLayer` (feature `layer`) is Tower middleware over such an engine, for axum, tonic and every other service of HTTP
//! requests.
//!
//! [`pipeline::Exchange`] carries a whole HTTP request through a front of your own: route, credential, scopes, rate limits, header edits,
//! access log.
//!
//! # Features
//!
//! | feature | what it adds |
//! | --- | --- |
//! | `server` (default) | the binary: everything below, and the command line |
//! | `embedded` | `Engine::builder`: an engine with everything that runs in the background |
//! | `layer` | Tower middleware, and `testing` for programs that use it; includes `embedded` |
//! | `axum` | `layer::Principal` as an argument of axum handlers; includes `layer` |
//! | `gateway` | the reverse proxy on pingora; needs cmake and a C compiler |
//! | `admin` | the admin API on axum |
//! | `external_auth` | external authorization for other proxies, on axum and tonic |
//! | `sqlite`, `postgres` | durable stores |
//! | `redis` | the shared cache, and rate limits that several nodes share |
//! | `otlp` | traces, sent to a collector; includes `embedded` |
//! | `mimalloc` | the allocator of the binary, for benchmarks |
//!
//! # Modules
//!
//! The public API is what this page lists. The modules that it hides (the servers, the caches, the process) may change in any version.
//!
//! From the leaves up; a module imports only from modules above it in this list.
//!
//! - [`clock`], [`id`], [`duration`], [`cidr`], [`request_context`]: leaves.
//! - [`policy`], `credential`, [`key`], `audit`: the domain. Pure: no I/O, no clock, nothing asynchronous.
//! - [`config`], `telemetry`, `traces`: plain data; logs; spans and their way to a collector.
//! - [`store`], `cache`, `last_used`, `usage`, `audit_log`, `signing_keys`, `redis`, `ratelimit`: I/O behind small traits.
//! - [`verifier`] (reads), [`lifecycle`] (writes): use cases. They do not import each other. `cache_sync` applies the changes that other
//!   nodes make to the caches of this one.
//! - `wire`: HTTP semantics. [`pipeline`]: the steps of a request.
//! - [`engine`]: builds verifier and lifecycle from a configuration, with their database, caches and limits.
//! - `gateway`, `admin`, `external_auth`, `layer`: the fronts. They do not import each other. `testing` makes verified requests for tests.
//! - `app`, `cli`: the process.

#[cfg(feature = "admin")]
#[doc(hidden)]
pub mod admin;
#[cfg(feature = "server")]
#[doc(hidden)]
pub mod app;
#[doc(hidden)]
pub mod audit;
#[doc(hidden)]
pub mod audit_log;
#[doc(hidden)]
pub mod cache;
#[cfg(feature = "embedded")]
#[doc(hidden)]
pub mod cache_sync;
pub mod cidr;
#[cfg(feature = "server")]
#[doc(hidden)]
pub mod cli;
pub mod clock;
pub mod config;
#[doc(hidden)]
pub mod connection;
#[doc(hidden)]
pub mod credential;
pub mod duration;
pub mod engine;
#[cfg(feature = "external_auth")]
#[doc(hidden)]
pub mod external_auth;
#[cfg(any(feature = "gateway", feature = "layer"))]
mod free_list;
#[cfg(feature = "gateway")]
#[doc(hidden)]
pub mod gateway;
pub mod id;
pub mod key;
#[doc(hidden)]
pub mod last_used;
#[cfg(feature = "layer")]
pub mod layer;
pub mod lifecycle;
#[cfg(any(feature = "gateway", feature = "external_auth", feature = "admin"))]
#[doc(hidden)]
pub mod listener;
pub mod pipeline;
pub mod policy;
#[doc(hidden)]
pub mod ratelimit;
#[cfg(feature = "redis")]
#[doc(hidden)]
pub mod redis;
pub mod request_context;
#[cfg(any(feature = "server", feature = "sqlite"))]
mod secret_file;
mod sharded;
#[cfg(feature = "embedded")]
#[doc(hidden)]
pub mod signing_keys;
pub mod store;
mod strict_json;
#[doc(hidden)]
pub mod telemetry;
#[cfg(all(test, any(feature = "postgres", feature = "redis")))]
mod test_servers;
#[cfg(feature = "layer")]
pub mod testing;
#[cfg(test)]
#[cfg(feature = "server")]
mod tests;
#[cfg(any(feature = "gateway", feature = "admin", feature = "redis", feature = "embedded"))]
#[doc(hidden)]
pub mod tls;
#[doc(hidden)]
pub mod traces;
#[doc(hidden)]
pub mod usage;
pub mod verifier;
#[doc(hidden)]
pub mod wire;
