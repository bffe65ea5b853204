//! The accept loop of a listener: caps, pauses when no file descriptor is free, and the stop. At the stop, the connections that wait in the
//! queue of the kernel are accepted before the socket is closed, and the connections end after that.

use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::activity::Activity;
use super::admission::{Admission, Admitted, Refused};
use super::place::Place;

/// The pause after a failed accept, for example when no file descriptor is free.
const PAUSE: Duration = Duration::from_millis(100);
/// Failed accepts are logged once in this time.
const LOG_INTERVAL: Duration = Duration::from_secs(10);
/// How long an evicted connection may take to complete its response.
const EVICTION_GRACE: Duration = Duration::from_secs(5);
/// How many connections are accepted from the queue of the kernel at the stop: the default of `net.core.somaxconn`.
const QUEUE_MAX: usize = 4096;

/// A socket that accepts connections.
pub trait Accept: Sized {
    /// A connection.
    type Stream;

    /// Polls for the next connection and the address of its peer.
    ///
    /// # Errors
    /// Those of `accept(2)`.
    fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<(Self::Stream, Option<IpAddr>)>>;

    /// Accepts the connections that wait in the queue of the kernel, and closes the socket.
    fn close(self, accepted: impl FnMut(Self::Stream, Option<IpAddr>));
}

/// How the connections of a listener end at its stop.
#[derive(Debug, Clone, Copy)]
pub struct StopTimes {
    /// How long requests in flight may go on.
    pub grace: Duration,
    /// How long a connection may be silent that has no request in flight.
    pub idle: Duration,
}

/// The accept loop of one listener.
pub struct AcceptLoop {
    /// The caps.
    pub admission: Admission,
    /// Becomes true, or loses its sender, when the listener begins to accept: connections wait in the queue of the kernel until then. `None`
    /// if it accepts from the beginning.
    pub opened: Option<watch::Receiver<bool>>,
    /// Becomes true, or loses its sender, when connections are to end while new ones are still accepted; `None` if they end at the stop.
    pub ending: Option<watch::Receiver<bool>>,
    /// Becomes true, or loses its sender, when the listener stops.
    pub stopped: watch::Receiver<bool>,
    /// How connections end at the stop.
    pub times: StopTimes,
    /// Where connections run; on the current runtime if there are none.
    pub places: Vec<Place>,
}

/// The connections of a listener whose socket is closed.
pub struct OpenConnections {
    connections: JoinSet<()>,
    closing: watch::Sender<bool>,
    grace: Duration,
}

/// An admitted connection, and the signals that end it.
pub struct AcceptedConnection {
    admitted: Arc<Admitted>,
    closing: watch::Receiver<bool>,
    idle: Duration,
}

impl Accept for TcpListener {
    type Stream = TcpStream;

    fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<(TcpStream, Option<IpAddr>)>> {
        let accepted = Self::poll_accept(self, context);
        accepted.map_ok(|(stream, peer)| (stream, Some(peer.ip().to_canonical())))
    }

    fn close(self, mut accepted: impl FnMut(TcpStream, Option<IpAddr>)) {
        let Ok(listener) = self.into_std() else { return };
        for (stream, peer) in waiting(|| listener.accept()) {
            if let Ok(stream) = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream)) {
                accepted(stream, Some(peer.ip().to_canonical()));
            }
        }
    }
}

impl Accept for UnixListener {
    type Stream = UnixStream;

    fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<(UnixStream, Option<IpAddr>)>> {
        Self::poll_accept(self, context).map_ok(|(stream, _)| (stream, None))
    }

    fn close(self, mut accepted: impl FnMut(UnixStream, Option<IpAddr>)) {
        let Ok(listener) = self.into_std() else { return };
        for (stream, _) in waiting(|| listener.accept()) {
            if let Ok(stream) = stream.set_nonblocking(true).and_then(|()| UnixStream::from_std(stream)) {
                accepted(stream, None);
            }
        }
    }
}

/// The connections that a socket accepts without waiting.
fn waiting<C>(mut accept: impl FnMut() -> io::Result<C>) -> impl Iterator<Item = C> {
    let next = move || loop {
        match accept() {
            Ok(accepted) => return Some(accepted),
            Err(error) if is_of_connection(&error) || error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    };
    std::iter::from_fn(next).take(QUEUE_MAX)
}

/// Whether a failed accept is about a connection that its client has closed already.
fn is_of_connection(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset)
}

impl AcceptLoop {
    /// Accepts connections until the stop, then waits for them up to the grace period. `serve` returns the future of a connection, which
    /// runs in a task of its own. Refused connections are closed without a response.
    pub async fn run<L, F>(self, listener: L, serve: impl FnMut(L::Stream, Option<IpAddr>, AcceptedConnection) -> F)
    where
        L: Accept,
        F: Future<Output = ()> + Send + 'static,
    {
        self.accept(listener, serve).await.end().await;
    }

