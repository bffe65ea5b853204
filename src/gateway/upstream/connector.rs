//! Establishes the connections to an endpoint and counts them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use pingora::connectors::L4Connect;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::protocols::l4::stream::Stream;
use pingora::upstreams::peer::{Tracer, Tracing};
use pingora::{Error, ErrorType};
use tokio::net::{TcpStream, UnixStream};

/// The connections of an endpoint.
#[derive(Debug, Default)]
pub(super) struct ConnectionCounts {
    open: AtomicI64,
    in_use: AtomicI64,
}

/// Counts a request on a connection until it is dropped.
#[derive(Debug)]
pub(super) struct InUse(Arc<ConnectionCounts>);

/// Connects to an endpoint. It is shared by all peers of the endpoint, so that a request needs no tracer of its own.
#[derive(Debug)]
pub(super) struct Connector(pub(super) Arc<ConnectionCounts>);

/// Counts an open connection until it is dropped.
#[derive(Debug)]
pub(super) struct OpenConnection(Arc<ConnectionCounts>);

impl ConnectionCounts {
    /// The number of open connections.
    pub(super) fn open(&self) -> i64 {
        self.open.load(Ordering::Relaxed)
    }

    /// The number of open connections without a request. Requests that share a connection of HTTP/2 count as one connection each.
    pub(super) fn idle(&self) -> i64 {
        (self.open() - self.in_use.load(Ordering::Relaxed)).max(0)
    }

    /// Counts a request on a connection.
    pub(super) fn enter(self: &Arc<Self>) -> InUse {
        self.in_use.fetch_add(1, Ordering::Relaxed);
        InUse(Arc::clone(self))
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.in_use.fetch_sub(1, Ordering::Relaxed);
    }
}

#[async_trait]
impl L4Connect for Connector {
    async fn connect(&self, address: &SocketAddr) -> pingora::Result<Stream> {
        let mut stream: Stream = match address {
            SocketAddr::Inet(address) => connect_tcp(address).await?.into(),
            SocketAddr::Unix(address) => connect_unix(address).await?.into(),
        };
        stream.tracer = Some(Tracer(Box::new(OpenConnection::new(&self.0))));
        Ok(stream)
    }
}

/// Connects to an address.
///
/// # Errors
/// [`ErrorType::ConnectRefused`], [`ErrorType::ConnectTimedout`] and [`ErrorType::ConnectError`].
pub(super) async fn connect_tcp(address: &std::net::SocketAddr) -> pingora::Result<TcpStream> {
    TcpStream::connect(address).await.map_err(connect_error)
}

/// Connects to a Unix socket.
///
/// # Errors
/// As [`connect_tcp`], and [`ErrorType::SocketError`] for a socket without a path.
pub(super) async fn connect_unix(address: &std::os::unix::net::SocketAddr) -> pingora::Result<UnixStream> {
    let path = address.as_pathname().ok_or_else(|| Error::new(ErrorType::SocketError))?;
    UnixStream::connect(path).await.map_err(connect_error)
}

#[expect(clippy::unnecessary_box_returns, reason = "pingora takes its errors boxed")]
fn connect_error(error: io::Error) -> Box<Error> {
    let kind = match error.kind() {
        io::ErrorKind::ConnectionRefused => ErrorType::ConnectRefused,
        io::ErrorKind::TimedOut => ErrorType::ConnectTimedout,
        _ => ErrorType::ConnectError,
    };
    Error::because(kind, "connecting to an endpoint", error)
}

impl OpenConnection {
    /// Counts a connection as open.
    pub(super) fn new(connections: &Arc<ConnectionCounts>) -> Self {
        connections.open.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(connections))
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// pingora's stream drops it together with its socket.
impl Tracing for OpenConnection {
    fn on_connected(&self) {}

    fn on_disconnected(&self) {}

    fn boxed_clone(&self) -> Box<dyn Tracing> {
        Box::new(Self::new(&self.0))
    }
}
