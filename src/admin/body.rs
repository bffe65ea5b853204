//! Request bodies: any content type, at most 4 MiB.

use axum::body::Body as Incoming;
use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use super::error::{ApiError, Reason};
use super::json::{parse_object, read};

const BODY_MAX: usize = 4_194_304;
/// How much of a larger body is read at all.
const DRAIN_MAX: usize = 4 * BODY_MAX;

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
        match Limited::new(&mut body, BODY_MAX).collect().await {
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

/// Reads on, within reason, and keeps nothing: a client that is still sending would find a closed connection instead of the answer.
pub(super) async fn drain(mut body: Incoming) {
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
