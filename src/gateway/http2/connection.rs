//! An HTTP/2 connection: accepts its requests within limits and hands each to pingora.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use h2::Reason;
use h2::server::Connection;
use pingora::apps::HttpServerApp;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{H2Accept, H2Options, HttpSession, handshake};
use pingora::protocols::{Digest, GetProxyDigest, GetSocketDigest, Stream};
use pingora::server::ShutdownWatch;

use super::{Flood, Http2Stream};
use crate::config::ListenerLimits;
use crate::gateway::http1::{Deadlines, Direction, Front};
use crate::listener::Admitted;

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
    admitted: &Admitted,
    shutdown: &ShutdownWatch,
) {
    let limits = front.limits;
    let digest = Arc::new(Digest {
        ssl_digest: None,
        timing_digest: Vec::new(),
        proxy_digest: stream.get_proxy_digest(),
        socket_digest: stream.get_socket_digest(),
    });
    let (deadlines, flood) = (Arc::clone(&stream.deadlines), Arc::clone(&stream.flood));
    let handshake = handshake(Box::new(stream), Some(options(&limits)));
    let Ok(Ok(mut connection)) = tokio::time::timeout(limits.head_timeout.0, handshake).await else { return };
    let mut requests = Requests {
        front,
        admitted,
        is_marked_idle: false,
        shutdown,
        digest,
        deadlines,
        flood,
        active: Arc::default(),
        number: 0,
        malformed: 0,
    };
    match requests.accept(&mut connection).await {
        Stop::Closed => {}
        Stop::Gracefully => {
            connection.graceful_shutdown();
            // Active requests have limits of their own.
            requests.drain(&mut connection).await;
        }
        Stop::Abruptly => {
            connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
            let _ = tokio::time::timeout(END_LIMIT, requests.drain(&mut connection)).await;
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
    admitted: &'f Admitted,
    is_marked_idle: bool,
    shutdown: &'f ShutdownWatch,
    digest: Arc<Digest>,
    deadlines: Arc<Deadlines>,
    flood: Arc<Flood>,
    active: Arc<AtomicUsize>,
    number: u32,
    malformed: usize,
}

impl Requests<'_> {
    /// Accepts requests until the connection is to end.
    async fn accept(&mut self, connection: &mut Connection<Stream, bytes::Bytes>) -> Stop {
        let limits = self.front.limits;
        let opened = self.deadlines.now();
        loop {
            let age = self.deadlines.now().saturating_sub(opened);
            let rest = limits.connection_age.0.saturating_sub(age);
            if rest.is_zero() || self.number >= limits.requests_per_connection {
                return Stop::Gracefully;
            }
            let wait = if self.number == 0 { limits.head_timeout.0 } else { limits.idle_timeout.0 };
            self.deadlines.set(Direction::Read, wait.min(rest));
            let accepted = {
                let mut accepting = std::pin::pin!(HttpSession::from_h2_conn(connection, Arc::clone(&self.digest)));
                std::future::poll_fn(|context| {
                    if let Poll::Ready(accepted) = accepting.as_mut().poll(context) {
                        return Poll::Ready(Ok(accepted));
                    }
                    if self.flood.is_exceeded() {
                        return Poll::Ready(Err(Stop::Abruptly));
                    }
                    let exceeded = self.deadlines.poll_exceeded(Direction::Read, context).is_ready();
                    self.mark_idle();
                    let is_evicted = self.admitted.poll_evicted(context).is_ready();
                    if is_evicted || self.deadlines.clock().is_stopping() {
                        return Poll::Ready(Err(Stop::Gracefully));
                    }
                    if !exceeded {
                        return Poll::Pending;
                    }
                    let age = self.deadlines.now().saturating_sub(opened);
                    if self.active.load(Ordering::Relaxed) == 0 || age >= limits.connection_age.0 {
                        return Poll::Ready(Err(Stop::Gracefully));
                    }
                    // Not idle: look again after the same time.
                    self.deadlines.set(Direction::Read, wait.min(limits.connection_age.0.saturating_sub(age)));
                    Poll::Pending
                })
                .await
            };
            match accepted {
                Ok(Ok(Some(H2Accept::Session(session)))) => self.start(session),
                Ok(Ok(Some(H2Accept::Rejected))) if self.malformed < MALFORMED_MAX => self.malformed += 1,
                Ok(Ok(Some(H2Accept::Rejected))) => return Stop::Abruptly,
                Ok(Ok(None) | Err(_)) => return Stop::Closed,
                Err(stop) => return stop,
            }
        }
    }

    /// Drives the connection until its active requests have ended. New ones are not started.
    async fn drain(&mut self, connection: &mut Connection<Stream, bytes::Bytes>) {
        self.deadlines.clear(Direction::Read);
        while let Ok(Some(accepted)) = HttpSession::from_h2_conn(connection, Arc::clone(&self.digest)).await {
            // Requests that the client has sent before it received the last frame are served.
            if let H2Accept::Session(session) = accepted {
                self.start(session);
            }
        }
    }

    /// Notes for the selection of connections to evict that no request is active.
    fn mark_idle(&mut self) {
        if !self.is_marked_idle && self.number > 0 && self.active.load(Ordering::Relaxed) == 0 {
            self.is_marked_idle = true;
            self.admitted.set_idle();
        }
    }

    fn start(&mut self, session: HttpSession) {
        self.number = self.number.saturating_add(1);
        let mut session = ServerSession::new_http2(session);
        session.set_write_timeout(Some(self.front.limits.response_stall_timeout.0));
        let proxy = Arc::clone(&self.front.proxy);
        let shutdown = self.shutdown.clone();
        let active = Active::new(&self.active);
        self.is_marked_idle = false;
        self.admitted.set_active();
        tokio::spawn(async move {
            let _active = active;
            proxy.process_new_http(session, &shutdown).await;
        });
    }
}
