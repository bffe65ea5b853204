//! A request on its way to an endpoint: its head, then the parts of its body as they arrive.

use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use pingora::{Error, ErrorType};
use tokio::io::{AsyncRead, ReadBuf};

use super::endpoint_stream::EndpointStream;
use crate::gateway::forwarding::Forwarding;
use crate::gateway::http1::buffer_pool;
use crate::gateway::http1::request_stream::RequestStream;

/// How much of a body is read at once.
const READ: usize = 16 * 1024;
/// How much of a body is kept to send it again.
const REPLAY_MAX: usize = 64 * 1024;
/// The words by which `upstream::failure` recognizes a request that was not processed.
const HEAD: &str = "while writing request headers";
const BODY: &str = "while writing the request body";

/// A request on its way to an endpoint.
pub(super) struct Upload {
    out: BytesMut,
    is_head_sent: bool,
    is_complete: bool,
    /// Why the endpoint gets no more. It may have responded before.
    pub(super) failure: Option<Box<Error>>,
}

/// What was read of a request body.
#[derive(Debug, Default)]
pub(super) struct Replay {
    bytes: BytesMut,
    /// Whether the body is longer than what is kept.
    is_truncated: bool,
}

/// The two sides of an exchange, and what is kept of the request.
pub(super) struct Sides<'s> {
    pub(super) client: &'s mut RequestStream,
    pub(super) endpoint: &'s mut EndpointStream,
    pub(super) request: &'s mut Forwarding,
    pub(super) replay: &'s mut Replay,
}

impl Replay {
    /// Whether all that was read can be sent again.
    pub(super) fn is_complete(&self) -> bool {
        !self.is_truncated
    }

    fn keep(&mut self, part: &[u8]) {
        self.is_truncated |= self.bytes.len() + part.len() > REPLAY_MAX;
        if self.is_truncated {
            self.bytes = BytesMut::new();
        } else {
            self.bytes.extend_from_slice(part);
        }
    }
}

impl Upload {
    /// A request with this head, and with what was read of its body before.
    pub(super) fn new(mut head: BytesMut, replay: &Replay) -> Self {
        head.extend_from_slice(&replay.bytes);
        Self { out: head, is_head_sent: false, is_complete: false, failure: None }
    }

    /// Puts the buffer back of a request that was sent.
    pub(super) fn end(self) {
        buffer_pool::put(self.out);
    }

    /// Whether everything was sent.
    pub(super) fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Sends what has arrived. Ready when everything was sent, or no more can be sent.
    ///
    /// # Errors
    /// [`ErrorType::ReadError`] of the client.
    pub(super) fn poll(&mut self, sides: &mut Sides<'_>, context: &mut Context<'_>) -> Poll<pingora::Result<()>> {
        let Sides { client, endpoint, request, replay } = sides;
        while !self.is_complete && self.failure.is_none() {
            let what = if self.is_head_sent { BODY } else { HEAD };
            if let Err(error) = ready!(endpoint.poll_send(&mut self.out, context, what)) {
                self.failure = Some(error);
                break;
            }
            self.is_head_sent = true;
            if client.is_body_read() {
                self.is_complete = true;
                break;
            }
            let mut bytes = [MaybeUninit::<u8>::uninit(); READ];
            let mut part = ReadBuf::uninit(&mut bytes);
            let read = ready!(Pin::new(&mut **client).poll_read(context, &mut part));
            read.map_err(|error| Error::because(ErrorType::ReadError, "reading the request body", error).into_down())?;
            replay.keep(part.filled());
            self.out.extend_from_slice(part.filled());
            let is_last = client.is_body_read();
            if let Some((supervision, _, progress)) = request.supervised() {
                progress.add_body(part.filled().len(), is_last);
                supervision.pass_request(is_last, progress);
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Ready with an error when the client has gone, or the response is late.
pub(super) fn poll_abandoned(client: &mut RequestStream, context: &mut Context<'_>) -> Poll<Box<Error>> {
    let waiting = |error| Error::because(ErrorType::ReadError, "waiting for the response", error);
    if !client.is_body_read() {
        // The end of the connection is found when the body is read.
        return client.poll_late(context).map(|error| waiting(error).into_down());
    }
    let read = ready!(client.poll_gone(context));
    let error = match read {
        Ok(()) => Error::explain(ErrorType::ConnectionClosed, "the client has closed its connection"),
        Err(error) => waiting(error),
    };
    Poll::Ready(error.into_down())
}
