//! What went wrong between the gateway and an endpoint, from pingora's errors.

use pingora::{Error, ErrorSource, ErrorType};

use super::metrics::Outcome;

/// The end of the message of pingora's HTTP/1.1 client if not a byte of a response head was read.
const NOTHING_READ: &str = "bytes already read: 0";
/// The message of pingora's HTTP/1.1 client if the head could not be written.
const HEAD_NOT_WRITTEN: &str = "while writing request headers";

/// The message of pingora's HTTP/2 client if the connection takes no more requests.
const REQUEST_NOT_SENT: &str = "while sending request";

/// Part of the messages about a response that did not begin in time, of pingora and of the gateway. They do not tell whether a part of the head
/// had arrived.
const WAITING_FOR_HEAD: &str = "head";

type Cause = dyn std::error::Error + Send + Sync + 'static;

/// A failed attempt on an established connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) outcome: Outcome,
    /// Whether no byte of a response has arrived, as far as the error tells.
    pub(super) is_unanswered: bool,
    /// Whether the endpoint has certainly not processed the request.
    pub(super) is_unprocessed: bool,
    /// Whether the connection was closed.
    pub(super) is_closed: bool,
}

impl Failure {
    /// Reads an error of an exchange with an endpoint. `None` if the endpoint is not its cause.
    pub(super) fn of(error: &Error) -> Option<Self> {
        if error.esource() != &ErrorSource::Upstream {
            return None;
        }
        let h2 = h2_error(error);
        let is_head_unwritten = error.etype() == &ErrorType::WriteError && has_context(error, HEAD_NOT_WRITTEN);
        let is_io = h2.is_none_or(h2::Error::is_io);
        let failure = match error.etype() {
            ErrorType::ReadTimedout | ErrorType::WriteTimedout => {
                Self::new(Outcome::Timeout, has_context(error, WAITING_FOR_HEAD) || h2.is_some())
            }
            ErrorType::TLSHandshakeFailure => Self { is_unprocessed: true, ..Self::new(Outcome::ConnectError, true) },
            ErrorType::H2Downgrade => Self { is_unprocessed: true, ..Self::new(Outcome::InvalidResponse, true) },
            ErrorType::InvalidHTTPHeader | ErrorType::InvalidH2 => Self::new(Outcome::InvalidResponse, false),
            ErrorType::ConnectionClosed => {
                Self { is_closed: true, ..Self::new(Outcome::Reset, has_context(error, NOTHING_READ)) }
            }
            ErrorType::ReadError => {
                let is_unanswered = h2.is_some() || has_context(error, NOTHING_READ);
                Self { is_closed: is_io, ..Self::new(Outcome::Reset, is_unanswered) }
            }
            // The error of reading the response is replaced by the one of writing the body.
            ErrorType::WriteError => {
                Self { is_unprocessed: is_head_unwritten, is_closed: is_io, ..Self::new(Outcome::Reset, true) }
            }
            ErrorType::H2Error => Self {
                is_unprocessed: has_context(error, REQUEST_NOT_SENT),
                is_closed: h2.is_some_and(|error| error.is_io() || error.is_go_away()),
                ..Self::new(Outcome::Reset, h2.is_some())
            },
            _ => Self::new(Outcome::Reset, false),
        };
        Some(Self { is_unprocessed: failure.is_unprocessed || h2.is_some_and(is_refused_stream), ..failure })
    }

    fn new(outcome: Outcome, is_unanswered: bool) -> Self {
        Self { outcome, is_unanswered, is_unprocessed: false, is_closed: false }
    }
}

/// Whether a stream was refused, or came after the last one that the endpoint processes (RFC 9113 section 8.7). Of the streams of a connection
/// that the endpoint ends, the `h2` crate reports GOAWAY only for those after the last one.
fn is_refused_stream(error: &h2::Error) -> bool {
    let is_refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    error.is_remote() && (is_refused || error.is_go_away())
}

fn h2_error(error: &Error) -> Option<&h2::Error> {
    chain(error).find_map(|error| error.downcast_ref())
}

fn has_context(error: &Error, text: &str) -> bool {
    let context = |error: &Error| error.context.as_ref().is_some_and(|context| context.as_str().contains(text));
    context(error) || chain(error).filter_map(|error| error.downcast_ref::<Box<Error>>()).any(|error| context(error))
}

/// The causes of an error. Wrapped errors are boxed errors of pingora.
fn chain(error: &Error) -> impl Iterator<Item = &Cause> {
    std::iter::successors(error.cause.as_deref(), |current: &&Cause| {
        let boxed = current.downcast_ref::<Box<Error>>().map(|error| &**error);
        boxed?.cause.as_deref()
    })
}
