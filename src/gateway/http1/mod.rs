//! The front door of HTTP/1.1: every connection belongs to this module until a request is whole, and again after its response.
//!
//! - `scan`, `head`, `error`: find, parse and serialize a request head; what is wrong with one.
//! - `body`: where a body ends.
//! - `request_stream`, `write_buffer`: one request as pingora reads it.
//! - `forwarded`: what the steps above make of bytes, for fuzz targets and tests.
//! - `deadline`: the time limits of all connections.
//! - `connection`, `refusal`: the sequence of requests; responses that pingora does not make.

mod body;
mod connection;
mod deadline;
#[cfg(test)]
mod differential;
mod error;
mod forwarded;
mod head;
mod refusal;
mod request_stream;
mod scan;
mod write_buffer;

pub(super) use connection::{End, Front, serve};
pub(super) use deadline::{Clock, Deadlines, Direction};
pub use forwarded::{Forwarded, ForwardedRequest, forward};
