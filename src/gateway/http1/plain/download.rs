//! The response on its way to the client: its head, edited, then its body in its framing.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf, BytesMut};
use http::header::{CONTENT_LOCATION, LOCATION};
use pingora::{Error, ErrorType};
use tokio::io::AsyncWrite;

use super::endpoint_stream::EndpointStream;
use super::request::{PlainRequest, parse};
use super::response_head::{Framing, ResponseHead, Unparsed};
use super::upload::{Sides, Upload, poll_abandoned};
use super::write_head::response_head;
use crate::gateway::forwarding::{Forwarding, unreachable_upstream};
use crate::gateway::http1::body::{Body, Filtered};
use crate::gateway::http1::buffer_pool;
use crate::gateway::http1::fields::{FieldStorage, HeadFields};
use crate::gateway::http1::write_buffer::JOINED_MAX;
use crate::wire::fields::Fields;

/// The start of a response, as the client gets it.
pub(super) enum Start {
    /// The head of an interim response.
    Interim(BytesMut),
    Final(Download),
}

/// The body of a response on its way to the client.
pub(super) struct Download {
    /// What is to be written next: at first, the head.
    out: BytesMut,
    body: ResponseBody,
    /// Whether the connection to the endpoint can be used for another request afterwards.
    pub(super) is_persistent: bool,
    /// When the head arrived, until the first step after that.
    start: Option<Instant>,
    is_last_part: bool,
    /// Why the start of the body cannot be passed on. The client gets the head first.
    failure: Option<Box<Error>>,
}

/// Where the body ends.
enum ResponseBody {
    Framed(Body),
    /// At the end of the connection, which was reached or not.
    UntilClose {
        is_closed: bool,
    },
}

impl PlainRequest<'_> {
    /// Takes a head from what the endpoint has sent; `None` if it is not complete.
    ///
    /// # Errors
    /// [`ErrorType::InvalidHTTPHeader`], or if there are too many live streams.
    #[inline(never)] // See `poll_caught` of the connection.
    pub(super) fn read_head(&mut self, endpoint: &mut EndpointStream) -> pingora::Result<Option<Start>> {
        if endpoint.received.is_empty() {
            return Ok(None);
        }
        let received = std::mem::take(&mut endpoint.received);
        let mut storage = FieldStorage::new();
        let parsed = match ResponseHead::parse(&received, &mut storage, &self.method) {
            Ok((head, length)) => self.translate(&head, received.len() - length).map(|start| Some((start, length))),
            Err(Unparsed::Incomplete) => Ok(None),
            Err(Unparsed::Malformed) => Err(invalid("the head of the response is malformed")),
        };
        endpoint.received = received;
        let Some((start, length)) = parsed? else { return Ok(None) };
        endpoint.received.advance(length);
        Ok(Some(start))
    }

    /// Edits a head of the response, after which this number of bytes has arrived.
    fn translate(&mut self, head: &ResponseHead<'_, '_>, arrived: usize) -> pingora::Result<Start> {
        let now = Instant::now();
        self.request.call.answered(head.status, now);
        if head.status == http::StatusCode::SWITCHING_PROTOCOLS {
            return Err(invalid("the upstream switched protocols unasked"));
        }
        let is_interim = head.status.is_informational();
        let fields = HeadFields::new(head.fields);
        if !is_interim {
            if let Some((supervision, exchange, progress)) = self.request.supervised() {
                supervision.begin_response((head.status, &fields), true, exchange, progress)?;
            }
            // A client that has not sent its whole request by now may never do so.
            let is_early = !self.client.is_body_read();
            self.closes |= head.framing == Framing::UntilClose || is_early || self.client.is_stopping();
        }
        let bytes = self.write_response_head(head, &fields, (now, arrived))?;
        if is_interim {
            return Ok(Start::Interim(bytes));
        }
        let body = match head.framing {
            Framing::None => ResponseBody::Framed(Body::of_length(0)),
            Framing::Length(length) => ResponseBody::Framed(Body::of_length(length)),
            Framing::Chunked => ResponseBody::Framed(Body::chunked()),
            Framing::UntilClose => ResponseBody::UntilClose { is_closed: false },
        };
        let is_persistent = head.is_persistent && head.framing != Framing::UntilClose;
        Ok(Start::Final(Download {
            out: bytes,
            body,
            is_persistent,
            start: Some(now),
            is_last_part: false,
            failure: None,
        }))
    }

    fn write_response_head(
        &mut self,
        head: &ResponseHead<'_, '_>,
        fields: &HeadFields<'_>,
        (now, arrived): (Instant, usize),
    ) -> pingora::Result<BytesMut> {
        let Forwarding { exchange, connection, call, .. } = &mut self.request;
        let (Some(exchange), Some(state)) = (exchange, connection.get_mut()) else {
            return Err(unreachable_upstream());
        };
        let mut edits = exchange.response_edits(head.status, fields);
        let mut add = |received: &HeadFields<'_>| {
            let (response, upstream) = ((head.status, fields), call.address());
            exchange.add_route_edits(&mut edits, response, received, &state.connection, upstream);
        };
        // The fields of the request count only for references, so that the head of the request is rarely parsed again.
        if [LOCATION, CONTENT_LOCATION].iter().any(|name| fields.has_field(name)) {
            let parsed = parse(&self.head, self.client.limits(), |request| add(&HeadFields::new(request.fields)));
            parsed.map_err(|_| invalid("the head of the request cannot be read again"))?;
        } else {
            add(&HeadFields::new(&[]));
        }
        Ok(response_head(head, &edits, self.closes, (now, arrived.min(JOINED_MAX))))
    }
}

