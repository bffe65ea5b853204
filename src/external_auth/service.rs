//! The listeners of external authorization, on a runtime of their own: start, stop.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::runtime::{Builder, Runtime, RuntimeMetrics};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::check::Checker;
use super::router::router;
use super::server::Acceptor;
use crate::cidr::CidrSet;
use crate::config::ExternalAuthConfig;
use crate::listener::{Admission, StopTimes, UnixSocket};
use crate::pipeline::{CurrentSnapshot, Snapshot, SnapshotParts};

/// How much longer than the grace period the stop may take.
const STOP_MARGIN: Duration = Duration::from_secs(1);

/// The sockets to listen on.
#[derive(Debug, Default)]
pub struct Sockets {
    /// The TCP socket.
    pub tcp: Option<TcpListener>,
    /// The Unix socket.
    pub unix: Option<UnixSocket>,
}

/// Running external authorization.
pub struct ExternalAuth {
    address: Option<SocketAddr>,
    runtime: Runtime,
    stop: watch::Sender<bool>,
    accepting: JoinSet<()>,
    grace: Duration,
    reload: ExternalAuthReload,
    /// Removes the path of the socket at the end.
    _unix: Option<UnixSocket>,
}

/// Replaces the settings of running external authorization. Clones are for the same one.
#[derive(Clone)]
pub struct ExternalAuthReload {
    snapshot: Arc<CurrentSnapshot<()>>,
    trusted: Arc<ArcSwap<CidrSet>>,
}

impl ExternalAuthReload {
    /// Replaces the routes, limits and header selection, and which peers are trusted. A request that has begun keeps its settings; a
    /// connection keeps its trust.
    pub fn apply(&self, snapshot: Snapshot<()>, config: &ExternalAuthConfig) {
        self.trusted.store(Arc::new(config.trusted()));
        self.snapshot.store(Arc::new(snapshot));
    }
}

impl ExternalAuth {
    /// Starts to serve on bound sockets. `parts` has the routes, limits and header selection; `admission` has the caps of connections;
    /// `opened` becomes true when connections are accepted, `None` for from the beginning; `idle` is how long a connection may be silent after
    /// the stop.
    ///
    /// # Errors
    /// If a socket cannot be used or the threads cannot be started.
    pub fn start(
        config: &ExternalAuthConfig,
        parts: SnapshotParts<'_>,
        sockets: Sockets,
        admission: Admission,
        opened: Option<watch::Receiver<bool>>,
        idle: Duration,
    ) -> io::Result<Self> {
        let Sockets { tcp, mut unix } = sockets;
        let snapshot = Arc::new(CurrentSnapshot::from_pointee(Snapshot::new(parts, |_| ())));
        let router = router(&Checker::new(Arc::clone(&snapshot)));
        let reload = ExternalAuthReload { snapshot, trusted: Arc::new(ArcSwap::from_pointee(config.trusted())) };
        let runtime = runtime(config.threads)?;
        let (stop, stopped) = watch::channel(false);
        let grace = config.shutdown_grace.0;
        let (trusted, times) = (Arc::clone(&reload.trusted), StopTimes { grace, idle });
        let acceptor = Acceptor { router, trusted, admission, opened, stopped, times };
        let address = tcp.as_ref().map(TcpListener::local_addr).transpose()?;
        let mut accepting = JoinSet::new();
        let guard = runtime.enter();
        if let Some(listener) = tcp {
            listener.set_nonblocking(true)?;
            let listener = tokio::net::TcpListener::from_std(listener)?;
            accepting.spawn(acceptor.clone().serve_tcp(listener));
        }
        if let Some(socket) = &mut unix {
            let listener = socket.take_listener()?;
            listener.set_nonblocking(true)?;
            accepting.spawn(acceptor.serve_unix(tokio::net::UnixListener::from_std(listener)?));
        }
        drop(guard);
        Ok(Self { address, runtime, stop, accepting, grace, reload, _unix: unix })
    }

    /// The address of the TCP socket.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// The metrics of its runtime.
    pub fn runtime_metrics(&self) -> RuntimeMetrics {
        self.runtime.metrics()
    }

    /// Replaces settings while it runs.
    pub fn reload(&self) -> &ExternalAuthReload {
        &self.reload
    }

    /// Begins to stop.
    pub fn begin_stop(&self) {
        // An error means that the accept loops have stopped already.
        let _ = self.stop.send(true);
    }

    /// Stops accepting, waits for requests in flight up to the grace period, and returns.
    pub fn stop(self) {
        self.begin_stop();
        let limit = self.grace + STOP_MARGIN;
        let finished = self.runtime.block_on(async { tokio::time::timeout(limit, self.accepting.join_all()).await });
        if finished.is_err() {
            tracing::warn!("external authorization: requests were still in flight at the end of the grace period");
        }
        self.runtime.shutdown_background();
    }
}

fn runtime(threads: usize) -> io::Result<Runtime> {
    let threads = if threads > 0 { threads } else { std::thread::available_parallelism().map_or(1, usize::from) };
    Builder::new_multi_thread().worker_threads(threads).thread_name("external-auth").enable_all().build()
}
