//! A bound socket of either kind.

use std::net::{SocketAddr, TcpListener};

use super::unix_socket::UnixSocket;

/// A bound socket that listens.
#[derive(Debug)]
pub enum ListeningSocket {
    /// A TCP socket.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixSocket),
}

impl ListeningSocket {
    /// The address of a TCP socket; `None` for a Unix socket.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }
}

impl From<UnixSocket> for ListeningSocket {
    fn from(socket: UnixSocket) -> Self {
        Self::Unix(socket)
    }
}

impl From<TcpListener> for ListeningSocket {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(listener)
    }
}
