//! Why a request could not be proxied: the rejection for the client, and the fault for the operator.

use std::borrow::Cow;
use std::io;

use pingora::{Error, ErrorSource, ErrorType};

use super::body_limit::is_body_too_large;
use super::ending::LateResponse;
use super::supervision::STREAMS_EXCEEDED;
use crate::pipeline::Rejection;

/// Whether the client has closed its connection.
pub(super) fn is_client_disconnect(error: &Error) -> bool {
    error.esource() == &ErrorSource::Downstream
        && matches!(error.etype(), ErrorType::WriteError | ErrorType::ReadError | ErrorType::ConnectionClosed)
        && !matches!(stream_error(error), Some(io::ErrorKind::TimedOut | io::ErrorKind::InvalidData))
}

/// The error of the upstream if the stream of the request has reported that the response does not begin in time; else the same error.
#[expect(clippy::unnecessary_box_returns, reason = "pingora takes its errors boxed")]
pub(super) fn as_upstream_timeout(error: Box<Error>) -> Box<Error> {
    let cause = error.root_cause().downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    if let Some(cause) = cause
        && cause.is::<LateResponse>()
    {
        Error::explain(ErrorType::ReadTimedout, "while waiting for the head of the response").into_up()
    } else {
        error
    }
}

/// The rejection that the client gets.
pub(super) fn rejection(error: &Error) -> Rejection {
    match (error.etype(), error.esource()) {
        (
            ErrorType::ReadTimedout
            | ErrorType::WriteTimedout
            | ErrorType::ConnectTimedout
            | ErrorType::TLSHandshakeTimedout,
            ErrorSource::Upstream,
        ) => Rejection::UpstreamTimeout,
        (_, ErrorSource::Downstream) if stream_error(error) == Some(io::ErrorKind::TimedOut) => {
            Rejection::RequestTimeout
        }
        (kind, _) if *kind == STREAMS_EXCEEDED => Rejection::StreamsExceeded,
        _ if is_body_too_large(error) => Rejection::BodyTooLarge,
        (_, ErrorSource::Downstream) => Rejection::RequestInvalid("The request could not be read."),
        _ => Rejection::UpstreamUnreachable,
    }
}

/// What went wrong, without any text that the upstream has sent. `None` if the client is at fault.
pub(super) fn fault(error: &Error) -> Option<Cow<'static, str>> {
    if error.esource() == &ErrorSource::Downstream || *error.etype() == STREAMS_EXCEEDED {
        return None;
    }
    let kind = match error.etype() {
        ErrorType::InvalidHTTPHeader => "the head of the response is malformed",
        ErrorType::ConnectRefused => "the connection was refused",
        ErrorType::ConnectNoRoute => "there is no route to the address",
        ErrorType::ConnectTimedout => "the connection was not established in time",
        ErrorType::ConnectError | ErrorType::SocketError | ErrorType::BindError => "the connection failed",
        ErrorType::TLSHandshakeTimedout => "the TLS handshake did not end in time",
        ErrorType::TLSHandshakeFailure | ErrorType::InvalidCert => "the TLS handshake failed",
        ErrorType::ReadTimedout => "the response did not arrive in time",
        ErrorType::WriteTimedout => "the request was not read in time",
        ErrorType::ConnectionClosed => "the connection was closed before the response was complete",
        ErrorType::ReadError => "the response could not be read",
        ErrorType::WriteError => "the request could not be written",
        ErrorType::H2Error | ErrorType::InvalidH2 | ErrorType::H2Downgrade => "the HTTP/2 connection failed",
        other => other.as_str(),
    };
    let cause = error.root_cause().downcast_ref::<io::Error>().and_then(system_error);
    let cause = cause.or_else(|| handshake_error(error));
    Some(cause.map_or(kind.to_owned().into(), |cause| format!("{kind}: {cause}").into()))
}

/// The text of an error of the operating system or of TLS. Other errors may quote what the upstream has sent.
fn system_error(error: &io::Error) -> Option<String> {
    let is_of_tls = || error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()).is_some();
    (error.raw_os_error().is_some() || is_of_tls()).then(|| error.to_string())
}

/// Why a TLS handshake failed, for example because of the certificate of the endpoint. pingora keeps only the text of the error.
fn handshake_error(error: &Error) -> Option<String> {
    let context = error.context.as_ref().filter(|_| error.etype() == &ErrorType::TLSHandshakeFailure)?;
    Some(context.as_str().strip_prefix("TLS connect() failed: ")?.to_owned())
}

/// What the stream of the request has reported while the body was read.
fn stream_error(error: &Error) -> Option<io::ErrorKind> {
    if error.etype() != &ErrorType::ReadError {
        return None;
    }
    error.root_cause().downcast_ref::<io::Error>().map(io::Error::kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_names_the_cause_without_text_of_the_upstream() {
        let head = Error::explain(ErrorType::InvalidHTTPHeader, "buf: Set-Cookie: session=secret").into_up();
        assert_eq!(fault(&head).unwrap(), "the head of the response is malformed");
        let quoted = io::Error::new(io::ErrorKind::InvalidData, "Set-Cookie: session=secret");
        let read = Error::because(ErrorType::ReadError, "secret", quoted).into_up();
        assert_eq!(fault(&read).unwrap(), "the response could not be read");
    }

    #[test]
    fn fault_names_errors_of_the_system_and_of_tls() {
        let refused = io::Error::from_raw_os_error(111);
        let error = Error::because(ErrorType::ConnectRefused, "context", refused).into_up();
        assert_eq!(fault(&error).unwrap(), "the connection was refused: Connection refused (os error 111)");
        let tls = io::Error::other(rustls::Error::DecryptError);
        let error = Error::because(ErrorType::TLSHandshakeFailure, "context", tls).into_up();
        assert_eq!(fault(&error).unwrap(), "the TLS handshake failed: cannot decrypt peer's message");
    }

    #[test]
    fn client_is_at_fault() {
        let closed = Error::new_down(ErrorType::ReadError);
        assert_eq!(fault(&closed), None);
        assert!(is_client_disconnect(&closed));
    }
}
