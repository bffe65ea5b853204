//! A connection to an endpoint. Its errors are those that pingora has for the same failures, so that both paths treat them alike.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use pingora::protocols::Stream;
use pingora::{Error, ErrorType};
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::time::Sleep;

use crate::gateway::http1::buffer_pool;
use crate::gateway::http1::receive::poll_receive;

/// How much is read at once.
const READ: usize = 16 * 1024;
/// How much of a response is read at once that arrives faster than that. It is read into its buffer without a copy.
const BULK_READ: usize = 64 * 1024;

/// A connection to an endpoint.
pub(super) struct EndpointStream {
    stream: Stream,
    /// What was received and not used.
    pub(super) received: BytesMut,
    /// How many bytes were received.
    total: usize,
    /// Whether the last read was a full one.
    is_bulk: bool,
    write_limit: Duration,
    /// Runs while the endpoint does not read.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl EndpointStream {
    /// A connection. A write may wait for `write_limit` until the endpoint reads.
    pub(super) fn new(stream: Stream, write_limit: Duration) -> Self {
        Self { stream, received: BytesMut::new(), total: 0, is_bulk: false, write_limit, stalled: None }
    }

    /// Sends all bytes.
    ///
    /// # Errors
    /// [`ErrorType::WriteError`] and [`ErrorType::WriteTimedout`].
    pub(super) fn poll_send(
        &mut self,
        bytes: &mut BytesMut,
        context: &mut Context<'_>,
        what: &'static str,
    ) -> Poll<pingora::Result<()>> {
        let sent = self.poll_send_all(bytes, context);
        if let Poll::Ready(result) = sent {
            self.stalled = None;
            return Poll::Ready(result.map_err(|error| Error::because(ErrorType::WriteError, what, error).into_up()));
        }
        let limit = self.write_limit;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(Error::explain(ErrorType::WriteTimedout, what).into_up()))
    }

    fn poll_send_all(&mut self, bytes: &mut BytesMut, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !bytes.is_empty() {
            let sent = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            bytes.advance(sent);
        }
        Pin::new(&mut self.stream).poll_flush(context)
    }

    /// Receives more. Returns the number of bytes; 0 at the end of the connection.
    ///
    /// # Errors
    /// [`ErrorType::ReadError`].
    pub(super) fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<pingora::Result<usize>> {
        let result = if self.is_bulk {
            self.poll_bulk(context)
        } else {
            poll_receive::<READ>(&mut self.stream, &mut self.received, context)
        };
        Poll::Ready(match ready!(result) {
            Ok(length) => {
                self.total += length;
                self.is_bulk = length >= READ;
                Ok(length)
            }
            Err(error) => Err(Error::because(ErrorType::ReadError, self.position(), error).into_up()),
        })
    }

    fn poll_bulk(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.received.reserve(BULK_READ);
        let result = pin!(self.stream.read_buf(&mut self.received)).poll(context);
        if result.is_pending() && self.received.is_empty() {
            self.received = BytesMut::new();
        }
        result
    }

    /// The error of a connection that was closed before the response was complete.
    #[expect(clippy::unnecessary_box_returns, reason = "pingora takes its errors boxed")]
    pub(super) fn closed(&self) -> Box<Error> {
        Error::explain(ErrorType::ConnectionClosed, self.position()).into_up()
    }

    /// The words by which `upstream::failure` recognizes an unanswered request.
    fn position(&self) -> String {
        format!("while reading the response, bytes already read: {}", self.total)
    }

    /// The connection, if the endpoint has sent nothing after the response.
    pub(super) fn into_idle(self) -> Option<Stream> {
        if !self.received.is_empty() {
            return None;
        }
        buffer_pool::put(self.received);
        Some(self.stream)
    }
}
