//! Accepts connections and serves HTTP/1.1 and HTTP/2 with prior knowledge on them, within bounds.

use std::io;
use std::time::Duration;

use axum::Router;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tower::ServiceExt;

use super::router::untrusted;
use crate::cidr::CidrSet;

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
/// The pause after a failed accept, for example when no file descriptor is free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the listeners until the stop signal, then waits for requests in flight up to the grace period.
pub(super) struct Acceptor {
    pub(super) router: Router,
    pub(super) trusted: CidrSet,
    pub(super) stopped: watch::Receiver<bool>,
    pub(super) grace: Duration,
}

impl Acceptor {
    pub(super) async fn serve_tcp(mut self, listener: TcpListener) {
        let graceful = GracefulShutdown::new();
        while let Some(accepted) = until_stopped(&mut self.stopped, listener.accept()).await {
            match accepted {
                Ok((stream, peer)) if self.trusted.contains(peer.ip()) => {
                    // Answers are small and written at once.
                    let _ = stream.set_nodelay(true);
                    serve(stream, self.router.clone(), &graceful);
                }
                Ok((stream, peer)) => {
                    tracing::warn!(peer = %peer.ip(), "external authorization: the peer is not trusted (external_auth.trusted_peers)");
                    refuse(stream);
                }
                Err(error) => pause(&error).await,
            }
        }
        drop(listener);
        // Requests still in flight after the grace period are dropped with the runtime.
        let _ = tokio::time::timeout(self.grace, graceful.shutdown()).await;
    }

    pub(super) async fn serve_unix(mut self, listener: UnixListener) {
        let graceful = GracefulShutdown::new();
        while let Some(accepted) = until_stopped(&mut self.stopped, listener.accept()).await {
            match accepted {
                Ok((stream, _)) => serve(stream, self.router.clone(), &graceful),
                Err(error) => pause(&error).await,
            }
        }
        drop(listener);
        let _ = tokio::time::timeout(self.grace, graceful.shutdown()).await;
    }
}

/// The output of a future; `None` after the stop signal.
async fn until_stopped<T>(stopped: &mut watch::Receiver<bool>, future: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        output = future => Some(output),
        _ = stopped.changed() => None,
    }
}

async fn pause(error: &io::Error) {
    tracing::warn!(%error, "a connection could not be accepted");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, router: Router, graceful: &GracefulShutdown) {
    let service = service_fn(move |request| router.clone().oneshot(request));
    let connection = builder(IDLE_TIMEOUT).serve_connection(TokioIo::new(stream), service).into_owned();
    let connection = graceful.watch(connection);
    tokio::spawn(async move {
        // Broken connections are expected; the requests are in the access log.
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection was closed early");
        }
    });
}

/// Answers 403 and closes the connection.
fn refuse(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let service = service_fn(|request| untrusted().oneshot(request));
    let mut builder = builder(UNTRUSTED_TIMEOUT);
    builder.http1().keep_alive(false);
    tokio::spawn(async move {
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        let _ = tokio::time::timeout(UNTRUSTED_TIMEOUT, connection).await;
    });
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
