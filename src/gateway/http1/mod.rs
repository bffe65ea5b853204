//! The front door of HTTP/1.1: every connection belongs to this module until a request is whole, and again after its response.
//!
//! - `scan`, `head`, `target`, `error`: find, parse and serialize a request head; what is wrong with one.
//! - `body`: where a body ends.
//! - `request_stream`, `write_buffer`: one request as pingora reads it.
//! - `response_frames`: where the frames of a live stream end.
//! - `forwarded`: what the steps above make of bytes, for fuzz targets and tests.
//! - `plain`: the fast path, which takes plain requests to their upstream without pingora's proxy.
//! - `receive`: bytes of a connection are received.
//! - `buffer_pool`: buffers that a thread keeps for its next request.
//! - `head_writer`, `date`: heads are written into memory of a known size.
//! - `connection`, `refusal`: the sequence of requests; responses that pingora does not make.

mod body;
mod buffer_pool;
mod connection;
mod date;
#[cfg(test)]
mod differential;
mod error;
mod fields;
mod forwarded;
mod head;
mod head_writer;
mod plain;
mod rare_stage;
mod receive;
mod refusal;
mod request_stream;
mod response_frames;
mod scan;
mod target;
mod write_buffer;

pub(super) use connection::{End, Front, serve};
pub use forwarded::{Forwarded, ForwardedRequest, forward};
pub use plain::{TranslatedResponse, exchange_heads, translate_response};
