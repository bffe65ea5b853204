//! One request as pingora reads it: the head that was parsed and serialized, and the body that belongs to it.
//!
//! pingora sees no byte after the request. What the client sends later is held back, and goes back to the owner of the connection together
//! with the connection when pingora drops the stream.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf, Bytes, BytesMut};
use parking_lot::Mutex;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream, TimingDigest,
    UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::body::{Body, Filtered};
use super::head::Head;
use super::response_frames::ResponseFrames;
use super::write_buffer::WriteBuffer;
use crate::config::ListenerLimits;
use crate::gateway::deadline::{Deadlines, Timer};
use crate::gateway::ending::OutputPosition;
use crate::gateway::request_state::Progress;

/// How many bytes of later requests are held while a request is processed.
const HELD_MAX: usize = 64 * 1024;
/// How much is read at once while a request is processed.
const PROBE: usize = 4 * 1024;
/// How long a request goes on after the client has closed its side of the connection.
const HALF_CLOSED_LIMIT: Duration = Duration::from_secs(10);

/// A request as a stream.
pub(super) struct RequestStream {
    /// `None` after it was returned.
    connection: Option<Stream>,
    head: Bytes,
    body: Body,
    /// What was received after the head and was not read yet; after the end of the body, what belongs to later requests.
    received: BytesMut,
    output: WriteBuffer,
    shared: Arc<Shared>,
    /// The time that was spent waiting for the body.
    waited: Duration,
    /// When the wait for the body began that goes on.
    waiting_since: Option<Duration>,
    body_bytes: u64,
    response: Response,
    /// How many bytes of the final head are left to be written.
    head_left: usize,
    /// The frames of the response, if it is a live stream.
    frames: Option<ResponseFrames>,
    /// Whether the client has closed its side.
    is_half_closed: bool,
    /// Wakes the reader when the stream becomes a tunnel, and at the end of an early response.
    reader: Option<Waker>,
}

/// How far the response is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Response {
    /// No final head was written.
    None,
    /// The final head was written.
    Begun,
    /// Everything was written, as [`Progress`] says.
    Complete,
    /// The connection was switched to another protocol.
    Tunnel,
}

/// Where the connection is put when the request has ended.
#[derive(Debug, Default)]
pub(super) struct Slot(Mutex<Option<Returned>>);

/// A connection after a request.
#[derive(Debug)]
pub(super) struct Returned {
    pub(super) connection: Stream,
    /// What the client has sent after the request.
    pub(super) received: BytesMut,
    /// Whether the body was read to its end.
    pub(super) is_body_read: bool,
    /// Whether a final response head was written.
    pub(super) is_answered: bool,
    /// Whether the client has closed its side.
    pub(super) is_half_closed: bool,
    /// What was written and not sent.
    pub(super) output: WriteBuffer,
    /// The frames of the response, if it is a live stream.
    pub(super) frames: Option<ResponseFrames>,
}

impl Slot {
    pub(super) fn take(&self) -> Option<Returned> {
        self.0.lock().take()
    }
}

/// What all requests of a connection share.
pub(super) struct Shared {
    pub(super) deadlines: Arc<Deadlines>,
    pub(super) limits: ListenerLimits,
    pub(super) progress: Arc<Progress>,
    pub(super) slot: Slot,
}

impl RequestStream {
    /// A request on a connection; `received` is what has arrived after its head.
    pub(super) fn new(connection: Stream, head: Head, received: BytesMut, shared: &Arc<Shared>) -> Self {
        shared.progress.reset();
        shared.deadlines.clear(Timer::Read);
        Self {
            connection: Some(connection),
            head: head.bytes,
            body: head.body,
            received,
            output: WriteBuffer::default(),
            shared: Arc::clone(shared),
            waited: Duration::ZERO,
            waiting_since: None,
            body_bytes: 0,
            response: Response::None,
            head_left: 0,
            frames: None,
            is_half_closed: false,
            reader: None,
        }
    }

    /// Sets the head that is read before the body.
    pub(super) fn set_head(&mut self, head: Bytes) {
        self.head = head;
    }

    /// Whether the body was read to its end.
    pub(super) fn is_body_read(&self) -> bool {
        self.body.is_done()
    }

    /// How much of the body is left, if its length is known.
    pub(super) fn body_left(&self) -> Option<u64> {
        match self.body {
            Body::Length(left) => Some(left),
            Body::Done => Some(0),
            Body::Chunked(_) => None,
        }
    }

    /// The limits of the listener.
    pub(super) fn limits(&self) -> &ListenerLimits {
        &self.shared.limits
    }

    /// How many bytes of the body were read.
    pub(super) fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    /// The time of the coarse clock.
    pub(super) fn now(&self) -> Duration {
        self.shared.deadlines.now()
    }

    /// Ready when the response is late that has not begun.
    pub(super) fn poll_late(&self, context: &Context<'_>) -> Poll<io::Error> {
        if self.response == Response::None { self.shared.progress.ending.poll_late(context) } else { Poll::Pending }
    }

