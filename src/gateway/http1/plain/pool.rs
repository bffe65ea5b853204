//! Idle connections to an endpoint. A connection of the pool costs no task: it is checked when it is taken, and once in a while.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use pingora::protocols::Stream;
use tokio::io::{AsyncRead, ReadBuf};

/// The idle connections to an endpoint, the one that was used last on top.
#[derive(Debug, Default)]
pub(in crate::gateway) struct IdlePool(Mutex<Vec<Idle>>);

#[derive(Debug)]
struct Idle {
    stream: Stream,
    /// When it was put back, by the coarse clock.
    since: Duration,
}

impl IdlePool {
    /// Takes a connection that is open and was idle for less than `limit`.
    pub(in crate::gateway) fn take(&self, now: Duration, limit: Duration) -> Option<Stream> {
        let mut idle = self.0.lock();
        loop {
            let Idle { mut stream, since } = idle.pop()?;
            if now.saturating_sub(since) < limit && is_open(&mut stream) {
                return Some(stream);
            }
        }
    }

    /// Puts back a connection whose last response was read to its end. With `max` connections in the pool, it is closed.
    pub(in crate::gateway) fn put(&self, stream: Stream, now: Duration, max: usize) {
        let mut idle = self.0.lock();
        if idle.len() < max {
            idle.push(Idle { stream, since: now });
        }
    }

    /// Closes the connections that the endpoint has closed, or that were idle for longer than `limit`.
    pub(in crate::gateway) fn sweep(&self, now: Duration, limit: Duration) {
        self.0.lock().retain_mut(|idle| now.saturating_sub(idle.since) < limit && is_open(&mut idle.stream));
    }

    /// The number of connections.
    pub(in crate::gateway) fn len(&self) -> usize {
        self.0.lock().len()
    }
}

/// Whether a connection is open and silent. What an endpoint sends without a request belongs to no response.
fn is_open(stream: &mut Stream) -> bool {
    let mut byte = [0];
    let mut buffer = ReadBuf::new(&mut byte);
    let mut context = Context::from_waker(Waker::noop());
    matches!(Pin::new(stream).poll_read(&mut context, &mut buffer), Poll::Pending)
}
