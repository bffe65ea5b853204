//! Request bodies: any content type, at most 4 MiB.

use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use super::error::{ApiError, Reason};
use super::json::{parse_object, read};

const BODY_MAX: usize = 4_194_304;

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
        let body = Limited::new(request.into_body(), BODY_MAX).collect().await.map_err(|error| {
            if error.downcast_ref::<LengthLimitError>().is_some() {
                ApiError::new(
                    Reason::TooManyRequests,
                    format!("request body exceeds maximum allowed size of {BODY_MAX} bytes"),
                )
            } else {
                ApiError::invalid("the request body could not be read")
            }
        })?;
        Ok(Self(body.to_bytes()))
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        RawBody::from_request(request, state).await?.read().map(Self)
    }
}
