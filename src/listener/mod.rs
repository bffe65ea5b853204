//! What all listeners share: sockets, the steps of a new connection before its first request, and the limits of connections.
//!
//! - `admission`: caps of connections, eviction of idle ones. `descriptors`: the limit of open files, and its shares.
//! - `accept`: the accept loop of the listeners that a library serves. `timed_stream`: the time limits of their connections.

mod accept;
mod admission;
#[cfg(feature = "server")]
mod descriptors;
mod socket;
mod timed_stream;
mod unix_socket;

pub use accept::{Accept, AcceptLoop, AcceptedConnection};
pub use admission::{Admission, Admitted, ConnectionMetrics, Refused};
#[cfg(feature = "server")]
pub use descriptors::{ConnectionShares, Descriptors};
pub use socket::ListeningSocket;
pub use timed_stream::{ConnectionTimes, RequestInFlight, TimedStream};
pub use unix_socket::UnixSocket;
