//! The accept loop of a listener that is served by a library: caps, pauses when no file descriptor is free, and the end of connections at
//! eviction and at the stop signal. The admin API, metrics and external authorization use it.

use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::admission::{Admission, Admitted, Refused};

/// The pause after a failed accept, for example when no file descriptor is free.
const PAUSE: Duration = Duration::from_millis(100);
/// Failed accepts are logged once in this time.
const LOG_INTERVAL: Duration = Duration::from_secs(10);
/// How long an evicted connection may take to complete its response.
const EVICTION_GRACE: Duration = Duration::from_secs(5);

/// A socket that accepts connections.
pub trait Accept {
    /// A connection.
    type Stream;

    /// Polls for the next connection and the address of its peer.
    ///
    /// # Errors
    /// Those of `accept(2)`.
    fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<(Self::Stream, Option<IpAddr>)>>;
}

/// The accept loop of one listener.
pub struct AcceptLoop {
    /// The caps.
    pub admission: Admission,
    /// Becomes true, or loses its sender, when the listener stops.
    pub stopped: watch::Receiver<bool>,
    /// How long connections may go on after the stop.
    pub grace: Duration,
}

/// An admitted connection, and the signals that end it.
pub struct AcceptedConnection {
    admitted: Arc<Admitted>,
    stopped: watch::Receiver<bool>,
}

impl Accept for TcpListener {
    type Stream = TcpStream;

    fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<(TcpStream, Option<IpAddr>)>> {
        let accepted = Self::poll_accept(self, context);
        accepted.map_ok(|(stream, peer)| (stream, Some(peer.ip().to_canonical())))
    }
}

impl Accept for UnixListener {
    type Stream = UnixStream;

    fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<(UnixStream, Option<IpAddr>)>> {
        Self::poll_accept(self, context).map_ok(|(stream, _)| (stream, None))
    }
}

impl AcceptLoop {
    /// Accepts connections until the stop, then waits for them up to the grace period. `serve` returns the future of a connection, which
    /// runs in a task of its own. Refused connections are closed without a response.
    pub async fn run<L, F>(
        mut self,
        listener: L,
        mut serve: impl FnMut(L::Stream, Option<IpAddr>, AcceptedConnection) -> F,
    ) where
        L: Accept,
        F: Future<Output = ()> + Send + 'static,
    {
        let stopped = self.stopped.clone();
        let mut connections = JoinSet::new();
        let mut failures = Failures::default();
        loop {
            tokio::select! {
                (stream, peer) = failures.next_connection(&listener) => match self.admission.admit(peer) {
                    Ok(admitted) => {
                        let connection = AcceptedConnection { admitted: Arc::new(admitted), stopped: stopped.clone() };
                        connections.spawn(serve(stream, peer, connection));
                    }
                    Err(refused) => tracing::debug!(%refused, "a connection was refused"),
                },
                Some(_) = connections.join_next() => {}
                _ = self.stopped.wait_for(|stopped| *stopped) => break,
            }
        }
        drop(listener);
        // Connections still open after the grace period are dropped.
        let _ = timeout(self.grace, connections.join_all()).await;
    }
}

impl AcceptedConnection {
    /// The guard, whose state the owner of the connection sets.
    pub fn admitted(&self) -> &Arc<Admitted> {
        &self.admitted
    }

    /// Counts the connection for another client than its peer, for example that of a PROXY header.
    ///
    /// # Errors
    /// [`Refused`]; the caller closes the connection.
    pub fn set_client(&mut self, client: IpAddr) -> Result<(), Refused> {
        // The guard has no other owner before the first request.
        Arc::get_mut(&mut self.admitted).map_or(Ok(()), |admitted| admitted.set_client(client))
    }

    /// Completes when the connection is evicted or the listener stops.
    pub async fn ending(&self) {
        let mut stopped = self.stopped.clone();
        tokio::select! {
            () = self.admitted.evicted() => {}
            _ = stopped.wait_for(|stopped| *stopped) => {}
        }
    }

    /// Runs a connection to its end. `close` asks it to end after the response in flight, if it is evicted or the listener stops. `None`
    /// if an evicted connection does not end in time.
    pub async fn run<C: Future>(mut self, connection: C, close: impl FnOnce(Pin<&mut C>)) -> Option<C::Output> {
        let mut connection = pin!(connection);
        let is_evicted = tokio::select! {
            output = &mut connection => return Some(output),
            () = self.admitted.evicted() => true,
            _ = self.stopped.wait_for(|stopped| *stopped) => false,
        };
        close(connection.as_mut());
        if is_evicted { timeout(EVICTION_GRACE, connection).await.ok() } else { Some(connection.await) }
    }
}