    /// Whether the gateway stops.
    pub(super) fn is_stopping(&self) -> bool {
        self.shared.deadlines.clock().is_stopping()
    }

    fn connection(&mut self) -> io::Result<&mut Stream> {
        self.connection.as_mut().ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))
    }

    /// Reads into `buffer` what the client has sent. Counts the wait as one for the body.
    fn poll_body_bytes(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        let before = buffer.filled().len();
        match Pin::new(self.connection()?).poll_read(context, buffer) {
            Poll::Ready(result) => {
                if let Some(since) = self.waiting_since.take() {
                    self.waited += self.shared.deadlines.now().saturating_sub(since);
                    self.shared.deadlines.clear(Timer::Read);
                }
                Poll::Ready(result.map(|()| buffer.filled().len() - before))
            }
            Poll::Pending => {
                if self.waiting_since.is_none() {
                    self.waiting_since = Some(self.shared.deadlines.now());
                    self.shared.deadlines.set(Timer::Read, self.body_limit());
                }
                self.shared.deadlines.poll_exceeded(Timer::Read, context).map(|()| Err(Deadlines::error()))
            }
        }
    }

    /// How long the next bytes of the body may take: the idle limit, or less if the body has been slower than the lowest rate.
    fn body_limit(&self) -> Duration {
        let idle = self.shared.limits.body_idle_timeout.0;
        let Some(seconds) = self.body_bytes.checked_div(self.shared.limits.body_rate.into()) else { return idle };
        idle.min((idle + Duration::from_secs(seconds)).saturating_sub(self.waited))
    }

    fn poll_body(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.response == Response::Complete {
                // The rest of the upload is of no use to the upstream any more.
                return Poll::Ready(Err(io::Error::from(io::ErrorKind::ConnectionAborted)));
            }
            let before = buffer.filled().len();
            let is_received = !self.received.is_empty();
            if is_received {
                let length = self.received.len().min(buffer.remaining());
                buffer.put_slice(&self.received[..length]);
            } else {
                self.reader = Some(context.waker().clone());
                if ready!(self.poll_body_bytes(context, buffer))? == 0 {
                    return Poll::Ready(Err(io::Error::from(io::ErrorKind::UnexpectedEof)));
                }
            }
            let Filtered { kept, consumed, .. } = self.body.filter(&mut buffer.filled_mut()[before..])?;
            if is_received {
                self.received.advance(consumed);
            } else {
                self.received.extend_from_slice(&buffer.filled()[before + consumed..]);
            }
            buffer.set_filled(before + kept);
            self.body_bytes += kept as u64;
            if kept > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Waits for the end of the connection after the body was read. Ready with an error as well when the response is late that has not begun.
    ///
    /// # Errors
    /// Those of the connection, and [`LateResponse`](crate::gateway::ending::LateResponse).
    pub(super) fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(error) = self.poll_late(context) {
            return Poll::Ready(Err(error));
        }
        self.poll_after_body(context)
    }

    /// Waits for the end of the connection, and holds what arrives until then.
    fn poll_after_body(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.is_half_closed && self.received.len() < HELD_MAX {
            let mut bytes = [std::mem::MaybeUninit::<u8>::uninit(); PROBE];
            let mut probe = ReadBuf::uninit(&mut bytes);
            match Pin::new(self.connection()?).poll_read(context, &mut probe) {
                Poll::Ready(Ok(())) if probe.filled().is_empty() => {
                    self.is_half_closed = true;
                    self.shared.deadlines.set(Timer::Read, HALF_CLOSED_LIMIT);
                }
                Poll::Ready(Ok(())) => self.received.extend_from_slice(probe.filled()),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        // The client may still read. At the end of the limit pingora sees the end of the connection and gives up.
        self.shared.deadlines.poll_exceeded(Timer::Read, context).map(Ok)
    }

    fn poll_tunnel(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.received.is_empty() {
            let length = self.received.len().min(buffer.remaining());
            buffer.put_slice(&self.received.split_to(length));
            return Poll::Ready(Ok(()));
        }
        if self.is_half_closed {
            return Poll::Ready(Ok(()));
        }
        Pin::new(self.connection()?).poll_read(context, buffer)
    }

    /// How many bytes may be written: when the exchange is to be ended, only those of the frame that was begun.
    fn writable(&self, bytes: &[u8]) -> usize {
        match &self.frames {
            Some(frames) if self.head_left == 0 && self.shared.progress.ending.reason().is_some() => {
                frames.rest_of_frame(bytes)
            }
            _ => bytes.len(),
        }
    }

    /// Notes what was written of a live stream.
    fn follow_frames(&mut self, written: &[u8]) {
        let of_head = written.len().min(self.head_left);
        self.head_left -= of_head;
        if let Some(frames) = &mut self.frames {
            frames.advance(&written[of_head..]);
            let is_at_boundary = self.head_left == 0 && frames.is_at_boundary();
            let position = if is_at_boundary { OutputPosition::Boundary } else { OutputPosition::Inside };
            self.shared.progress.ending.set_output(position);
        }
    }

    /// Notes what a write begins. pingora writes each head at once.
    fn observe(&mut self, bytes: &[u8]) {
        if self.response != Response::None || bytes.is_empty() {
            return;
        }
        if let Some(framing) = self.shared.progress.framing() {
            self.head_left = bytes.len();
            self.frames = Some(ResponseFrames::new(framing));
        }
        let is_informational = bytes.starts_with(b"HTTP/1.1 1");
        if bytes.starts_with(b"HTTP/1.1 101") {
            self.response = Response::Tunnel;
            self.shared.deadlines.clear(Timer::Read);
            self.wake_reader();
        } else if !is_informational {
            self.response = Response::Begun;
        }
    }

    /// Writes a part of the response. A small one is held until the next flush, unless it is the last one.
    pub(super) fn poll_write_part(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[u8],
        is_last: bool,
    ) -> Poll<io::Result<usize>> {
        let writable = self.writable(bytes);
        if writable < bytes.len() && writable == 0 {
            // The owner of the connection ends the exchange next.
            return Poll::Pending;
        }
        let connection = self.connection.as_mut().ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))?;
        let result = self.output.poll_write(Pin::new(connection), context, (&bytes[..writable], is_last));
        if let Poll::Ready(Ok(written)) = result {
            self.observe(bytes);
            self.follow_frames(&bytes[..written]);
        }
        self.limit_write(context, result)
    }

    /// Sends a whole response, or what is left of one.
    ///
    /// # Errors
    /// Those of the connection, and of a client that does not read.
    pub(super) async fn send_last(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let sent = poll_fn(|context| self.poll_write_part(context, bytes, true)).await?;
            bytes = &bytes[sent..];
        }
        poll_fn(|context| Pin::new(&mut *self).poll_flush(context)).await
    }

    fn wake_reader(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// Limits how long the client may read nothing.
    fn limit_write<T>(&mut self, context: &Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.shared.deadlines.clear(Timer::Write);
            return result;
        }
        self.shared.deadlines.set_if_unset(Timer::Write, || self.shared.limits.response_stall_timeout.0);
        self.shared.deadlines.poll_exceeded(Timer::Write, context).map(|()| Err(Deadlines::error()))
    }
}

