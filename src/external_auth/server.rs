//! Accepts connections and serves HTTP/1.1 and HTTP/2 with prior knowledge on them, within bounds.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tower::ServiceExt;

use super::router::untrusted;
use crate::cidr::CidrSet;
use crate::listener::{AcceptLoop, AcceptedConnection, Admission, Admitted};

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
    pub(super) stopped: watch::Receiver<bool>,
    pub(super) grace: Duration,
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
        AcceptLoop { admission: self.admission.clone(), stopped: self.stopped.clone(), grace: self.grace }
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    accepted: AcceptedConnection,
    router: Router,
) {
    let requests = Requests::new(&accepted);
    let service = service_fn(move |request| {
        let (response, requests) = (router.clone().oneshot(request), requests.clone());
        requests.count();
        async move {
            let response = response.await;
            requests.end();
            response
        }
    });
    let builder = builder(IDLE_TIMEOUT);
    let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
    // Broken connections are expected; the requests are in the access log.
    if let Some(Err(error)) =
        accepted.run(connection, hyper_util::server::conn::auto::Connection::graceful_shutdown).await
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
    let _ = accepted.run(connection, |_| {}).await;
}

/// The requests in flight on a connection, more than one over HTTP/2.
#[derive(Clone)]
struct Requests {
    admitted: Arc<Admitted>,
    in_flight: Arc<AtomicUsize>,
}

impl Requests {
    fn new(accepted: &AcceptedConnection) -> Self {
        Self { admitted: Arc::clone(accepted.admitted()), in_flight: Arc::default() }
    }

    fn count(&self) {
        if self.in_flight.fetch_add(1, Ordering::AcqRel) == 0 {
            self.admitted.set_active();
        }
    }

    fn end(&self) {
        if self.in_flight.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.admitted.set_idle();
        }
    }
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
