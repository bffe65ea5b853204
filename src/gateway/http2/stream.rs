//! An HTTP/2 connection as pingora reads it.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::BytesMut;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream, TimingDigest,
    UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frames::FrameCounter;
use crate::gateway::deadline::{Clock, Deadlines, Timer};

/// A connection whose client speaks HTTP/2, by ALPN or with prior knowledge.
pub(in crate::gateway) struct Http2Stream {
    connection: Stream,
    /// What was received already.
    received: BytesMut,
    pub(super) deadlines: Arc<Deadlines>,
    stall_limit: Duration,
    frames: FrameCounter,
    pub(super) flood: Arc<Flood>,
}

/// Whether the client has sent more frames than its budget allows. Nothing more is read then.
#[derive(Debug, Default)]
pub(super) struct Flood {
    is_exceeded: AtomicBool,
}

impl Flood {
    pub(super) fn is_exceeded(&self) -> bool {
        self.is_exceeded.load(Ordering::Relaxed)
    }
}

impl Http2Stream {
    /// `received` are the first bytes, which were read to find out the protocol. A client that reads nothing for `stall_limit` is given
    /// up.
    pub(in crate::gateway) fn new(
        connection: Stream,
        received: BytesMut,
        clock: &Arc<Clock>,
        stall_limit: Duration,
    ) -> Self {
        let deadlines = Arc::new(Deadlines::new(clock));
        let frames = FrameCounter::new(deadlines.now());
        Self { connection, received, deadlines, stall_limit, frames, flood: Arc::default() }
    }

    /// Counts the frames in received bytes.
    fn count(&mut self, bytes: &[u8], context: &Context<'_>) {
        if !self.frames.accept(bytes, self.deadlines.now()) {
            self.flood.is_exceeded.store(true, Ordering::Relaxed);
            // The owner of the connection is the same task; it looks once more.
            context.waker().wake_by_ref();
        }
    }

    /// Limits how long the client may read nothing, and counts what it has read.
    fn limit_write(&mut self, context: &Context<'_>, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(result) = result {
            self.deadlines.clear(Timer::Write);
            self.frames.note_sent(*result.as_ref().unwrap_or(&0));
            return Poll::Ready(result);
        }
        self.deadlines.set_if_unset(Timer::Write, || self.stall_limit);
        self.deadlines.poll_exceeded(Timer::Write, context).map(|()| Err(Deadlines::error()))
    }
}

impl AsyncRead for Http2Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.flood.is_exceeded() {
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        if this.received.is_empty() {
            ready!(Pin::new(&mut this.connection).poll_read(context, buffer))?;
        } else {
            let length = this.received.len().min(buffer.remaining());
            buffer.put_slice(&this.received.split_to(length));
        }
        this.count(&buffer.filled()[before..], context);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Http2Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.connection).poll_write(context, bytes);
        self.limit_write(context, result)
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
        let result = Pin::new(&mut self.connection).poll_write_vectored(context, slices);
        self.limit_write(context, result)
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

/// Each request gets its own.
impl GetProxyDigest for Http2Stream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for Http2Stream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.connection.get_socket_digest()
    }
}