impl Download {
    /// Passes the response on. Ready when the client was sent everything.
    ///
    /// # Errors
    /// Errors of the endpoint as those of its stream; those of the client as [`ErrorType::WriteError`] and [`ErrorType::ReadError`].
    pub(super) fn poll(
        &mut self,
        upload: &mut Upload,
        sides: &mut Sides<'_>,
        context: &mut Context<'_>,
    ) -> Poll<pingora::Result<()>> {
        self.join_start(sides);
        self.start = None;
        loop {
            if !self.out.is_empty() {
                match sides.client.poll_write_part(context, &self.out, self.is_last_part).map_err(write_error)? {
                    Poll::Ready(written) => self.out.advance(written),
                    Poll::Pending => return wait(upload, sides, context),
                }
            } else if let Some(failure) = self.failure.take() {
                return Poll::Ready(Err(failure));
            } else if self.body.is_done() {
                self.note_end(sides.request);
                return Pin::new(&mut *sides.client).poll_flush(context).map_err(write_error);
            } else if !sides.endpoint.received.is_empty() {
                self.take_part(sides.endpoint, sides.request)?;
            } else {
                match sides.endpoint.poll_receive(context)? {
                    Poll::Ready(0) => self.body.close(sides.endpoint)?,
                    Poll::Ready(_) => {}
                    Poll::Pending => {
                        // What has arrived is sent before more is waited for. If the client does not read it now, it is woken for that.
                        let _ = Pin::new(&mut *sides.client).poll_flush(context).map_err(write_error)?;
                        return wait(upload, sides, context);
                    }
                }
            }
        }
    }

    /// Adds the start of the body to the head, if it has arrived and is small: they leave in one packet, without another buffer.
    fn join_start(&mut self, sides: &mut Sides<'_>) {
        let Sides { endpoint, request, .. } = sides;
        let is_start = self.start.is_some() && !endpoint.received.is_empty() && !self.body.is_done();
        // The frames of a live stream are counted from the end of the head.
        let has_frames = request.progress().is_some_and(|progress| progress.framing().is_some());
        if !is_start || has_frames || self.out.len() + endpoint.received.len() > JOINED_MAX {
            return;
        }
        let head = std::mem::take(&mut self.out);
        self.failure = self.take_part(endpoint, request).err();
        let part = std::mem::replace(&mut self.out, head);
        self.out.extend_from_slice(&part);
        buffer_pool::put(part);
    }

    /// Puts the buffer back of a response that was sent.
    pub(super) fn end(self) {
        buffer_pool::put(self.out);
    }

    /// Takes the next part of the body from what was received.
    ///
    /// # Errors
    /// [`ErrorType::InvalidHTTPHeader`] for a body that is malformed.
    fn take_part(&mut self, endpoint: &mut EndpointStream, request: &mut Forwarding) -> pingora::Result<()> {
        let received = &mut endpoint.received;
        let payload = match &mut self.body {
            ResponseBody::Framed(body) => {
                let filtered = body.filter(received).map_err(|_| invalid("the body of the response is malformed"))?;
                let Filtered { kept, consumed, payload } = filtered;
                // Parts that share memory are counted, which a response that arrived whole does not need.
                let is_all = consumed == received.len();
                self.out = if is_all { std::mem::take(received) } else { received.split_to(consumed) };
                self.out.truncate(kept);
                payload
            }
            ResponseBody::UntilClose { .. } => {
                self.out = std::mem::take(received);
                self.out.len()
            }
        };
        if let Some((supervision, _, progress)) = request.supervised() {
            supervision.pass_response(payload, progress);
        }
        if self.body.is_done() {
            self.note_end(request);
        }
        Ok(())
    }

    /// Notes that what is written next is the last part.
    fn note_end(&mut self, request: &mut Forwarding) {
        if !std::mem::replace(&mut self.is_last_part, true) {
            // A response that arrived at once takes no other look at the clock.
            request.call.completed(self.start.unwrap_or_else(Instant::now));
            if let Some(progress) = request.progress() {
                progress.set_last_part();
            }
        }
    }
}

/// Goes on with the upload, and notices a client that has gone. Ready only with an error.
fn wait(upload: &mut Upload, sides: &mut Sides<'_>, context: &mut Context<'_>) -> Poll<pingora::Result<()>> {
    ready!(upload.poll(sides, context))?;
    poll_abandoned(sides.client, context).map(Err)
}

impl ResponseBody {
    fn is_done(&self) -> bool {
        match self {
            Self::Framed(body) => body.is_done(),
            Self::UntilClose { is_closed } => *is_closed,
        }
    }

    /// Notes the end of the connection.
    ///
    /// # Errors
    /// If the body is not complete.
    fn close(&mut self, endpoint: &EndpointStream) -> pingora::Result<()> {
        match self {
            Self::UntilClose { is_closed } => {
                *is_closed = true;
                Ok(())
            }
            Self::Framed(_) => Err(endpoint.closed()),
        }
    }
}

/// The error of a client that does not read, or has gone.
#[expect(clippy::unnecessary_box_returns, reason = "pingora takes its errors boxed")]
pub(super) fn write_error(error: io::Error) -> Box<Error> {
    Error::because(ErrorType::WriteError, "writing the response", error).into_down()
}

#[expect(clippy::unnecessary_box_returns, reason = "pingora takes its errors boxed")]
fn invalid(text: &'static str) -> Box<Error> {
    Error::explain(ErrorType::InvalidHTTPHeader, text).into_up()
}
