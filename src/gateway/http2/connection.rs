//! An HTTP/2 connection: accepts its requests within limits and hands each to pingora.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use h2::server::Connection;
use pingora::apps::HttpServerApp;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{H2Accept, H2Options, HttpSession, handshake};
use pingora::protocols::{Digest, GetSocketDigest, SocketDigest, Stream};
use pingora::server::ShutdownWatch;

use super::body_watch::with_body_limit;
use super::stream::{Flood, Http2Stream};
use crate::config::ListenerLimits;
use crate::connection::ConnectionInfo;
use crate::gateway::deadline::{Deadlines, Timer};
use crate::gateway::ending::until_ended;
use crate::gateway::http1::Front;
use crate::gateway::request_state::{Origin, Progress, request_digest};
use crate::listener::{AcceptedConnection, Admitted};
use crate::pipeline::ResponseForm;

/// How many malformed requests end a connection.
const MALFORMED_MAX: usize = 100;
/// How much of a request body a client may send before it is read, in bytes: of one request, and of a connection.
const WINDOW: (u32, u32) = (64 * 1024, 1024 * 1024);
/// How much of a response is held for a client that does not read it, in bytes.
const SEND_BUFFER: usize = 64 * 1024;
/// How many requests that were reset before they were accepted are remembered; more end the connection.
const RESET_MAX: usize = 50;
/// How long the end of a connection may take after its last frame.
const END_LIMIT: Duration = Duration::from_secs(1);

/// Counts a request as active until it is dropped.
struct Active(Arc<AtomicUsize>);

impl Active {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why a connection accepts no more requests.
enum Stop {
    /// The client has closed it, or has violated the protocol.
    Closed,
    /// Limits of time or number, or the end of the process: active requests go on.
    Gracefully,
    /// The client sends too much that is not requests.
    Abruptly,
}

/// Serves a connection to its end.
pub(in crate::gateway) async fn serve(
    front: &Front,
    stream: Http2Stream,
    info: Arc<ConnectionInfo>,
    accepted: &AcceptedConnection,
) {
    let (admitted, shutdown) = (&**accepted.admitted(), accepted.closing());
    let limits = front.limits;
    let origin = Origin { info, trust: Arc::clone(&front.trust), limits };
    let (deadlines, flood, socket) =
        (Arc::clone(&stream.deadlines), Arc::clone(&stream.flood), stream.get_socket_digest());
    let handshake = handshake(Box::new(stream), Some(options(&limits)));
    let begun = tokio::select! {
        begun = tokio::time::timeout(limits.head_timeout.0, handshake) => begun,
        () = accepted.late() => return,
    };
    let Ok(Ok(connection)) = begun else { return };
    let opened = deadlines.now();
    let active = Arc::default();
    let (number, malformed, is_marked_idle, last_wait) = (0, 0, false, accepted.idle_limit());
    let mut requests = Requests {
        front,
        connection,
        origin,
        socket,
        admitted,
        shutdown,
        deadlines,
        flood,
        opened,
        active,
        number,
        malformed,
        is_marked_idle,
        last_wait,
    };
    match requests.accept().await {
        Stop::Closed => {}
        Stop::Gracefully => {
            requests.connection.graceful_shutdown();
            requests.drain(true).await;
        }
        Stop::Abruptly => {
            requests.connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
            let _ = tokio::time::timeout(END_LIMIT, requests.drain(false)).await;
        }
    }
}

fn options(limits: &ListenerLimits) -> H2Options {
    let mut options = H2Options::new();
    options
        .max_concurrent_streams(limits.http2_streams)
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        .initial_window_size(WINDOW.0)
        .initial_connection_window_size(WINDOW.1)
        .max_send_buffer_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(RESET_MAX)
        .max_local_error_reset_streams(Some(MALFORMED_MAX));
    options
}

struct Requests<'f> {
    front: &'f Front,
    connection: Connection<Stream, Bytes>,
    origin: Origin,
    socket: Option<Arc<SocketDigest>>,
    admitted: &'f Admitted,
    shutdown: &'f ShutdownWatch,
    deadlines: Arc<Deadlines>,
    flood: Arc<Flood>,
    opened: Duration,
    active: Arc<AtomicUsize>,
    number: u32,
    malformed: usize,
    is_marked_idle: bool,
    /// How long a connection may be silent after the stop.
    last_wait: Duration,
}

