//! HTTP/2, by ALPN or with prior knowledge.
//!
//! - `connection`: accepts requests within limits. `body_watch`: limits the time of a body.
//! - `stream`: the connection as pingora reads it. `frames`: counts frames that cost this side more than the client.

mod body_watch;
mod connection;
mod frames;
mod stream;

pub(super) use connection::serve;
pub(super) use stream::Http2Stream;