/// The failures of `accept(2)` so far.
#[derive(Default)]
struct Failures {
    /// When the listener accepts again.
    pause: Option<Instant>,
    logged: Option<Instant>,
    /// The number of failures since the last line in the log.
    count: u64,
}

impl Failures {
    /// The next connection, after a pause if the last accept has failed. Nothing is lost if the future is dropped.
    async fn next_connection<L: Accept>(&mut self, listener: &L) -> (L::Stream, Option<IpAddr>) {
        loop {
            if let Some(pause) = self.pause {
                sleep_until(pause).await;
                self.pause = None;
            }
            match std::future::poll_fn(|context| listener.poll_accept(context)).await {
                Ok(accepted) => return accepted,
                // The client has closed the connection already.
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) => {}
                Err(error) => self.note(&error),
            }
        }
    }

    fn note(&mut self, error: &io::Error) {
        let now = Instant::now();
        self.pause = Some(now + PAUSE);
        self.count += 1;
        if self.logged.is_none_or(|logged| now.duration_since(logged) >= LOG_INTERVAL) {
            let count = std::mem::take(&mut self.count);
            self.logged = Some(now);
            tracing::warn!(%error, count, "a connection could not be accepted; accepting continues");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::cidr::CidrSet;
    use crate::config::ConnectionsConfig;
    use crate::listener::ConnectionMetrics;

    /// A listener without free descriptors at first.
    struct Exhausted {
        failures: AtomicUsize,
        polls: Arc<AtomicUsize>,
    }

    impl Accept for Exhausted {
        type Stream = ();

        fn poll_accept(&self, _: &mut Context<'_>) -> Poll<io::Result<((), Option<IpAddr>)>> {
            self.polls.fetch_add(1, Ordering::Relaxed);
            match self.failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)) {
                // EMFILE.
                Ok(_) => Poll::Ready(Err(io::Error::from_raw_os_error(24))),
                Err(_) => Poll::Ready(Ok(((), None))),
            }
        }
    }

    fn admission(max: usize) -> Admission {
        let metrics = ConnectionMetrics::register(&prometheus::Registry::new()).unwrap();
        let caps = ConnectionsConfig { max, max_per_client: max, max_pending: max };
        Admission::new("test", caps, CidrSet::default(), &metrics)
    }

    #[tokio::test(start_paused = true)]
    async fn loop_pauses_without_descriptors_and_goes_on() {
        let polls = Arc::new(AtomicUsize::new(0));
        let listener = Exhausted { failures: AtomicUsize::new(50), polls: Arc::clone(&polls) };
        let started = Instant::now();
        let mut failures = Failures::default();
        failures.next_connection(&listener).await;
        assert_eq!(polls.load(Ordering::Relaxed), 51);
        assert_eq!(started.elapsed().as_millis(), 50 * 100);
    }

    #[tokio::test]
    async fn evicted_connection_is_asked_to_close_and_then_dropped() {
        let admission = admission(1);
        let (_stop, stopped) = watch::channel(false);
        let admitted = Arc::new(admission.admit(None).unwrap());
        assert!(admitted.set_active() && admitted.set_idle());
        let connection = AcceptedConnection { admitted, stopped };
        let _new = admission.admit(None).unwrap();
        tokio::time::pause();
        let mut is_asked = false;
        assert_eq!(connection.run(std::future::pending::<()>(), |_| is_asked = true).await, None);
        assert!(is_asked);
    }

    #[tokio::test]
    async fn stop_ends_the_loop_after_its_connections() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let accept = AcceptLoop { admission: admission(1), stopped, grace: Duration::from_secs(60) };
        let served = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&served);
        let task = tokio::spawn(accept.run(listener, move |stream, peer, connection| {
            assert_eq!(peer, Some(IpAddr::from([127, 0, 0, 1])));
            let counter = Arc::clone(&counter);
            async move {
                counter.fetch_add(1, Ordering::Relaxed);
                let stopped = connection.stopped.clone();
                connection.run(async move { stopped.clone().wait_for(|stopped| *stopped).await.is_ok() }, |_| {}).await;
                drop(stream);
            }
        }));
        let mut first = TcpStream::connect(address).await.unwrap();
        let mut second = TcpStream::connect(address).await.unwrap();
        let mut byte = [0];
        // The second connection is above the cap.
        assert_eq!(tokio::io::AsyncReadExt::read(&mut second, &mut byte).await.unwrap(), 0);
        stop.send(true).unwrap();
        task.await.unwrap();
        assert_eq!(tokio::io::AsyncReadExt::read(&mut first, &mut byte).await.unwrap(), 0);
        assert_eq!(served.load(Ordering::Relaxed), 1);
    }
}
