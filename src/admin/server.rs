//! Serves a router on its own listener and runtime, with timeouts for slow clients (contract, operations section 4).

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::Duration;

use axum::Router;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tower::ServiceExt;

const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause after a failed accept, for example when no file descriptor is free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The TCP peer of a request, set by the server.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

/// Options of a server.
#[derive(Debug, Clone, Copy)]
pub struct ServerOptions {
    /// The name of the threads.
    pub name: &'static str,
    /// The number of threads.
    pub threads: usize,
    /// The grace period for requests in flight at shutdown.
    pub grace: Duration,
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
        let accepting = runtime.spawn(accept(listener, router, stopped, options.grace));
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

async fn accept(
    listener: tokio::net::TcpListener,
    router: Router,
    mut stopped: watch::Receiver<bool>,
    grace: Duration,
) {
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.changed() => break,
        };
        match accepted {
            Ok((stream, peer)) => serve(stream, peer, router.clone(), &graceful),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    // Requests still in flight after the grace period are dropped with the runtime.
    let _ = tokio::time::timeout(grace, graceful.shutdown()).await;
}

fn serve(stream: TcpStream, peer: SocketAddr, router: Router, graceful: &GracefulShutdown) {
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer.ip().to_canonical()));
        router.clone().oneshot(request)
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let connection = graceful.watch(connection);
    tokio::spawn(async move {
        // Broken connections are expected; the requests are in the access log.
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection was closed early");
        }
    });
}
