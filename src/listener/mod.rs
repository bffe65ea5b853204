//! What all listeners share: sockets, and the steps of a new connection before its first request.

mod socket;
mod unix_socket;

pub use socket::ListeningSocket;
pub use unix_socket::UnixSocket;