impl AsyncRead for RequestStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.head.is_empty() {
            let length = self.head.len().min(buffer.remaining());
            buffer.put_slice(&self.head.split_to(length));
            return Poll::Ready(Ok(()));
        }
        if let Poll::Ready(error) = self.poll_late(context) {
            return Poll::Ready(Err(error));
        }
        if self.response == Response::Tunnel {
            self.poll_tunnel(context, buffer)
        } else if self.body.is_done() {
            self.reader = Some(context.waker().clone());
            self.poll_after_body(context)
        } else {
            self.poll_body(context, buffer)
        }
    }
}

impl AsyncWrite for RequestStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_part(context, bytes, false)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let connection = this.connection.as_mut().ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))?;
        let result = this.output.poll_flush(Pin::new(connection), context);
        let is_complete = this.response == Response::Begun && this.shared.progress.is_last_part();
        if let Poll::Ready(Ok(())) = result
            && is_complete
        {
            this.response = Response::Complete;
            this.wake_reader();
        }
        this.limit_write(context, result)
    }

    /// Only writes what is left: the owner of the connection closes it.
    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(context)
    }
}

#[async_trait]
impl Shutdown for RequestStream {
    async fn shutdown(&mut self) {
        let _ = tokio::io::AsyncWriteExt::flush(self).await;
    }
}

impl Drop for RequestStream {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        for timer in [Timer::Read, Timer::Write, Timer::Exchange] {
            self.shared.deadlines.clear(timer);
        }
        *self.shared.slot.0.lock() = Some(Returned {
            connection,
            received: std::mem::take(&mut self.received),
            is_body_read: self.body.is_done() && self.head.is_empty() && self.response != Response::Tunnel,
            is_answered: self.response != Response::None,
            is_half_closed: self.is_half_closed,
            output: std::mem::take(&mut self.output),
            frames: self.frames.take().filter(|_| self.head_left == 0),
        });
    }
}

impl fmt::Debug for RequestStream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("RequestStream").field("body", &self.body).finish_non_exhaustive()
    }
}

impl UniqueID for RequestStream {
    fn id(&self) -> UniqueIDType {
        self.connection.as_ref().map_or(0, |connection| connection.id())
    }
}

/// TLS ends before this stream.
impl Ssl for RequestStream {}

impl Peek for RequestStream {}

impl GetTimingDigest for RequestStream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for RequestStream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for RequestStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.connection.as_ref()?.get_socket_digest()
    }
}

#[cfg(test)]
mod tests;
