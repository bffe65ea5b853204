//! What all listeners share: sockets, the steps of a new connection before its first request, and the limits of connections.
//!
//! - `admission`: caps of connections, eviction of idle ones. `descriptors`: the limit of open files, and its shares.
//! - `accept`: the accept loop of the listeners that a library serves. `timed_stream`: the time limits of their connections.
//! - `proxy_protocol`, `tls`: the steps of a new connection.

mod accept;
mod admission;
#[cfg(feature = "server")]
mod descriptors;
pub mod proxy_protocol;
mod socket;
mod timed_stream;
#[cfg(any(feature = "gateway", feature = "admin"))]
pub mod tls;
mod unix_socket;

pub use accept::{Accept, AcceptLoop, AcceptedConnection};
pub use admission::{Admission, Admitted, ConnectionMetrics, Refused};
#[cfg(feature = "server")]
pub use descriptors::{ConnectionShares, Descriptors};
pub use socket::ListeningSocket;
pub use timed_stream::{ConnectionTimes, RequestInFlight, TimedStream};
pub use unix_socket::UnixSocket;
