//! An HTTP/1.1 connection: reads the head of each request, hands the request to pingora, and owns the connection between requests.

use std::any::Any;
use std::io;
use std::mem::MaybeUninit;
use std::ops::ControlFlow;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use pingora::apps::HttpServerApp;
use pingora::connectors::TransportConnector;
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};

use super::error::HeadError;
use super::fields::FieldStorage;
use super::head::ParsedHead;
use super::plain::{self, Begun, Finished, Received};
use super::rare_stage::rare_stage;
use super::receive::poll_receive;
use super::refusal::closing_response;
use super::request_stream::{RequestStream, Returned, Shared, Slot};
use super::response_frames::ResponseFrames;
use super::scan::HeadScan;
use super::write_buffer::WriteBuffer;
use crate::config::ListenerLimits;
use crate::connection::ConnectionInfo;
use crate::gateway::deadline::{Clock, Deadlines, Timer};
use crate::gateway::ending::until_ended;
use crate::gateway::pingora::Proxy;
use crate::gateway::request_state::{ConnectionState, Progress};
use crate::gateway::stopping::LastWait;
use crate::gateway::upstream::RouteUpstream;
use crate::listener::{AcceptedConnection, Admitted};
use crate::pipeline::live_streams::EndReason;
use crate::pipeline::{CurrentSnapshot, ListenerTrust, Rejection, UnreadRequest};

/// How much of a head is read at once.
const READ: usize = 8 * 1024;
/// How long the rest of a request is read after the last response, so that the client receives the response.
const LINGER_LIMIT: Duration = Duration::from_secs(2);
/// How much of it is read.
const LINGER_MAX: usize = 1024 * 1024;
/// How long a client may take to read the end of a response that was broken off.
const LAST_PART_LIMIT: Duration = Duration::from_secs(1);
/// How long an old connection may still be idle: the client may have sent a request already.
const LAST_IDLE_LIMIT: Duration = Duration::from_secs(1);
/// The first bytes of an HTTP/2 connection (RFC 9113 section 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What all connections of a listener share.
pub(crate) struct Front {
    pub(crate) proxy: Arc<HttpProxy<Proxy>>,
    pub(crate) snapshot: Arc<CurrentSnapshot<RouteUpstream>>,
    pub(crate) clock: Arc<Clock>,
    pub(crate) limits: ListenerLimits,
    pub(crate) trust: Arc<ListenerTrust>,
    pub(crate) http2: bool,
    /// Connects to upstreams for plain requests; `None` if pingora's proxy gets them, too.
    pub(crate) connector: Option<Arc<TransportConnector>>,
}

/// A connection and what was received on it.
pub(super) struct Connection<'f> {
    front: &'f Front,
    admitted: &'f Admitted,
    stream: Option<Stream>,
    received: BytesMut,
    info: Arc<ConnectionInfo>,
    shared: Arc<Shared>,
    /// What the proxy keeps from one request to the next.
    state: Option<Box<ConnectionState>>,
    opened: Duration,
    requests: u32,
    is_half_closed: bool,
    last_wait: LastWait,
}

/// The result of waiting for a request.
enum Next {
    /// The bytes of a head, and when the first of them arrived, if not all arrived at once.
    Request(BytesMut, Option<Instant>),
    Malformed(HeadError, Instant),
    Http2,
    End,
}

/// How a connection ends.
pub(crate) enum End {
    Closed,
    /// The client speaks HTTP/2. The bytes were received already.
    Http2(Stream, BytesMut),
}

