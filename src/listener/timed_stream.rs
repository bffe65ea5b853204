//! Time limits of an HTTP/1.1 connection that a library serves: of a request head, between requests, and for a client that does not read.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::activity::Activity;

/// The time limits of a connection.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionTimes {
    /// From the first byte of a request head to its last one; on a new connection from its beginning.
    pub head: Duration,
    /// From the end of a response to the first byte of the next head.
    pub idle: Duration,
    /// Without a byte that the client accepts while data is waiting for it.
    pub write_stall: Duration,
}

/// A stream that fails with [`ErrorKind::TimedOut`] beyond its time limits.
pub struct TimedStream<S> {
    stream: S,
    times: ConnectionTimes,
    activity: Activity,
    reading: Reading,
    read_limit: Option<Pin<Box<Sleep>>>,
    write_limit: Option<Pin<Box<Sleep>>>,
}

/// What the stream waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    Head,
    Idle,
    Request,
}

impl<S> TimedStream<S> {
    /// A stream with time limits. The server notes in `activity` a request from the end of its head to the response.
    pub fn new(stream: S, times: ConnectionTimes, activity: Activity) -> Self {
        Self { stream, times, activity, reading: Reading::Head, read_limit: None, write_limit: None }
    }

    /// Fails if the time limit of what is being read has passed.
    fn check_read(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        let limit = match self.reading {
            Reading::Head => self.times.head,
            Reading::Idle => self.times.idle,
            Reading::Request => return Poll::Pending,
        };
        poll_limit(&mut self.read_limit, limit, context)
    }

    /// Follows the flag of the request in flight.
    fn follow_request(&mut self) {
        match (self.activity.is_active(), self.reading) {
            (true, Reading::Head | Reading::Idle) => {
                self.reading = Reading::Request;
                self.read_limit = None;
            }
            (false, Reading::Request) => self.reading = Reading::Idle,
            _ => {}
        }
    }

    /// Passes on the result of a write; fails if the client has not read for too long.
    fn check_write<T>(&mut self, written: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.write_limit = None;
            return written;
        }
        Poll::Ready(Err(ready!(poll_limit(&mut self.write_limit, self.times.write_stall, context))))
    }
}

fn poll_limit(limit: &mut Option<Pin<Box<Sleep>>>, time: Duration, context: &mut Context<'_>) -> Poll<io::Error> {
    let sleep = limit.get_or_insert_with(|| Box::pin(sleep(time)));
    sleep.as_mut().poll(context).map(|()| ErrorKind::TimedOut.into())
}

impl<S: AsyncRead + Unpin> AsyncRead for TimedStream<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.follow_request();
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(context, buffer);
        if read.is_ready() {
            this.activity.note_read();
        }
        match read {
            Poll::Ready(Ok(())) if buffer.filled().len() > before && this.reading == Reading::Idle => {
                this.reading = Reading::Head;
                match &mut this.read_limit {
                    Some(limit) => limit.as_mut().reset(Instant::now() + this.times.head),
                    limit @ None => *limit = Some(Box::pin(sleep(this.times.head))),
                }
                Poll::Ready(Ok(()))
            }
            Poll::Pending => Poll::Ready(Err(ready!(this.check_read(context)))),
            read @ Poll::Ready(_) => read,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TimedStream<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.check_write(written, context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(context, slices);
        this.check_write(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(context);
        this.check_write(flushed, context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let shut = Pin::new(&mut this.stream).poll_shutdown(context);
        this.check_write(shut, context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    const TIMES: ConnectionTimes = ConnectionTimes {
        head: Duration::from_secs(5),
        idle: Duration::from_secs(75),
        write_stall: Duration::from_secs(30),
    };

    fn timed() -> (DuplexStream, TimedStream<DuplexStream>, Activity) {
        let (client, server) = duplex(16);
        let activity = Activity::default();
        (client, TimedStream::new(server, TIMES, activity.clone()), activity)
    }

    /// Reads until the stream fails; returns the seconds until then.
    async fn seconds_until_timeout(stream: &mut TimedStream<DuplexStream>) -> u64 {
        let started = Instant::now();
        loop {
            match stream.read(&mut [0; 16]).await {
                Ok(read) => assert!(read > 0),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::TimedOut);
                    return started.elapsed().as_secs();
                }
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn head_must_be_whole_in_time() {
        let (mut client, mut stream, _activity) = timed();
        let drip = tokio::spawn(async move {
            while client.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(700)).await;
            }
        });
        assert_eq!(seconds_until_timeout(&mut stream).await, 5);
        drop(stream);
        drip.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn request_in_flight_has_no_limit_and_the_next_head_has_its_own() {
        let (mut client, mut stream, activity) = timed();
        client.write_all(b"head").await.unwrap();
        assert_eq!(stream.read(&mut [0; 16]).await.unwrap(), 4);
        activity.begin_request(false);
        let wait = async |stream: &mut TimedStream<DuplexStream>, seconds| {
            tokio::time::timeout(Duration::from_secs(seconds), stream.read(&mut [0; 16])).await.is_err()
        };
        assert!(wait(&mut stream, 600).await, "the request is in flight");
        activity.end_request();
        assert_eq!(seconds_until_timeout(&mut stream).await, 75);
        let (mut client, mut stream, activity) = timed();
        activity.begin_request(false);
        assert!(wait(&mut stream, 60).await);
        activity.end_request();
        assert!(wait(&mut stream, 60).await);
        client.write_all(b"next").await.unwrap();
        assert_eq!(seconds_until_timeout(&mut stream).await, 5);
    }

    #[tokio::test(start_paused = true)]
    async fn client_must_read() {
        let (mut client, mut stream, _activity) = timed();
        let started = Instant::now();
        let reader = tokio::spawn(async move {
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_secs(20)).await;
                client.read_exact(&mut [0; 16]).await.unwrap();
            }
            client
        });
        let error = stream.write_all(&[0; 1024]).await.unwrap_err();
        assert_eq!((error.kind(), started.elapsed().as_secs()), (ErrorKind::TimedOut, 90));
        drop(reader.await.unwrap());
    }
}
