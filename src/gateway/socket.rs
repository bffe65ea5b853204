//! A socket or a TLS connection as pingora reads it: of a client, and of an endpoint without TLS. It is unbuffered, so that a silent connection
//! holds no memory. pingora knows nothing of its TLS.

use std::fmt;
use std::io;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream, TimingDigest,
    UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use crate::listener::tls::TlsStream;

/// A socket, or a TLS connection on one.
pub(super) struct Socket<S, C = ()> {
    stream: S,
    id: UniqueIDType,
    /// Counts the socket until it is dropped.
    _counted: C,
}

impl<S: AsRawFd> Socket<S> {
    pub(super) fn new(stream: S) -> Self {
        Self::counted(stream, ())
    }
}

impl<S: AsRawFd, C> Socket<S, C> {
    /// A socket that is counted until `counted` is dropped.
    pub(super) fn counted(stream: S, counted: C) -> Self {
        let id = stream.as_raw_fd();
        Self { stream, id, _counted: counted }
    }
}

impl Socket<TlsStream<Stream>> {
    pub(super) fn with_tls(stream: TlsStream<Stream>) -> Self {
        let id = stream.get_ref().0.id();
        Self { stream, id, _counted: () }
    }
}

impl<S: AsyncRead + Unpin, C: Unpin> AsyncRead for Socket<S, C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin, C: Unpin> AsyncWrite for Socket<S, C> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[async_trait]
impl<S: AsyncWrite + Unpin + Send, C: Send> Shutdown for Socket<S, C> {
    async fn shutdown(&mut self) {
        let _ = AsyncWriteExt::shutdown(&mut self.stream).await;
    }
}

impl<S, C> fmt::Debug for Socket<S, C> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Socket").field("id", &self.id).finish_non_exhaustive()
    }
}

impl<S, C> UniqueID for Socket<S, C> {
    fn id(&self) -> UniqueIDType {
        self.id
    }
}

impl<S, C> Ssl for Socket<S, C> {}

impl<S, C> Peek for Socket<S, C> {}

impl<S, C> GetTimingDigest for Socket<S, C> {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl<S, C> GetProxyDigest for Socket<S, C> {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

/// The front has the addresses from elsewhere.
impl<S, C> GetSocketDigest for Socket<S, C> {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        None
    }
}
