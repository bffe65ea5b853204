//! What happens on a connection that a library serves: the requests in flight, and whether the client sends anything.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep};

/// The shortest time between two looks at the state of a connection that is to be closed.
const LOOK_MIN: Duration = Duration::from_millis(10);
/// How many looks there are within the time that a connection may be silent.
const LOOKS: u32 = 20;

/// What happens on a connection. Clones are of the same one.
#[derive(Debug, Clone, Default)]
pub struct Activity(Arc<State>);

#[derive(Debug, Default)]
struct State {
    in_flight: AtomicUsize,
    /// The number of reads that had a result.
    reads: AtomicUsize,
    is_multiplexed: AtomicBool,
}

/// A stream that notes what is read from it.
pub struct ActiveStream<S> {
    stream: S,
    activity: Activity,
}

impl Activity {
    /// Notes the beginning of a request. `is_multiplexed` if its protocol can end the connection without a response, as HTTP/2 does with
    /// GOAWAY. Returns whether it is the only request in flight.
    pub fn begin_request(&self, is_multiplexed: bool) -> bool {
        if is_multiplexed {
            self.0.is_multiplexed.store(true, Ordering::Relaxed);
        }
        self.0.in_flight.fetch_add(1, Ordering::AcqRel) == 0
    }

    /// Notes that the response of a request is known. Returns whether no request is in flight any more.
    pub fn end_request(&self) -> bool {
        self.0.in_flight.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Whether a request is in flight.
    pub fn is_active(&self) -> bool {
        self.0.in_flight.load(Ordering::Acquire) > 0
    }

    /// Notes that the client has sent something.
    pub(super) fn note_read(&self) {
        self.0.reads.fetch_add(1, Ordering::Relaxed);
    }

    /// The stream of the connection.
    pub fn of_stream<S>(&self, stream: S) -> ActiveStream<S> {
        ActiveStream { stream, activity: self.clone() }
    }

    /// Completes when the connection can be asked to end without the loss of a request: at once if its protocol has a message for that, and
    /// otherwise when it has been silent for `limit` from now on, without a request in flight.
    pub(super) async fn closable(&self, limit: Duration) {
        let reads = || self.0.reads.load(Ordering::Relaxed);
        let (mut since, mut seen) = (Instant::now(), reads());
        while !self.0.is_multiplexed.load(Ordering::Relaxed) && (self.is_active() || since.elapsed() < limit) {
            sleep((limit / LOOKS).max(LOOK_MIN)).await;
            let now = reads();
            if self.is_active() || now != seen {
                (since, seen) = (Instant::now(), now);
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ActiveStream<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let read = Pin::new(&mut this.stream).poll_read(context, buffer);
        if read.is_ready() {
            this.activity.note_read();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ActiveStream<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    async fn seconds(activity: &Activity) -> u64 {
        let started = Instant::now();
        activity.closable(LIMIT).await;
        started.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn silence_begins_again_with_each_read_and_after_each_request() {
        let activity = Activity::default();
        assert_eq!(seconds(&activity).await, 5);
        let client = activity.clone();
        tokio::spawn(async move {
            sleep(Duration::from_secs(4)).await;
            client.note_read();
            sleep(Duration::from_secs(4)).await;
            client.begin_request(false);
            sleep(Duration::from_secs(60)).await;
            client.end_request();
        });
        assert_eq!(seconds(&activity).await, 73);
    }

    #[tokio::test(start_paused = true)]
    async fn multiplexed_connection_is_asked_at_once() {
        let activity = Activity::default();
        assert!(activity.begin_request(true));
        assert!(!activity.begin_request(true));
        assert_eq!(seconds(&activity).await, 0);
        assert!(!activity.end_request());
        assert!(activity.end_request());
    }
}
