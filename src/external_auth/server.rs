//! Accepts connections and serves HTTP/1.1 and HTTP/2 with prior knowledge on them, within bounds.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use http::header::CONNECTION;
use http::{HeaderValue, Request, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tower::ServiceExt;

use super::router::untrusted;
use crate::cidr::CidrSet;
use crate::listener::{AcceptLoop, AcceptedConnection, Activity, Admission, StopTimes};

/// How long a connection of a trusted peer may wait for a request head, also between requests: longer than proxies keep idle
/// connections, so that a proxy never sends a request on a connection that is being closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(600);
/// How long a connection of an untrusted peer may take in total.
const UNTRUSTED_TIMEOUT: Duration = Duration::from_secs(5);
/// The maximum size in bytes of a request head.
const HEAD_MAX: u32 = 64 * 1024;
/// The maximum number of concurrent requests on an HTTP/2 connection.
const STREAMS_MAX: u32 = 1024;
/// How often an HTTP/2 connection is probed, and how long the answer may take.
const PING: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(20));

/// Serves the listeners until the stop signal, then waits for requests in flight up to the grace period.
#[derive(Clone)]
pub(super) struct Acceptor {
    pub(super) router: Router,
    pub(super) trusted: Arc<ArcSwap<CidrSet>>,
    pub(super) admission: Admission,
    pub(super) opened: Option<watch::Receiver<bool>>,
    pub(super) stopped: watch::Receiver<bool>,
    pub(super) times: StopTimes,
}

impl Acceptor {
    pub(super) async fn serve_tcp(self, listener: TcpListener) {
        let (accept, Self { router, trusted, .. }) = (self.accept_loop(), self);
        accept
            .run(listener, move |stream, peer, accepted| {
                let is_trusted = peer.is_some_and(|peer| trusted.load().contains(peer));
                let router = router.clone();
                async move {
                    if is_trusted {
                        // Answers are small and written at once.
                        let _ = stream.set_nodelay(true);
                        serve(stream, accepted, router).await;
                    } else {
                        let peer = peer.map(tracing::field::display);
                        tracing::warn!(
                            peer,
                            "external authorization: the peer is not trusted (external_auth.trusted_peers)"
                        );
                        refuse(stream, accepted).await;
                    }
                }
            })
            .await;
    }

    pub(super) async fn serve_unix(self, listener: UnixListener) {
        let (accept, router) = (self.accept_loop(), self.router);
        accept.run(listener, move |stream, _, accepted| serve(stream, accepted, router.clone())).await;
    }

    fn accept_loop(&self) -> AcceptLoop {
        let (admission, opened, stopped) = (self.admission.clone(), self.opened.clone(), self.stopped.clone());
        AcceptLoop { admission, opened, ending: None, stopped, times: self.times, places: Vec::new() }
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    accepted: AcceptedConnection,
    router: Router,
) {
    let activity = Activity::default();
    let (admitted, closing, requests) = (Arc::clone(accepted.admitted()), accepted.closing().clone(), activity.clone());
    let service = service_fn(move |request: Request<Incoming>| {
        let is_http2 = request.version() == Version::HTTP_2;
        // Set before the response is awaited, so that an HTTP/2 connection can be ended while it is in flight.
        if requests.begin_request(is_http2) {
            admitted.set_active();
        }
        let response = router.clone().oneshot(request);
        let (admitted, closing, requests) = (Arc::clone(&admitted), closing.clone(), requests.clone());
        async move {
            let mut response = response.await;
            if let Ok(response) = &mut response
                && !is_http2
                && *closing.borrow()
            {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            if requests.end_request() {
                admitted.set_idle();
            }
            response
        }
    });
    let builder = builder(IDLE_TIMEOUT);
    let stream = TokioIo::new(activity.of_stream(stream));
    let connection = builder.serve_connection(stream, service).into_owned();
    // Broken connections are expected; the requests are in the access log.
    if let Some(Err(error)) =
        accepted.run(connection, &activity, hyper_util::server::conn::auto::Connection::graceful_shutdown).await
    {
        tracing::debug!(%error, "a connection was closed early");
    }
}

/// Answers 403 and closes the connection.
async fn refuse(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, accepted: AcceptedConnection) {
    let service = service_fn(|request| untrusted().oneshot(request));
    let mut builder = builder(UNTRUSTED_TIMEOUT);
    builder.http1().keep_alive(false);
    let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
    let connection = tokio::time::timeout(UNTRUSTED_TIMEOUT, connection);
    let _ = accepted.run(connection, &Activity::default(), |_| {}).await;
}

fn builder(head_timeout: Duration) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(head_timeout).max_buf_size(HEAD_MAX as usize);
    let (interval, timeout) = PING;
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(HEAD_MAX)
        .max_concurrent_streams(STREAMS_MAX)
        .keep_alive_interval(interval)
        .keep_alive_timeout(timeout);
    builder
}