impl Requests<'_> {
    /// Accepts requests until the connection is to end.
    async fn accept(&mut self) -> Stop {
        loop {
            let rest = self.rest_of_age();
            if rest.is_zero() || self.number >= self.front.limits.requests_per_connection {
                return Stop::Gracefully;
            }
            self.deadlines.set(Timer::Read, self.idle_limit().min(rest));
            let progress = Arc::new(Progress::of_stream(&self.front.clock));
            match self.next(&progress).await {
                Ok(Ok(Some(H2Accept::Session(session)))) => self.start(session, progress),
                Ok(Ok(Some(H2Accept::Rejected))) if self.malformed < MALFORMED_MAX => self.malformed += 1,
                Ok(Ok(Some(H2Accept::Rejected))) => return Stop::Abruptly,
                Ok(Ok(None) | Err(_)) => return Stop::Closed,
                Err(stop) => return stop,
            }
        }
    }

    /// The next request of the client, or why there is none.
    async fn next(&mut self, progress: &Arc<Progress>) -> Result<pingora::Result<Option<H2Accept>>, Stop> {
        let digest = self.digest(progress);
        let (limits, opened) = (self.front.limits, self.opened);
        let (deadlines, flood, active, admitted) = (&self.deadlines, &self.flood, &self.active, self.admitted);
        let may_be_idle = self.number > 0;
        let is_marked_idle = &mut self.is_marked_idle;
        let mut accepting = std::pin::pin!(HttpSession::from_h2_conn(&mut self.connection, digest));
        std::future::poll_fn(|context| {
            if let Poll::Ready(accepted) = accepting.as_mut().poll(context) {
                return Poll::Ready(Ok(accepted));
            }
            if flood.is_exceeded() {
                return Poll::Ready(Err(Stop::Abruptly));
            }
            let is_idle = active.load(Ordering::Relaxed) == 0;
            if is_idle && may_be_idle && !*is_marked_idle {
                *is_marked_idle = true;
                admitted.set_idle();
            }
            let is_evicted = admitted.poll_evicted(context).is_ready();
            let is_late = deadlines.poll_exceeded(Timer::Read, context).is_ready();
            let is_old = deadlines.now().saturating_sub(opened) >= limits.connection_age.0;
            if is_evicted || deadlines.clock().is_stopping() || (is_late && (is_idle || is_old)) {
                return Poll::Ready(Err(Stop::Gracefully));
            }
            if is_late {
                // Not idle: the clock looks again later.
                deadlines.set(Timer::Read, limits.idle_timeout.0);
            }
            Poll::Pending
        })
        .await
    }

    /// Drives the connection until its active requests have ended, and a little longer: clients need not confirm the end.
    async fn drain(&mut self, starts_requests: bool) {
        self.deadlines.clear(Timer::Read);
        loop {
            let progress = Arc::new(Progress::of_stream(&self.front.clock));
            match self.next_of_the_last(&progress).await {
                // The client has sent it before it received the last frame.
                Some(H2Accept::Session(session)) if starts_requests => {
                    self.deadlines.clear(Timer::Read);
                    self.start(session, progress);
                }
                Some(_) => {}
                None => return,
            }
        }
    }

    /// The next request of a connection that is ending; `None` at its end.
    async fn next_of_the_last(&mut self, progress: &Arc<Progress>) -> Option<H2Accept> {
        let digest = self.digest(progress);
        let mut accepting = std::pin::pin!(HttpSession::from_h2_conn(&mut self.connection, digest));
        let (deadlines, active) = (&self.deadlines, &self.active);
        // A client may send requests until it has received the last frame, and a stop is not its fault.
        let limit = if deadlines.clock().is_stopping() { self.last_wait.max(END_LIMIT) } else { END_LIMIT };
        std::future::poll_fn(|context| {
            if let Poll::Ready(accepted) = accepting.as_mut().poll(context) {
                return Poll::Ready(accepted.ok().flatten());
            }
            if active.load(Ordering::Relaxed) == 0 {
                deadlines.set_if_unset(Timer::Read, || limit);
            }
            deadlines.poll_exceeded(Timer::Read, context).map(|()| None)
        })
        .await
    }

    fn digest(&self, progress: &Arc<Progress>) -> Arc<Digest> {
        Arc::new(Digest {
            ssl_digest: None,
            timing_digest: Vec::new(),
            proxy_digest: request_digest(self.origin.clone(), Arc::clone(progress)),
            socket_digest: self.socket.clone(),
        })
    }

    fn rest_of_age(&self) -> Duration {
        let age = self.deadlines.now().saturating_sub(self.opened);
        self.front.limits.connection_age.0.saturating_sub(age)
    }

    fn idle_limit(&self) -> Duration {
        let limits = &self.front.limits;
        if self.number == 0 { limits.head_timeout.0 } else { limits.idle_timeout.0 }
    }

    fn start(&mut self, session: HttpSession, progress: Arc<Progress>) {
        self.number = self.number.saturating_add(1);
        let limits = self.front.limits;
        // A call may send and receive as it likes; its idle time is limited.
        let is_grpc = ResponseForm::of(&session.req_header().headers) == ResponseForm::Grpc;
        let limits_body = !session.is_body_empty() && !is_grpc;
        let mut session = ServerSession::new_http2(session);
        session.set_write_timeout(Some(limits.response_stall_timeout.0));
        let (proxy, shutdown) = (Arc::clone(&self.front.proxy), self.shutdown.clone());
        let active = Active::new(&self.active);
        self.is_marked_idle = false;
        self.admitted.set_active();
        tokio::spawn(async move {
            let _active = active;
            let request = async {
                let exchange = proxy.process_new_http(session, &shutdown);
                // The stream is reset when the exchange is dropped.
                let _ = until_ended(pin!(exchange), &progress.ending, || progress.is_answered()).await;
            };
            if limits_body {
                with_body_limit(request, &progress, &limits).await;
            } else {
                request.await;
            }
        });
    }
}
