//! Serves a router on its own listener and runtime, within caps and time limits (contract, operations section 4).

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tower::ServiceExt;

use crate::listener::tls::TlsAcceptor;
use crate::listener::{AcceptLoop, AcceptedConnection, Admission, ConnectionTimes, RequestInFlight, TimedStream};

/// The time limits of connections. Bodies have their own, see `body`.
const TIMES: ConnectionTimes = ConnectionTimes {
    head: Duration::from_secs(5),
    idle: Duration::from_secs(75),
    write_stall: Duration::from_secs(60),
};
/// The size in bytes of a request head from which it is refused with 431, unless it is complete. hyper reads the same size once more, so
/// a head has 64 KiB at most.
const HEAD_MAX: usize = 32 * 1024;

/// The TCP peer of a request, set by the server.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

/// Options of a server.
#[derive(Clone)]
pub struct ServerOptions {
    /// The name of the threads.
    pub name: &'static str,
    /// The number of threads.
    pub threads: usize,
    /// The grace period for requests in flight at shutdown.
    pub grace: Duration,
    /// The caps of connections.
    pub admission: Admission,
    /// TLS; `None` for connections in clear text.
    pub tls: Option<TlsAcceptor>,
}

/// A running server.
pub struct Server {
    address: SocketAddr,
    runtime: Runtime,
    stop: watch::Sender<bool>,
    accepting: tokio::task::JoinHandle<()>,
    grace: Duration,
}

impl Server {
    /// Starts to serve on a bound listener.
    ///
    /// # Errors
    /// If the listener cannot be used or the threads cannot be started.
    pub fn start(listener: TcpListener, router: Router, options: ServerOptions) -> io::Result<Self> {
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(options.threads)
            .thread_name(options.name)
            .enable_all()
            .build()?;
        let listener = {
            let _guard = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let (stop, stopped) = watch::channel(false);
        let accept = AcceptLoop { admission: options.admission, stopped, grace: options.grace };
        let tls = options.tls;
        let serve = move |stream, peer, accepted| handshake(tls.clone(), stream, peer, accepted, router.clone());
        let accepting = runtime.spawn(accept.run(listener, serve));
        Ok(Self { address, runtime, stop, accepting, grace: options.grace })
    }

    /// The address of the listener.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting, waits for requests in flight up to the grace period, and returns.
    pub fn stop(self) {
        // An error means that the accept loop has stopped already.
        let _ = self.stop.send(true);
        let limit = self.grace + Duration::from_secs(1);
        let finished = self.runtime.block_on(async { tokio::time::timeout(limit, self.accepting).await });
        if finished.is_err() {
            tracing::warn!("requests were still in flight at the end of the grace period");
        }
        self.runtime.shutdown_background();
    }
}

/// Serves a connection after its TLS handshake, if the listener has TLS.
async fn handshake(
    tls: Option<TlsAcceptor>,
    stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: Option<IpAddr>,
    accepted: AcceptedConnection,
    router: Router,
) {
    let Some(tls) = tls else { return serve(stream, peer, accepted, router).await };
    let result = tokio::select! {
        result = tls.accept(stream) => result,
        () = accepted.ending() => return,
    };
    match result {
        Ok((stream, _)) => serve(stream, peer, accepted, router).await,
        Err(error) => tracing::debug!(%error, "a connection was closed"),
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: Option<IpAddr>,
    accepted: AcceptedConnection,
    router: Router,
) {
    let in_flight = RequestInFlight::default();
    let stream = TimedStream::new(stream, TIMES, in_flight.clone());
    let admitted = Arc::clone(accepted.admitted());
    let service = service_fn(move |mut request: Request<Incoming>| {
        // An evicted connection is closed after this response.
        admitted.set_active();
        in_flight.set(true);
        if let Some(peer) = peer {
            request.extensions_mut().insert(Peer(peer));
        }
        let response = router.clone().oneshot(request);
        let (admitted, in_flight) = (Arc::clone(&admitted), in_flight.clone());
        async move {
            let response = response.await;
            in_flight.set(false);
            admitted.set_idle();
            response
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .header_read_timeout(None)
        .max_buf_size(HEAD_MAX)
        .serve_connection(TokioIo::new(stream), service);
    // Broken connections are expected; the requests are in the access log.
    match accepted.run(connection, hyper::server::conn::http1::Connection::graceful_shutdown).await {
        Some(Err(error)) => tracing::debug!(%error, "a connection was closed early"),
        None => tracing::debug!("an evicted connection did not end in time"),
        Some(Ok(())) => {}
    }
}
