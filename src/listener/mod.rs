//! What all listeners share: sockets, the steps of a new connection before its first request, and the limits of connections.
//!
//! - `admission`: caps of connections, eviction of idle ones. `descriptors`: the limit of open files, and its shares.
//! - `accept`: the accept loop, and the stop. `activity`, `timed_stream`: what happens on the connections that a library serves, and their
//!   time limits.
//! - `place`: the runtimes on which connections run.
//! - `proxy_protocol`, `tls`: the steps of a new connection.

mod accept;
mod activity;
mod admission;
#[cfg(feature = "server")]
mod descriptors;
mod place;
pub mod proxy_protocol;
mod socket;
mod timed_stream;
#[cfg(any(feature = "gateway", feature = "admin"))]
pub mod tls;
mod unix_socket;

pub use accept::{Accept, AcceptLoop, AcceptedConnection, OpenConnections, StopTimes};
pub use activity::{ActiveStream, Activity};
pub use admission::{Admission, Admitted, ConnectionMetrics, Refused};
#[cfg(feature = "server")]
pub use descriptors::{ConnectionShares, Descriptors};
pub use place::Place;
pub use socket::ListeningSocket;
pub use timed_stream::{ConnectionTimes, TimedStream};
pub use unix_socket::{KeptPath, UnixSocket};
