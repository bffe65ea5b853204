//! Idle connections to an endpoint, for HTTP/1.1. A connection costs no task: it is checked when it is taken, and once in a while.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use pingora::protocols::Stream;
use tokio::io::{AsyncRead, ReadBuf};

use crate::gateway::workers;

/// The most idle connections of a worker to an endpoint.
const IDLE_MAX: usize = 1024;
/// The number of pools. Workers beyond it share one with another worker.
const POOLS: usize = 16;

/// The idle connections to an endpoint, for each worker the one that was used last on top. A worker uses its own ones only: the sockets are
/// registered with its runtime.
#[derive(Debug, Default)]
pub(super) struct IdlePool([Mutex<Vec<Idle>>; POOLS]);

#[derive(Debug)]
struct Idle {
    stream: Stream,
    group: Group,
    /// When it was put back, by the coarse clock.
    since: Duration,
}

/// Connections of different groups are not exchanged: those that were abandoned, and those of other trust settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Group {
    /// The group of the endpoint's connections.
    pub(super) endpoint: u64,
    /// How often the TLS files have changed.
    pub(super) tls: u64,
}

impl IdlePool {
    /// Takes a connection of a group that is open and was idle for less than `limit`.
    pub(super) fn take(&self, group: Group, now: Duration, limit: Duration) -> Option<Stream> {
        let mut idle = self.of_worker().lock();
        loop {
            let mut last = idle.pop()?;
            if last.is_usable(group, now, limit) {
                return Some(last.stream);
            }
        }
    }

    /// Puts back a connection whose last response was read to its end. With too many connections in the pool, it is closed.
    pub(super) fn put(&self, stream: Stream, group: Group, now: Duration) {
        let mut idle = self.of_worker().lock();
        if idle.len() < IDLE_MAX {
            idle.push(Idle { stream, group, since: now });
        }
    }

    /// Closes the connections of other groups, those that the endpoint has closed, and those that were idle for `limit`.
    pub(super) fn sweep(&self, group: Group, now: Duration, limit: Duration) {
        for pool in &self.0 {
            pool.lock().retain_mut(|idle| idle.is_usable(group, now, limit));
        }
    }
}

impl IdlePool {
    fn of_worker(&self) -> &Mutex<Vec<Idle>> {
        &self.0[workers::current() % POOLS]
    }
}

impl Idle {
    fn is_usable(&mut self, group: Group, now: Duration, limit: Duration) -> bool {
        self.group == group && now.saturating_sub(self.since) < limit && is_open(&mut self.stream)
    }
}

/// Whether a connection is open and silent. What an endpoint sends without a request belongs to no response.
fn is_open(stream: &mut Stream) -> bool {
    let mut byte = [0];
    let mut buffer = ReadBuf::new(&mut byte);
    let mut context = Context::from_waker(Waker::noop());
    matches!(Pin::new(stream).poll_read(&mut context, &mut buffer), Poll::Pending)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    const GROUP: Group = Group { endpoint: 1, tls: 0 };
    const LIMIT: Duration = Duration::from_secs(60);

    async fn connection(listener: &TcpListener) -> (Stream, TcpStream) {
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let stream: pingora::protocols::l4::stream::Stream = client.into();
        (Box::new(stream), listener.accept().await.unwrap().0)
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[tokio::test]
    async fn connection_is_taken_while_it_is_open_and_young_and_of_the_group() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let pool = IdlePool::default();
        let (stream, _peer) = connection(&listener).await;
        pool.put(stream, GROUP, at(1));
        let stream = pool.take(GROUP, at(60), LIMIT).unwrap();
        pool.put(stream, GROUP, at(60));
        assert!(pool.take(GROUP, at(120), LIMIT).is_none(), "it is too old");
        let (stream, _peer) = connection(&listener).await;
        pool.put(stream, GROUP, at(1));
        assert!(pool.take(Group { tls: 1, ..GROUP }, at(1), LIMIT).is_none(), "its trust is another one");
    }

    #[tokio::test]
    async fn connection_that_was_closed_or_has_sent_something_is_not_taken() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        for is_closed in [true, false] {
            let pool = IdlePool::default();
            let (mut stream, mut peer) = connection(&listener).await;
            let mut none = [];
            if is_closed {
                drop(peer);
            } else {
                peer.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            }
            // The reactor has seen the event before the pool looks.
            std::future::poll_fn(|context| {
                let mut buffer = ReadBuf::new(&mut none);
                Pin::new(&mut stream).poll_read(context, &mut buffer)
            })
            .await
            .unwrap();
            pool.put(stream, GROUP, at(1));
            pool.sweep(GROUP, at(1), LIMIT);
            assert!(pool.take(GROUP, at(1), LIMIT).is_none(), "{is_closed}");
        }
    }
}
