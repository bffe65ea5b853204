//! External authorization: other proxies send a check for each request, over HTTP or gRPC, and this front answers it from the same
//! [`pipeline`](crate::pipeline) as the gateway.
//!
//! - `server`, `service`: listeners, runtime, which peers are trusted.
//! - `original`: the request that a check is about. `endpoint`: where each proxy puts it.
//! - `check`: the steps of the pipeline for it.
//! - `http`, `grpc`: the result in the form that each proxy reads.

mod check;
mod endpoint;
mod grpc;
mod http;
mod original;
mod router;
mod server;
mod service;

pub use service::{ExternalAuth, ExternalAuthReload, Sockets};
