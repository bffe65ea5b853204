//! Serves a router on its own listener and runtime, within caps and time limits (contract, operations section 4).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use http::header::CONNECTION;
use http::{HeaderValue, Request};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::{Builder, Runtime, RuntimeMetrics};
use tokio::sync::watch;
use tower::ServiceExt;

use crate::connection::ClientCertificate;
use crate::listener::tls::TlsAcceptor;
use crate::listener::{
    Accept, AcceptLoop, AcceptedConnection, Activity, Admission, ConnectionTimes, ListeningSocket, StopTimes,
    TimedStream, UnixSocket,
};

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

/// The other end of a connection.
struct Client {
    peer: Option<IpAddr>,
    /// The verified client certificate.
    certificate: Option<Arc<ClientCertificate>>,
}

impl Client {
    /// Adds the client to a request.
    fn describe(&self, extensions: &mut http::Extensions) {
        if let Some(peer) = self.peer {
            extensions.insert(Peer(peer));
        }
        if let Some(certificate) = &self.certificate {
            extensions.insert(Arc::clone(certificate));
        }
    }
}

/// Options of a server.
#[derive(Clone)]
pub struct ServerOptions {
    /// The name of the threads.
    pub name: &'static str,
    /// The number of threads.
    pub threads: usize,
    /// How connections end.
    pub times: StopTimes,
    /// The caps of connections.
    pub admission: Admission,
    /// TLS; `None` for connections in clear text. Not used on a Unix socket.
    pub tls: Option<TlsAcceptor>,
    /// Becomes true when the server begins to accept; `None` if it does so from the beginning.
    pub opened: Option<watch::Receiver<bool>>,
}

/// The router of a server, which can be replaced while the server runs. Clones are the same router.
#[derive(Clone)]
pub struct CurrentRouter(Arc<ArcSwap<Router>>);

impl CurrentRouter {
    /// Replaces the router. A request that has begun keeps the router that it began with.
    pub fn replace(&self, router: Router) {
        self.0.store(Arc::new(router));
    }

    fn load(&self) -> Router {
        Router::clone(&self.0.load())
    }
}

impl From<Router> for CurrentRouter {
    fn from(router: Router) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(router)))
    }
}

/// A running server.
pub struct Server {
    address: Option<SocketAddr>,
    runtime: Runtime,
    ending: watch::Sender<bool>,
    stop: watch::Sender<bool>,
    accepting: tokio::task::JoinHandle<()>,
    grace: Duration,
    /// Removes the path of the socket at the end.
    _unix: Option<UnixSocket>,
}

impl Server {
    /// Starts to serve on a bound socket.
    ///
    /// # Errors
    /// If the listener cannot be used or the threads cannot be started.
    pub fn start(socket: ListeningSocket, router: CurrentRouter, options: ServerOptions) -> io::Result<Self> {
        let address = socket.address();
        let runtime = Builder::new_multi_thread()
            .worker_threads(options.threads)
            .thread_name(options.name)
            .enable_all()
            .build()?;
        let ((ending, ends), (stop, stopped)) = (watch::channel(false), watch::channel(false));
        let accept = AcceptLoop {
            admission: options.admission,
            opened: options.opened,
            ending: Some(ends),
            stopped,
            times: options.times,
            places: Vec::new(),
        };
        let guard = runtime.enter();
        let (accepting, unix) = match socket {
            ListeningSocket::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                let listener = tokio::net::TcpListener::from_std(listener)?;
                (runtime.spawn(accept_all(accept, listener, options.tls, router)), None)
            }
            ListeningSocket::Unix(mut socket) => {
                let listener = socket.take_listener()?;
                listener.set_nonblocking(true)?;
                let listener = tokio::net::UnixListener::from_std(listener)?;
                (runtime.spawn(accept_all(accept, listener, None, router)), Some(socket))
            }
        };
        drop(guard);
        Ok(Self { address, runtime, ending, stop, accepting, grace: options.times.grace, _unix: unix })
    }

    /// The address of the listener; `None` for a Unix socket.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Has connections end after their next response, or when they are silent for a while. New ones are accepted until [`Self::stop`].
    pub fn end_connections(&self) {
        // An error means that the accept loop has stopped already.
        let _ = self.ending.send(true);
    }

    /// The metrics of its runtime.
    pub fn runtime_metrics(&self) -> RuntimeMetrics {
        self.runtime.metrics()
    }

    /// Begins to stop.
    pub fn begin_stop(&self) {
        // An error means that the accept loop has stopped already.
        let _ = self.stop.send(true);
    }

    /// Stops accepting, waits for requests in flight up to the grace period, and returns.
    pub fn stop(self) {
        self.begin_stop();
        let limit = self.grace + Duration::from_secs(1);
        let finished = self.runtime.block_on(async { tokio::time::timeout(limit, self.accepting).await });
        if finished.is_err() {
            tracing::warn!("requests were still in flight at the end of the grace period");
        }
        self.runtime.shutdown_background();
    }
}

/// Serves the connections of a listener until the stop.
async fn accept_all<L>(accept: AcceptLoop, listener: L, tls: Option<TlsAcceptor>, router: CurrentRouter)
where
    L: Accept,
    L::Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let serve = move |stream, peer, accepted| handshake(tls.clone(), stream, peer, accepted, router.clone());
    accept.run(listener, serve).await;
}

/// Serves a connection after its TLS handshake, if the listener has TLS.
async fn handshake(
    tls: Option<TlsAcceptor>,
    stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: Option<IpAddr>,
    accepted: AcceptedConnection,
    router: CurrentRouter,
) {
    let Some(tls) = tls else { return serve(stream, Client { peer, certificate: None }, accepted, router).await };
    let result = tokio::select! {
        result = tls.accept(stream) => result,
        () = accepted.ending() => return,
    };
    match result {
        Ok((stream, info)) => {
            let certificate = info.client_certificate.map(Arc::new);
            serve(stream, Client { peer, certificate }, accepted, router).await;
        }
        Err(error) => tracing::debug!(%error, "a connection was closed"),
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    client: Client,
    accepted: AcceptedConnection,
    router: CurrentRouter,
) {
    let activity = Activity::default();
    let stream = TimedStream::new(stream, TIMES, activity.clone());
    let (admitted, closing) = (Arc::clone(accepted.admitted()), accepted.closing().clone());
    let requests = activity.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        // An evicted connection is closed after this response.
        admitted.set_active();
        requests.begin_request(false);
        client.describe(request.extensions_mut());
        let response = router.load().oneshot(request);
        let (admitted, closing, requests) = (Arc::clone(&admitted), closing.clone(), requests.clone());
        async move {
            let mut response = response.await;
            if let Ok(response) = &mut response
                && *closing.borrow()
            {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            requests.end_request();
            admitted.set_idle();
            response
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .header_read_timeout(None)
        .max_buf_size(HEAD_MAX)
        .serve_connection(TokioIo::new(stream), service);
    // Broken connections are expected; the requests are in the access log.
    match accepted.run(connection, &activity, hyper::server::conn::http1::Connection::graceful_shutdown).await {
        Some(Err(error)) => tracing::debug!(%error, "a connection was closed early"),
        None => tracing::debug!("an evicted connection did not end in time"),
        Some(Ok(())) => {}
    }
}
