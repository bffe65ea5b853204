//! Request bodies: any content type, at most 4 MiB.

use axum::extract::{FromRequest, Request};
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::error::{ApiError, Reason};
use super::json::Message;

const BODY_MAX: usize = 4_194_304;

impl<S: Send + Sync> FromRequest<S> for Message {
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
        Self::parse(&body.to_bytes())
    }
}
