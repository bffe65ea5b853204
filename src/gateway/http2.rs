//! An HTTP/2 connection as pingora reads it.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use http::StatusCode;
use pingora::http::ResponseHeader;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream, TimingDigest,
    UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::connection::ConnectionInfo;

/// A connection whose client speaks HTTP/2, by ALPN or with prior knowledge.
pub(super) struct Http2Stream {
    connection: Stream,
    /// What was received already.
    received: BytesMut,
    info: Arc<ConnectionInfo>,
}

impl Http2Stream {
    /// `received` are the first bytes, which were read to find out the protocol.
    pub(super) fn new(connection: Stream, received: BytesMut, info: Arc<ConnectionInfo>) -> Self {
        Self { connection, received, info }
    }
}

/// What the listener knows about the connection of an HTTP/2 request: pingora carries it from [`Http2Stream`] to the session.
pub(super) fn connection_info(digest: &ProxyDigest) -> Option<&Arc<ConnectionInfo>> {
    digest.user_data.as_ref()?.downcast_ref()
}

impl AsyncRead for Http2Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.received.is_empty() {
            let length = self.received.len().min(buffer.remaining());
            buffer.put_slice(&self.received[..length]);
            self.received.advance(length);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.connection).poll_read(context, buffer)
    }
}

impl AsyncWrite for Http2Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }
}

#[async_trait]
impl Shutdown for Http2Stream {
    async fn shutdown(&mut self) {
        self.connection.shutdown().await;
    }
}

impl fmt::Debug for Http2Stream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Http2Stream").finish_non_exhaustive()
    }
}

impl UniqueID for Http2Stream {
    fn id(&self) -> UniqueIDType {
        self.connection.id()
    }
}

impl Ssl for Http2Stream {
    /// Makes pingora serve HTTP/2, also on a connection in clear text.
    fn selected_alpn_proto(&self) -> Option<ALPN> {
        Some(ALPN::H2)
    }
}

impl Peek for Http2Stream {}

impl GetTimingDigest for Http2Stream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.connection.get_timing_digest()
    }
}

impl GetProxyDigest for Http2Stream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        let head = ResponseHeader::build(StatusCode::OK, Some(0)).ok()?;
        Some(Arc::new(ProxyDigest::new(Box::new(head), Some(Box::new(Arc::clone(&self.info))))))
    }
}

impl GetSocketDigest for Http2Stream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.connection.get_socket_digest()
    }
}
