//! Request bodies, read within bounds. Messages of the contract have any content type and at most 4 MiB.

use std::borrow::Cow;
use std::time::Duration;

use axum::body::Body as Incoming;
use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::error::{ApiError, Reason};
use super::json::{parse_object, read};

const BODY_MAX: usize = 4_194_304;
/// The maximum number of bytes that are read and discarded of a larger body.
const DRAIN_MAX: usize = 4 * BODY_MAX;
/// The timeout for reading a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// The timeout for reading and discarding a body.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a body was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyError {
    /// It has more bytes than allowed. It was read and discarded, within bounds.
    TooLarge,
    /// It was not received within [`BODY_TIMEOUT`].
    Timeout,
    /// The client closed the connection or broke the framing.
    Unreadable,
}

/// A body as received.
pub(super) struct RawBody(pub(super) Bytes);

/// A body parsed as a message.
pub(super) struct Body<T>(pub(super) T);

impl RawBody {
    /// Parses the message. An empty body is an empty message.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        read(parse_object(&self.0)?)
    }
}

impl<S: Send + Sync> FromRequest<S> for RawBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        read_body(request.into_body(), BODY_MAX).await.map(Self).map_err(|error| {
            let message = error.message(BODY_MAX);
            match error {
                BodyError::TooLarge => ApiError::new(Reason::TooManyRequests, message),
                BodyError::Timeout | BodyError::Unreadable => ApiError::invalid(message),
            }
        })
    }
}

impl BodyError {
    /// A description for the client; `max` is the limit in bytes.
    pub(super) fn message(self, max: usize) -> Cow<'static, str> {
        match self {
            Self::TooLarge => format!("request body exceeds maximum allowed size of {max} bytes").into(),
            Self::Timeout => "the request body was not received in time".into(),
            Self::Unreadable => "the request body could not be read".into(),
        }
    }
}

/// Reads a body of at most `max` bytes.
///
/// # Errors
/// [`BodyError`].
pub(super) async fn read_body(mut body: Incoming, max: usize) -> Result<Bytes, BodyError> {
    let Ok(read) = timeout(BODY_TIMEOUT, Limited::new(&mut body, max).collect()).await else {
        return Err(BodyError::Timeout);
    };
    match read {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            drain(body).await;
            Err(BodyError::TooLarge)
        }
        Err(_) => Err(BodyError::Unreadable),
    }
}

/// Reads and discards a body, within bounds. Otherwise a client that is still sending may get a connection reset instead of the
/// response.
pub(super) async fn drain(body: Incoming) {
    // After the timeout, hyper closes the connection.
    let _ = timeout(DRAIN_TIMEOUT, discard(body)).await;
}

async fn discard(mut body: Incoming) {
    let mut left = DRAIN_MAX;
    while let Some(Ok(frame)) = body.frame().await {
        let length = frame.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(length) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        RawBody::from_request(request, state).await?.read().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use axum::body::HttpBody;
    use hyper::body::Frame;

    use super::*;

    /// A body that never sends data.
    struct PendingBody;

    impl HttpBody for PendingBody {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Pending
        }
    }

    #[tokio::test(start_paused = true)]
    async fn body_that_is_never_sent_times_out() {
        drain(Incoming::new(PendingBody)).await;
        let request = Request::new(Incoming::new(PendingBody));
        let Err(error) = RawBody::from_request(request, &()).await else { panic!("the body was not sent") };
        assert_eq!(error.message(), "the request body was not received in time");
    }
}
