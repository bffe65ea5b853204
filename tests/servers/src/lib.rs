//! Temporary servers (PostgreSQL, Redis, nginx, Caddy, Envoy): each has its own port and its own folder, and is removed when its
//! value is dropped. Messages of HTTP/1.1: generated requests, and what hyper reads. And generated documents, which tests compare with the
//! committed ones.
//!
//! Unit tests, integration tests and benchmarks share this crate. Everything here panics on failure.

mod document;
mod generated_request;
mod hyper_reader;
mod peer;
mod postgres;
mod process;
mod redis;
mod wait;

pub use document::check_document;
pub use generated_request::{SentRequest, mutated_requests, sent_request};
pub use hyper_reader::{ReadEnd, ReadRequest, ReadResponse, read_requests, read_response, serve_reader};
pub use peer::{Peer, PeerProgram};
pub use postgres::{Postgres, StoppedPostgres};
pub use process::{PausedProcesses, Process};
pub use redis::{Redis, StoppedRedis};
pub use wait::{WAIT_TIMEOUT, eventually, free_port};
