//! Request bodies: any content type, at most 4 MiB.

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
/// How much of a larger body is read at all.
const DRAIN_MAX: usize = 4 * BODY_MAX;
/// How long a body may take that somebody waits for.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a body may take that nobody waits for.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// A body as it came.
pub(super) struct RawBody(pub(super) Bytes);

/// The message in a body.
pub(super) struct Body<T>(pub(super) T);

impl RawBody {
    /// Reads the message; an empty body is an empty message.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        read(parse_object(&self.0)?)
    }
}

impl<S: Send + Sync> FromRequest<S> for RawBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let mut body = request.into_body();
        let Ok(read) = timeout(BODY_TIMEOUT, Limited::new(&mut body, BODY_MAX).collect()).await else {
            return Err(ApiError::invalid("the request body did not come in time"));
        };
        match read {
            Ok(body) => Ok(Self(body.to_bytes())),
            Err(error) if error.is::<LengthLimitError>() => {
                drain(body).await;
                let message = format!("request body exceeds maximum allowed size of {BODY_MAX} bytes");
                Err(ApiError::new(Reason::TooManyRequests, message))
            }
            Err(_) => Err(ApiError::invalid("the request body could not be read")),
        }
    }
}

/// Reads on, within reason, and keeps nothing: a client that is still sending would find a closed connection instead of
/// the answer.
pub(super) async fn drain(body: Incoming) {
    // What has not come by then is left to the end of the connection.
    let _ = timeout(DRAIN_TIMEOUT, read_on(body)).await;
}

async fn read_on(mut body: Incoming) {
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

    /// A body of which nothing ever comes.
    struct Late;

    impl HttpBody for Late {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Pending
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_comes_holds_nobody_up_for_ever() {
        drain(Incoming::new(Late)).await;
        let request = Request::new(Incoming::new(Late));
        let Err(error) = RawBody::from_request(request, &()).await else { panic!("nothing was sent") };
        assert_eq!(error.message(), "the request body did not come in time");
    }
}
