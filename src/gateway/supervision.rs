//! What limits an exchange while it is in progress: its timeouts, and the validity of its credential if it is a live stream.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use http::header::{CONTENT_TYPE, TRANSFER_ENCODING};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType};

use super::request_state::{Framing, Progress};
use super::timeouts::{AttemptTimeouts, Timeouts};
use crate::pipeline::live_streams::{EndReason, StreamKind};
use crate::pipeline::{Exchange, Rejection};
use crate::wire::fields::Fields;

/// The error of a stream that is not served, because there are too many.
pub(super) const STREAMS_EXCEEDED: ErrorType = ErrorType::new("StreamsExceeded");
/// The type of an event stream (HTML, "Server-sent events").
const EVENT_STREAM: &[u8] = b"text/event-stream";

/// The limits of one exchange, and what its client was sent.
#[derive(Debug, Default)]
pub(super) struct Supervision {
    timeouts: Option<AttemptTimeouts>,
    stream: Option<StreamKind>,
    /// Whether the whole request was received, so that the response depends on the upstream only.
    pub(super) is_request_complete: bool,
    /// The final status.
    pub(super) status: Option<u16>,
    /// Body bytes.
    pub(super) sent: usize,
}

impl Supervision {
    /// Begins an attempt to forward a request with these fields, and returns its timeouts.
    pub(super) fn begin_attempt<U, F: Fields>(
        &mut self,
        timeouts: Timeouts,
        fields: &F,
        exchange: &Exchange<U>,
        progress: &Progress,
    ) -> AttemptTimeouts {
        let timeouts = self.timeouts.get_or_insert_with(|| AttemptTimeouts::new(timeouts, fields, exchange.arrived()));
        timeouts.begin(&progress.ending);
        *timeouts
    }

    /// Begins to send a request. A gRPC call is a live stream from here on: its response may begin late.
    ///
    /// # Errors
    /// [`STREAMS_EXCEEDED`].
    pub(super) fn begin_request<U>(
        &mut self,
        is_body_empty: bool,
        exchange: &mut Exchange<U>,
        progress: &Arc<Progress>,
    ) -> pingora::Result<()> {
        if self.is_grpc() {
            self.begin_stream(StreamKind::Grpc, exchange, progress)?;
        }
        self.is_request_complete = is_body_empty;
        if is_body_empty {
            self.await_response(progress);
        }
        Ok(())
    }

    /// How long a part of the request may wait until the endpoint reads it.
    pub(super) fn write_limit(&self) -> Duration {
        self.timeouts.map(|timeouts| timeouts.write()).unwrap_or_default()
    }

    /// Sets the timeouts of an attempt.
    pub(super) fn apply_timeouts(&self, peer: &mut HttpPeer) {
        if let Some(timeouts) = &self.timeouts {
            timeouts.apply(peer);
        }
    }

    /// Whether the request is a gRPC call.
    pub(super) fn is_grpc(&self) -> bool {
        self.timeouts.is_some_and(|timeouts| timeouts.is_grpc())
    }

    /// Notes a part of the request body.
    pub(super) fn pass_request(&mut self, is_last: bool, progress: &Progress) {
        self.is_request_complete |= is_last;
        if is_last && !progress.is_answered() {
            self.await_response(progress);
        } else {
            progress.ending.touch();
        }
    }

    /// Begins the final response, which has these fields. `has_frames` says whether its client gets it over HTTP/1.1, so that the frames of a
    /// live stream are tracked.
    ///
    /// # Errors
    /// [`STREAMS_EXCEEDED`].
    pub(super) fn begin_response<U, F: Fields>(
        &mut self,
        (status, fields): (StatusCode, &F),
        has_frames: bool,
        exchange: &mut Exchange<U>,
        progress: &Arc<Progress>,
    ) -> pingora::Result<()> {
        self.status = Some(status.as_u16());
        if let Some(kind) = stream_kind(status, fields) {
            self.begin_stream(kind, exchange, progress)?;
            if kind == StreamKind::WebSocket {
                progress.ending.end_at_stop();
            }
            if has_frames && let Some(framing) = framing(kind, fields) {
                progress.set_framing(framing);
            }
        }
        if let Some(timeouts) = &self.timeouts {
            timeouts.begin_response(&progress.ending, self.stream);
        }
        Ok(())
    }

    /// Notes a part of the response body.
    pub(super) fn pass_response(&mut self, length: usize, progress: &Progress) {
        self.sent += length;
        progress.ending.touch();
    }

    /// Why the exchange has ended if `error` is a timeout of the upstream within the response.
    pub(super) fn end_reason(&self, error: &Error) -> Option<EndReason> {
        let is_timeout = error.etype() == &ErrorType::ReadTimedout && error.esource() == &ErrorSource::Upstream;
        self.timeouts.filter(|_| is_timeout).map(|timeouts| timeouts.silence_reason(self.stream.is_some()))
    }

    fn await_response(&self, progress: &Progress) {
        if let Some(timeouts) = &self.timeouts {
            timeouts.await_response(&progress.ending);
        }
    }

    fn begin_stream<U>(
        &mut self,
        kind: StreamKind,
        exchange: &mut Exchange<U>,
        progress: &Arc<Progress>,
    ) -> pingora::Result<()> {
        self.stream.get_or_insert(kind);
        progress.ending.watch();
        exchange.begin_stream(kind, || Arc::<Progress>::clone(progress)).map_err(|rejection| too_many(&rejection))
    }
}

#[expect(clippy::unnecessary_box_returns, reason = "pingora takes its errors boxed")]
fn too_many(rejection: &Rejection) -> Box<Error> {
    Error::explain(STREAMS_EXCEEDED, rejection.code()).into_in()
}

/// The kind of live stream that a response begins; `None` for an ordinary one. Whether an exchange is a gRPC call is known before.
fn stream_kind<F: Fields>(status: StatusCode, fields: &F) -> Option<StreamKind> {
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Some(StreamKind::WebSocket);
    }
    let kind = fields.field_values(&CONTENT_TYPE).next()?;
    let (name, rest) = kind.split_at_checked(EVENT_STREAM.len())?;
    let is_event_stream =
        name.eq_ignore_ascii_case(EVENT_STREAM) && matches!(rest.first(), None | Some(b';' | b' ' | b'\t'));
    is_event_stream.then_some(StreamKind::EventStream)
}

/// The frames of a live stream on an HTTP/1.1 connection; `None` if only the end of the connection ends it.
fn framing<F: Fields>(kind: StreamKind, fields: &F) -> Option<Framing> {
    match kind {
        StreamKind::WebSocket => Some(Framing::WebSocket),
        StreamKind::EventStream if fields.has_field(&TRANSFER_ENCODING) => Some(Framing::Chunks),
        StreamKind::EventStream | StreamKind::Grpc => None,
    }
}
