//! Joins small writes: a response head and a small body leave in one packet.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::AsyncWrite;

/// How many bytes are joined. Larger writes are passed on at once, with what was held before.
pub(super) const JOINED_MAX: usize = 4 * 1024;

/// Room beside the first write, so that a small body after the head does not move it.
const ROOM: usize = 256;

/// Bytes that were written and not sent.
#[derive(Debug, Default)]
pub(super) struct WriteBuffer(BytesMut);

impl WriteBuffer {
    /// Writes bytes, or holds them until the next flush. The last part of a response is not held: nothing follows it.
    pub(super) fn poll_write<W: AsyncWrite>(
        &mut self,
        mut connection: Pin<&mut W>,
        context: &mut Context<'_>,
        (bytes, is_last): (&[u8], bool),
    ) -> Poll<io::Result<usize>> {
        let is_held = !is_last && self.0.len() + bytes.len() <= JOINED_MAX;
        if is_held {
            if self.0.is_empty() {
                self.0.reserve(bytes.len() + ROOM);
            }
            self.0.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        while !self.0.is_empty() {
            let slices = [IoSlice::new(&self.0), IoSlice::new(bytes)];
            let sent = ready!(connection.as_mut().poll_write_vectored(context, &slices))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let held = self.0.len();
            self.0.advance(sent.min(held));
            if sent > held {
                return Poll::Ready(Ok(sent - held));
            }
        }
        connection.poll_write(context, bytes)
    }

    /// Sends everything.
    pub(super) fn poll_flush<W: AsyncWrite>(
        &mut self,
        mut connection: Pin<&mut W>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.0.is_empty() {
            let sent = ready!(connection.as_mut().poll_write(context, &self.0))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.0.advance(sent);
        }
        connection.poll_flush(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn bytes_arrive_in_order_whatever_their_sizes() {
        let (mut client, mut server) = tokio::io::duplex(100);
        let mut expected = Vec::new();
        for size in [1, 4_000, 95, 10, 5_000, 1, 4_096, 4_097, 3] {
            expected.extend((0..=250).cycle().take(size));
        }
        let written = expected.clone();
        let writer = tokio::spawn(async move {
            let mut buffer = WriteBuffer::default();
            let mut rest = &written[..];
            let mut sizes = [1, 4_000, 95, 10, 5_000, 1, 4_096, 4_097, 3].into_iter().cycle();
            while !rest.is_empty() {
                let size = sizes.next().unwrap().min(rest.len());
                let write = |context: &mut Context<'_>| {
                    buffer.poll_write(Pin::new(&mut server), context, (&rest[..size], size == 10))
                };
                let sent = std::future::poll_fn(write).await.unwrap();
                rest = &rest[sent..];
            }
            std::future::poll_fn(|context| buffer.poll_flush(Pin::new(&mut server), context)).await.unwrap();
        });
        let mut received = Vec::new();
        client.read_to_end(&mut received).await.unwrap();
        writer.await.unwrap();
        assert_eq!(received, expected);
    }
}
