//! The connection to an upstream for a request that upgrades it.
//!
//! pingora 0.9.1 ends an upgraded connection at the end of the request, and takes the end of a request without a body for it if it notes
//! that end after the response 101. So the response is not read before pingora has noted the end of the request, which it does with its
//! second flush: the first one is of the head. Such a connection is not shared with other requests.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use atomic_waker::AtomicWaker;
use pingora::connectors::L4Connect;
use pingora::protocols::TcpKeepalive;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::protocols::l4::stream::Stream;
use pingora::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::upstream::use_new_connection;

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
struct UpgradeConnector {
    gate: Arc<ResponseGate>,
    connector: Option<Arc<dyn L4Connect + Send + Sync>>,
    keepalive: Option<TcpKeepalive>,
}

#[derive(Debug)]
struct UpgradeSocket {
    socket: Stream,
    gate: Arc<ResponseGate>,
}

impl ResponseGate {
    /// Prepares a peer for a request that upgrades the connection.
    pub(super) fn of_peer(peer: &mut HttpPeer) -> Arc<Self> {
        let gate = Arc::new(Self::default());
        use_new_connection(peer);
        let options = &mut peer.options;
        let connector = UpgradeConnector {
            gate: Arc::clone(&gate),
            connector: options.custom_l4.take(),
            keepalive: options.tcp_keepalive.clone(),
        };
        options.custom_l4 = Some(Arc::new(connector));
        options.set_http_version(1, 1);
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
        let connector = self.connector.as_ref().ok_or_else(|| Error::new(ErrorType::ConnectError))?;
        let mut socket = connector.connect(address).await?;
        socket.set_nodelay()?;
        if let Some(keepalive) = &self.keepalive {
            socket.set_keepalive(keepalive)?;
        }
        let socket = UpgradeSocket { socket, gate: Arc::clone(&self.gate) };
        Ok(VirtualSocketStream::new(Box::new(socket)).into())
    }
}

impl VirtualSocket for UpgradeSocket {
    /// The connector has set all options.
    fn set_socket_option(&self, _: VirtualSockOpt) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncRead for UpgradeSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.gate.poll_open(context));
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl AsyncWrite for UpgradeSocket {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.socket).poll_flush(context))?;
        self.gate.note_flush();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
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