/// Serves a connection to its end.
pub(crate) async fn serve(
    front: &Front,
    stream: Stream,
    info: Arc<ConnectionInfo>,
    accepted: &AcceptedConnection,
) -> End {
    let (admitted, shutdown) = (&**accepted.admitted(), accepted.closing());
    let deadlines = Arc::new(Deadlines::new(&front.clock));
    let progress = Arc::new(Progress::of_connection(&deadlines));
    let mut connection = Connection {
        front,
        admitted,
        stream: Some(stream),
        received: BytesMut::new(),
        info,
        opened: deadlines.now(),
        shared: Arc::new(Shared { deadlines, limits: front.limits, progress, slot: Slot::default() }),
        state: None,
        requests: 0,
        is_half_closed: false,
        last_wait: LastWait::new(accepted.idle_limit()),
    };
    loop {
        match connection.next().await {
            Next::Request(head, arrived) => {
                // A request that arrives as its connection is evicted is answered; it is the last one.
                admitted.set_active();
                let exchange = Box::pin(connection.exchange((head, arrived), shutdown));
                if exchange.await.is_break() {
                    return End::Closed;
                }
                admitted.set_idle();
            }
            Next::Malformed(error, arrived) => {
                rare_stage(connection.refuse(error, arrived)).await;
                return End::Closed;
            }
            Next::Http2 => {
                return connection.stream.map_or(End::Closed, |stream| End::Http2(stream, connection.received));
            }
            Next::End => return End::Closed,
        }
    }
}