    /// The first part of [`Self::run`]: accepts connections until the stop, and closes the socket. The connections do not end yet, so that a
    /// client whose connection ends does not connect to this socket again.
    pub async fn accept<L, F>(
        self,
        listener: L,
        mut serve: impl FnMut(L::Stream, Option<IpAddr>, AcceptedConnection) -> F,
    ) -> OpenConnections
    where
        L: Accept,
        F: Future<Output = ()> + Send + 'static,
    {
        let Self { admission, mut opened, mut ending, mut stopped, times, places } = self;
        let (closing, closes) = watch::channel(false);
        let mut connections = JoinSet::new();
        let mut failures = Failures::default();
        let mut open = |connections: &mut JoinSet<()>, stream, peer| match admission.admit(peer) {
            Ok(admitted) => {
                let (admitted, closing) = (Arc::new(admitted), closes.clone());
                let connection = serve(stream, peer, AcceptedConnection { admitted, closing, idle: times.idle });
                match Place::emptiest(&places) {
                    Some(place) => connections.spawn_on(place.counting(connection), place.handle()),
                    None => connections.spawn(connection),
                };
            }
            Err(refused) => tracing::debug!(%refused, "a connection was refused"),
        };
        tokio::select! {
            () = received(&mut opened) => {}
            _ = stopped.wait_for(|stopped| *stopped) => {}
        }
        loop {
            tokio::select! {
                (stream, peer) = failures.next_connection(&listener) => open(&mut connections, stream, peer),
                Some(_) = connections.join_next() => {}
                () = received(&mut ending), if ending.is_some() => {
                    ending = None;
                    closing.send_replace(true);
                }
                _ = stopped.wait_for(|stopped| *stopped) => break,
            }
        }
        listener.close(|stream, peer| open(&mut connections, stream, peer));
        OpenConnections { connections, closing, grace: times.grace }
    }
}

/// Waits for a signal, if there is one.
async fn received(signal: &mut Option<watch::Receiver<bool>>) {
    if let Some(signal) = signal {
        let _ = signal.wait_for(|is_sent| *is_sent).await;
    }
}

impl OpenConnections {
    /// Has the connections end, and waits for them up to the grace period. Those that are still open then are dropped.
    pub async fn end(mut self) {
        self.closing.send_replace(true);
        let _ = timeout(self.grace, async { while self.connections.join_next().await.is_some() {} }).await;
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

    /// Becomes true, or loses its sender, when the connection is to end after its next response because the listener stops.
    pub fn closing(&self) -> &watch::Receiver<bool> {
        &self.closing
    }

    /// How long the connection may be silent after [`Self::closing`].
    pub fn idle_limit(&self) -> Duration {
        self.idle
    }

    /// Completes when the listener has stopped and a connection that has sent no request has had its time for one.
    pub fn late(&self) -> impl Future<Output = ()> + Send + use<> {
        let (mut closing, idle) = (self.closing.clone(), self.idle);
        async move {
            let _ = closing.wait_for(|closing| *closing).await;
            sleep(idle).await;
        }
    }

    /// The same, or when the connection is evicted.
    pub async fn ending(&self) {
        tokio::select! {
            () = self.admitted.evicted() => {}
            () = self.late() => {}
        }
    }

    /// Runs a connection to its end. `close` asks it to end after the requests in flight: when it is evicted, or when the listener stops and
    /// `activity` allows it. `None` if an evicted connection does not end in time.
    pub async fn run<C: Future>(
        mut self,
        connection: C,
        activity: &Activity,
        close: impl FnOnce(Pin<&mut C>),
    ) -> Option<C::Output> {
        let mut connection = pin!(connection);
        let closing = async {
            let _ = self.closing.wait_for(|closing| *closing).await;
            activity.closable(self.idle).await;
        };
        let is_evicted = tokio::select! {
            output = &mut connection => return Some(output),
            () = self.admitted.evicted() => true,
            () = closing => false,
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
                Err(error) if is_of_connection(&error) => {}
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

        fn close(self, _: impl FnMut((), Option<IpAddr>)) {}
    }

    const TIMES: StopTimes = StopTimes { grace: Duration::from_secs(60), idle: Duration::from_secs(5) };

    fn admission(max: usize) -> Admission {
        let metrics = ConnectionMetrics::register(&prometheus::Registry::new()).unwrap();
        let caps = ConnectionsConfig { max, max_per_client: max, max_pending: max };
        Admission::new("test", caps, CidrSet::default(), &metrics)
    }

    fn accept_loop(opened: Option<watch::Receiver<bool>>, stopped: watch::Receiver<bool>) -> AcceptLoop {
        AcceptLoop { admission: admission(4), opened, ending: None, stopped, times: TIMES, places: Vec::new() }
    }

    #[tokio::test]
    async fn connections_wait_until_the_listener_is_opened() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let ((open, opened), (stop, stopped)) = (watch::channel(false), watch::channel(false));
        let served = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&served);
        let task = tokio::spawn(accept_loop(Some(opened), stopped).run(listener, move |stream, _, _| {
            counter.fetch_add(1, Ordering::SeqCst);
            async { drop(stream) }
        }));
        let mut client = TcpStream::connect(address).await.unwrap();
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(served.load(Ordering::SeqCst), 0);
        open.send(true).unwrap();
        assert_eq!(tokio::io::AsyncReadExt::read(&mut client, &mut [0]).await.unwrap(), 0);
        assert_eq!(served.load(Ordering::SeqCst), 1);
        stop.send(true).unwrap();
        task.await.unwrap();
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
        let (_closing, closing) = watch::channel(false);
        let admitted = Arc::new(admission.admit(None).unwrap());
        assert!(admitted.set_active() && admitted.set_idle());
        let connection = AcceptedConnection { admitted, closing, idle: TIMES.idle };
        let _new = admission.admit(None).unwrap();
        tokio::time::pause();
        let (mut is_asked, activity) = (false, Activity::default());
        assert_eq!(connection.run(std::future::pending::<()>(), &activity, |_| is_asked = true).await, None);
        assert!(is_asked);
    }

