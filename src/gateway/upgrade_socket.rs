//! The connection to an upstream for a request that upgrades it.
//!
//! pingora 0.9.1 ends an upgraded connection at the end of the request, and takes the end of a request without a body for it if it notes
//! that end after the response 101. So the response is not read before pingora has noted the end of the request, which it does with its
//! second flush: the first one is of the head. Such a connection is not shared with other requests.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use async_trait::async_trait;
use atomic_waker::AtomicWaker;
use pingora::connectors::L4Connect;
use pingora::protocols::l4::ext::set_tcp_keepalive;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::protocols::l4::stream::Stream;
use pingora::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// How many flushes a request without a body has: of its head, and at its end.
const FLUSHES: u8 = 2;

/// Holds back the response until the end of the request was noted.
#[derive(Debug, Default)]
pub(super) struct ResponseGate {
    /// How many flushes are left before the response is read.
    left: AtomicU8,
    reader: AtomicWaker,
}

/// Connects for a request that upgrades the connection.
#[derive(Debug)]
struct UpgradeConnector(Arc<ResponseGate>);

#[derive(Debug)]
struct UpgradeSocket {
    socket: Socket,
    gate: Arc<ResponseGate>,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl ResponseGate {
    /// Prepares a peer for a request that upgrades the connection. `group` is the group of pooled connections of this request alone.
    pub(super) fn of_peer(peer: &mut HttpPeer, group: u64) -> Arc<Self> {
        let gate = Arc::new(Self::default());
        peer.options.custom_l4 = Some(Arc::new(UpgradeConnector(Arc::clone(&gate))));
        peer.options.set_http_version(1, 1);
        peer.group_key = group;
        peer.options.idle_timeout = Some(std::time::Duration::ZERO);
        gate
    }

    /// Closes the gate, before the head of a request without a body is written.
    pub(super) fn close(&self) {
        self.left.store(FLUSHES, Ordering::Relaxed);
    }

    fn note_flush(&self) {
        let left = self.left.load(Ordering::Relaxed);
        self.left.store(left.saturating_sub(1), Ordering::Release);
        if left == 1 {
            self.reader.wake();
        }
    }

    fn poll_open(&self, context: &Context<'_>) -> Poll<()> {
        if self.left.load(Ordering::Acquire) == 0 {
            return Poll::Ready(());
        }
        self.reader.register(context.waker());
        if self.left.load(Ordering::Acquire) == 0 { Poll::Ready(()) } else { Poll::Pending }
    }
}

#[async_trait]
impl L4Connect for UpgradeConnector {
    async fn connect(&self, address: &SocketAddr) -> pingora::Result<Stream> {
        let socket = match address {
            SocketAddr::Inet(address) => TcpStream::connect(address).await.map(Socket::Tcp),
            SocketAddr::Unix(address) => match address.as_pathname() {
                Some(path) => UnixStream::connect(path).await.map(Socket::Unix),
                None => Err(io::Error::from(io::ErrorKind::AddrNotAvailable)),
            },
        };
        let socket = socket.map_err(|error| {
            let kind = match error.kind() {
                io::ErrorKind::ConnectionRefused => ErrorType::ConnectRefused,
                io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => ErrorType::ConnectNoRoute,
                _ => ErrorType::ConnectError,
            };
            Error::because(kind, "while connecting for an upgrade", error)
        })?;
        let socket = UpgradeSocket { socket, gate: Arc::clone(&self.0) };
        Ok(VirtualSocketStream::new(Box::new(socket)).into())
    }
}

impl VirtualSocket for UpgradeSocket {
    fn set_socket_option(&self, option: VirtualSockOpt) -> io::Result<()> {
        match (&self.socket, option) {
            (Socket::Tcp(stream), VirtualSockOpt::NoDelay) => stream.set_nodelay(true),
            (Socket::Tcp(stream), VirtualSockOpt::KeepAlive(keepalive)) => {
                set_tcp_keepalive(stream, &keepalive).map_err(io::Error::other)
            }
            _ => Ok(()),
        }
    }
}

impl AsyncRead for UpgradeSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        std::task::ready!(self.gate.poll_open(context));
        match &mut self.socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Socket::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for UpgradeSocket {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Socket::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Sockets have no buffer of their own.
        self.gate.note_flush();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Socket::Unix(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn response_is_read_after_the_second_flush() {
        let gate = ResponseGate::default();
        let poll = || gate.poll_open(&Context::from_waker(Waker::noop()));
        assert!(poll().is_ready(), "the handshake of TLS is before the request");
        gate.note_flush();
        gate.close();
        assert!(poll().is_pending());
        gate.note_flush();
        assert!(poll().is_pending());
        gate.note_flush();
        assert!(poll().is_ready());
        gate.note_flush();
        assert!(poll().is_ready());
    }
}
