//! Receives bytes of a connection. They are on the stack until there are some, so that a silent connection has no buffer.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use pingora::protocols::Stream;
use tokio::io::{AsyncRead, ReadBuf};

use super::buffer_pool;

/// Receives at most `SIZE` bytes and adds them to those that were `received`. Returns the number of bytes; 0 at the end of the connection.
pub(super) fn poll_receive<const SIZE: usize>(
    stream: &mut Stream,
    received: &mut BytesMut,
    context: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let mut bytes = [MaybeUninit::<u8>::uninit(); SIZE];
    let mut buffer = ReadBuf::uninit(&mut bytes);
    ready!(Pin::new(stream).poll_read(context, &mut buffer))?;
    let part = buffer.filled();
    if received.is_empty() {
        // A buffer of this size, whatever is left of the previous one.
        *received = buffer_pool::take(part.len());
    }
    received.extend_from_slice(part);
    Poll::Ready(Ok(part.len()))
}