    #[tokio::test(start_paused = true)]
    async fn connection_is_asked_to_close_after_the_silence() {
        let (closing, closes) = watch::channel(false);
        let admitted = Arc::new(admission(1).admit(None).unwrap());
        let connection = AcceptedConnection { admitted, closing: closes, idle: TIMES.idle };
        let activity = Activity::default();
        activity.begin_request(false);
        let request = activity.clone();
        tokio::spawn(async move {
            sleep(Duration::from_secs(100)).await;
            closing.send_replace(true);
            sleep(Duration::from_secs(20)).await;
            request.end_request();
            std::future::pending::<()>().await;
            drop(closing);
        });
        let (started, (asked, is_asked)) = (Instant::now(), tokio::sync::oneshot::channel());
        let output = connection.run(is_asked, &activity, |_| asked.send(started.elapsed()).unwrap()).await;
        let after = output.unwrap().unwrap();
        assert!((Duration::from_secs(124)..Duration::from_secs(127)).contains(&after), "{after:?}");
    }

    #[tokio::test]
    async fn stop_serves_the_connections_of_the_queue_and_ends_after_them() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let accept = accept_loop(None, stopped);
        let served = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&served);
        // They wait in the queue: nothing is accepted before the stop.
        let mut clients = Vec::new();
        for _ in 0..5 {
            clients.push(TcpStream::connect(address).await.unwrap());
        }
        stop.send(true).unwrap();
        let open = accept
            .accept(listener, move |stream, peer, connection| {
                assert_eq!(peer, Some(IpAddr::from([127, 0, 0, 1])));
                let counter = Arc::clone(&counter);
                async move {
                    counter.fetch_add(1, Ordering::Relaxed);
                    connection.closing().clone().wait_for(|closing| *closing).await.unwrap();
                    drop(stream);
                }
            })
            .await;
        assert!(TcpStream::connect(address).await.is_err(), "the socket is closed");
        open.end().await;
        for client in &mut clients {
            assert_eq!(tokio::io::AsyncReadExt::read(client, &mut [0]).await.unwrap(), 0);
        }
        assert_eq!(served.load(Ordering::Relaxed), 4, "the fifth connection is above the cap");
    }

    #[tokio::test]
    async fn ending_connections_end_while_others_are_accepted() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let ((ending, ends), (stop, stopped)) = (watch::channel(false), watch::channel(false));
        let accept = AcceptLoop { ending: Some(ends), ..accept_loop(None, stopped) };
        let task = tokio::spawn(accept.run(listener, |stream, _, connection| async move {
            connection.closing().clone().wait_for(|closing| *closing).await.unwrap();
            drop(stream);
        }));
        ending.send(true).unwrap();
        for _ in 0..2 {
            let mut client = TcpStream::connect(address).await.unwrap();
            assert_eq!(tokio::io::AsyncReadExt::read(&mut client, &mut [0]).await.unwrap(), 0);
        }
        stop.send(true).unwrap();
        task.await.unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }
}
