//! Serves a router on a listener, on a runtime of its own, with limits on slow callers (contract, operations section 4).

use std::io;
use std::net::{SocketAddr, TcpListener};
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

use super::Peer;

const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a full table of files is waited out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How a server is run.
#[derive(Debug, Clone, Copy)]
pub struct ServerOptions {
    /// The name of its threads.
    pub name: &'static str,
    /// How many threads it has.
    pub threads: usize,
    /// How long calls under way may take after it was told to stop.
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
    /// Starts serving on a bound listener.
    ///
    /// # Errors
    /// When the listener or the threads cannot be had.
    pub fn start(listener: TcpListener, router: Router, options: ServerOptions) -> io::Result<Self> {
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(options.threads)
            .thread_name(options.name)
            .enable_all()
            .build()?;
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let (stop, stopped) = watch::channel(false);
        let accepting = runtime.spawn(accept(listener, router, stopped, options.grace));
        Ok(Self { address, runtime, stop, accepting, grace: options.grace })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts no more, lets calls under way end within the grace, and returns.
    pub fn stop(self) {
        // An error would mean that nobody serves any more, which is what is wanted.
        let _ = self.stop.send(true);
        let limit = self.grace + Duration::from_secs(1);
        let ended = self.runtime.block_on(async { tokio::time::timeout(limit, self.accepting).await });
        if ended.is_err() {
            tracing::warn!("calls were still under way when the grace was over");
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
    // What is still under way when the grace is over is dropped with the runtime.
    let _ = tokio::time::timeout(grace, graceful.shutdown()).await;
}

fn serve(stream: TcpStream, peer: SocketAddr, router: Router, graceful: &GracefulShutdown) {
    let answer = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer.ip().to_canonical()));
        router.clone().oneshot(request)
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), answer);
    let connection = graceful.watch(connection);
    tokio::spawn(async move {
        // A connection that breaks is the client's affair; what mattered of it is in the request's own line.
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection ended early");
        }
    });
}
