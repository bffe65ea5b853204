//! The fast path: a plain exchange stays in the front door, from head bytes to head bytes, without pingora's proxy.
//!
//! A request is plain if it is one of HTTP/1.1 without a body or with one of a known length, needs nothing of the connection besides (no
//! upgrade, no `Expect`), is no gRPC call, and its upstream uses HTTP/1.1. All decisions are those of the other requests: the pipeline,
//! the upstream's endpoints, retries and health, timeouts, live streams, the access log.
//!
//! - `request`, `begin`: a request in progress; its first steps, as far as they need no waiting.
//! - `exchange`: the attempts at the upstream, and what their failures mean.
//! - `upload`: the request on its way to an endpoint.
//! - `download`: the response on its way to the client.
//! - `endpoint_stream`: a connection to an endpoint, and its errors as those of pingora.
//! - `send_batching`: what is ready is received before anything is sent.
//! - `response_head`, `write_head`: heads of responses are parsed, heads are written. `heads`: both without connections.

mod begin;
mod download;
mod endpoint_stream;
mod exchange;
mod heads;
mod request;
mod response_head;
mod send_batching;
mod upload;
mod write_head;

pub(super) use begin::{Begun, Received, begin};
pub(super) use exchange::Finished;
pub use heads::{TranslatedResponse, exchange_heads, translate_response};