impl<'f> Connection<'f> {
    /// Waits for the next request and reads its head.
    async fn next(&mut self) -> Next {
        let limits = self.shared.limits;
        let mut scan = HeadScan::default();
        let mut is_begun = !self.received.is_empty();
        let mut arrived = None;
        let is_first = self.requests == 0;
        let wait = if is_first || is_begun { limits.head_timeout.0 } else { self.idle_limit() };
        self.shared.deadlines.set(Timer::Read, wait);
        self.last_wait.begin();
        loop {
            if is_first && self.front.http2 && self.received.starts_with(HTTP2_PREFACE) {
                return Next::Http2;
            }
            let may_be_http2 = is_first && self.front.http2 && HTTP2_PREFACE.starts_with(&self.received);
            match scan.find(&self.received, &limits) {
                _ if may_be_http2 => {}
                // The clock is read only for heads that do not arrive at once.
                Ok(None) if is_begun => {
                    arrived.get_or_insert_with(Instant::now);
                }
                Ok(None) => {}
                Ok(Some(found)) => {
                    let is_all = found.end == self.received.len();
                    // A whole buffer needs no count of its users.
                    let mut head = std::mem::take(&mut self.received);
                    if !is_all {
                        self.received = head.split_off(found.end);
                    }
                    head.advance(found.start);
                    return Next::Request(head, arrived);
                }
                Err(error) => return Next::Malformed(error, arrived.unwrap_or_else(Instant::now)),
            }
            if self.is_half_closed {
                return Next::End;
            }
            match std::future::poll_fn(|context| self.poll_receive(context)).await {
                Ok(1..) if !is_begun => {
                    is_begun = true;
                    if !is_first || self.last_wait.is_limited() {
                        self.shared.deadlines.set(Timer::Read, limits.head_timeout.0);
                    }
                }
                Ok(1..) => {}
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    let late = || Next::Malformed(HeadError::Timeout, arrived.unwrap_or_else(Instant::now));
                    return if is_begun { late() } else { Next::End };
                }
                Ok(0) | Err(_) => return Next::End,
            }
        }
    }

    /// How long the connection may be idle: less than the idle limit if its age is near the limit.
    fn idle_limit(&self) -> Duration {
        let age = self.shared.deadlines.now().saturating_sub(self.opened);
        let rest = self.shared.limits.connection_age.0.saturating_sub(age);
        self.shared.limits.idle_timeout.0.min(rest.max(LAST_IDLE_LIMIT))
    }

    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(Ok(0)) };
        match poll_receive::<READ>(stream, &mut self.received, context) {
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => {
                if self.received.is_empty() {
                    self.received = BytesMut::new();
                }
                let deadlines = &self.shared.deadlines;
                let exceeded = deadlines.poll_exceeded(Timer::Read, context);
                let is_ended = self.received.is_empty()
                    && (self.last_wait.poll_exceeded(deadlines, context).is_ready()
                        || self.admitted.poll_evicted(context).is_ready());
                if exceeded.is_ready() || is_ended { Poll::Ready(Err(Deadlines::error())) } else { Poll::Pending }
            }
        }
    }

    /// Takes a request to its response. `Continue` if the connection can be used for another one.
    async fn exchange(
        &mut self,
        (head, arrived): (BytesMut, Option<Instant>),
        shutdown: &ShutdownWatch,
    ) -> ControlFlow<()> {
        self.requests += 1;
        let begun = match self.begin(head) {
            Ok(Some(begun)) => begun,
            Ok(None) => return ControlFlow::Break(()),
            Err(error) => {
                rare_stage(self.refuse(error, arrived.unwrap_or_else(Instant::now))).await;
                return ControlFlow::Break(());
            }
        };
        let progress = Arc::clone(&self.shared.progress);
        // The connection comes back when the exchange is dropped.
        let outcome = match begun {
            Begun::Plain(request) => {
                let running = pin!(request.run());
                let exchange = pin!(catch_panic(running));
                until_ended(exchange, &progress.ending, || progress.is_answered()).await
            }
            Begun::Proxy(stream, state) => {
                let running = pin!(self.proxy(stream, state, shutdown));
                let exchange = pin!(catch_panic(running));
                until_ended(exchange, &progress.ending, || progress.is_answered()).await
            }
        };
        let is_panicked = matches!(outcome, Ok(None));
        let ended = outcome.as_ref().err().copied();
        let mut is_reusable = false;
        if let Ok(Some(finished)) = outcome {
            is_reusable = finished.is_reusable;
            self.state = finished.state;
        }
        let Some(returned) = self.shared.slot.take() else { return ControlFlow::Break(()) };
        let Returned { connection, received, is_body_read, is_answered, is_half_closed, output, frames } = returned;
        self.stream = Some(connection);
        self.received = received;
        self.is_half_closed = is_half_closed;
        if is_reusable && is_body_read {
            return ControlFlow::Continue(());
        }
        let is_defect = is_panicked && !is_answered;
        rare_stage(async move {
            if is_answered {
                self.send_rest(output, ended.zip(frames.as_ref())).await;
            }
            if is_defect {
                tracing::error!(
                    "a request has failed because of a defect in this program; its client got no other response"
                );
                let arrived = arrived.unwrap_or_else(Instant::now);
                self.respond_unread("panic", &Rejection::InternalError, arrived).await;
            } else {
                self.close().await;
            }
        })
        .await;
        ControlFlow::Break(())
    }

    /// Parses a head and begins its request. `None` without a connection.
    ///
    /// # Errors
    /// [`HeadError`].
    #[inline(never)] // See `poll_caught`.
    fn begin(&mut self, bytes: BytesMut) -> Result<Option<Begun<'f>>, HeadError> {
        let front = self.front;
        let mut storage = FieldStorage::new();
        let head = ParsedHead::parse(&bytes, &mut storage, &self.shared.limits)?;
        let Some(stream) = self.stream.take() else { return Ok(None) };
        let state = self.state.take().unwrap_or_else(|| {
            let progress = Arc::clone(&self.shared.progress);
            Box::new(ConnectionState::new(&self.info, &self.front.trust, progress))
        });
        let connection = (stream, std::mem::take(&mut self.received));
        let received =
            Received { size: bytes.len(), connection, shared: &self.shared, is_last: self.is_last_request() };
        let mut begun = plain::begin(received, &head, state, &front.snapshot, front.connector.as_deref());
        if let Begun::Plain(request) = &mut begun {
            request.head = bytes;
        }
        Ok(Some(begun))
    }

    /// Passes a request to pingora.
    fn proxy<'s>(
        &'s self,
        stream: Box<RequestStream>,
        state: Box<ConnectionState>,
        shutdown: &'s ShutdownWatch,
    ) -> impl Future<Output = Finished> + Send + use<'s> {
        let mut session = ServerSession::new_http1(stream);
        // The limits of the stream apply.
        session.set_read_timeout(None);
        if self.is_last_request() {
            session.set_keepalive_reuses_remaining(Some(0));
        }
        session.set_connection_user_context(Some(state as Box<dyn Any + Send + Sync>));
        let exchange = self.front.proxy.process_new_http(session, shutdown);
        async move {
            let Some(reused) = exchange.await else { return Finished { is_reusable: false, state: None } };
            let (stream, settings) = reused.consume();
            drop(stream);
            let state = settings.and_then(|mut settings| settings.take_user_context());
            Finished { is_reusable: true, state: state.and_then(|state| state.downcast().ok()) }
        }
    }

    /// Sends what is left of a response that was broken off, and the end of a live stream, if the client reads.
    async fn send_rest(&mut self, mut output: WriteBuffer, stream_end: Option<(EndReason, &ResponseFrames)>) {
        let Some(stream) = &mut self.stream else { return };
        let last = stream_end.and_then(|(reason, frames)| frames.last_frame(reason.is_denial(), reason.code()));
        let written = async {
            std::future::poll_fn(|context| output.poll_flush(Pin::new(&mut *stream), context)).await?;
            stream.write_all(&last.unwrap_or_default()).await?;
            stream.flush().await
        };
        let _ = tokio::time::timeout(LAST_PART_LIMIT, written).await;
    }

    fn is_last_request(&self) -> bool {
        let limits = &self.shared.limits;
        let age = self.shared.deadlines.now().saturating_sub(self.opened);
        self.requests >= limits.requests_per_connection
            || age >= limits.connection_age.0
            || self.shared.deadlines.clock().is_stopping()
            || self.admitted.is_evicted()
    }

    /// Answers a malformed request and closes the connection.
    async fn refuse(&mut self, error: HeadError, arrived: Instant) {
        self.respond_unread(error.reason(), &error.rejection(), arrived).await;
    }

    async fn respond_unread(&mut self, reason: &'static str, rejection: &Rejection, arrived: Instant) {
        let request = UnreadRequest { reason, client_ip: self.info.client, arrived };
        let response = self.front.snapshot.load().reject_unread(&request, rejection);
        if let Some(stream) = &mut self.stream {
            let limit = self.shared.limits.response_stall_timeout.0;
            let text = closing_response(&response);
            let written = async {
                stream.write_all(&text).await?;
                stream.flush().await
            };
            let _ = tokio::time::timeout(limit, written).await;
        }
        self.close().await;
    }

    /// Closes the connection: no more is sent; what the client still sends is read for a while, because a reset could destroy the
    /// response on its way (RFC 9112 section 9.6).
    async fn close(&mut self) {
        let Some(mut stream) = self.stream.take() else { return };
        let linger = async {
            AsyncWriteExt::shutdown(&mut stream).await?;
            let mut read = 0;
            while read < LINGER_MAX {
                match std::future::poll_fn(|context| poll_discard(&mut stream, context)).await? {
                    0 => break,
                    length => read += length,
                }
            }
            io::Result::Ok(())
        };
        let _ = tokio::time::timeout(LINGER_LIMIT, linger).await;
    }
}

fn poll_discard(stream: &mut Stream, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
    let mut bytes = [MaybeUninit::<u8>::uninit(); READ];
    let mut buffer = ReadBuf::uninit(&mut bytes);
    Pin::new(stream).poll_read(context, &mut buffer).map_ok(|()| buffer.filled().len())
}

/// The output of a future that is pinned where it is; `None` if it panics.
async fn catch_panic<F: Future>(mut future: Pin<&mut F>) -> Option<F::Output> {
    std::future::poll_fn(|context| poll_caught(future.as_mut(), context)).await
}

/// Polls a future; `None` if it panics.
///
/// The stages of a request are not inlined. With some profiles the compiler inlined all of them into the one function of the connection, whose
/// size cost a request a third more time in user mode.
#[inline(never)]
fn poll_caught<F: Future>(future: Pin<&mut F>, context: &mut Context<'_>) -> Poll<Option<F::Output>> {
    match std::panic::catch_unwind(AssertUnwindSafe(|| future.poll(context))) {
        Ok(poll) => poll.map(Some),
        Err(_) => Poll::Ready(None),
    }
}
