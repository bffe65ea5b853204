//! HTTP semantics over `http` types: fields, credential extraction, client addresses, problem responses, rate-limit fields. Knows
//! no server.

pub mod client_ip;
pub mod cookie;
pub mod credential_locations;
pub mod extract;
pub mod fields;
pub mod forwarded;
pub mod problem;
pub mod query;
pub mod ratelimit;
mod rejection;

pub use rejection::{Rejection, ShedReason};
