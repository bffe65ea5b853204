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

/// Counts an open connection until pingora reports its end.
#[derive(Debug)]
struct OpenConnection(Arc<ConnectionCounts>);

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
            SocketAddr::Inet(address) => TcpStream::connect(address).await.map_err(connect_error)?.into(),
            SocketAddr::Unix(address) => {
                let path = address.as_pathname().ok_or_else(|| Error::new(ErrorType::SocketError))?;
                UnixStream::connect(path).await.map_err(connect_error)?.into()
            }
        };
        self.0.open.fetch_add(1, Ordering::Relaxed);
        stream.tracer = Some(Tracer(Box::new(OpenConnection(Arc::clone(&self.0)))));
        Ok(stream)
    }
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

impl Tracing for OpenConnection {
    fn on_connected(&self) {}

    fn on_disconnected(&self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }

    fn boxed_clone(&self) -> Box<dyn Tracing> {
        Box::new(Self(Arc::clone(&self.0)))
    }
}
