//! OAuth 2.0 error responses (RFC 6749 section 5.2).

use std::borrow::Cow;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use serde::Serialize;

use crate::admin::body::BodyError;

/// An error response. The description never contains a value that the client sent.
#[derive(Debug)]
pub(super) struct OAuthError {
    status: StatusCode,
    error: &'static str,
    description: Cow<'static, str>,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: &'a str,
    error_description: &'a str,
}

impl OAuthError {
    /// A malformed request: 400.
    pub(super) fn invalid_request(description: impl Into<Cow<'static, str>>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, error: "invalid_request", description: description.into() }
    }

    /// A body of another media type: 415.
    pub(super) fn unsupported_media_type(description: &'static str) -> Self {
        Self { status: StatusCode::UNSUPPORTED_MEDIA_TYPE, ..Self::invalid_request(description) }
    }

    /// A body of more than `max` bytes (413), or one that was not received (400).
    pub(super) fn body(error: BodyError, max: usize) -> Self {
        let status = match error {
            BodyError::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            BodyError::Timeout | BodyError::Unreadable => StatusCode::BAD_REQUEST,
        };
        Self { status, ..Self::invalid_request(error.message(max)) }
    }

    /// Keygate cannot decide: 503 with `Retry-After`.
    pub(super) fn unavailable(description: &'static str) -> Self {
        let description = description.into();
        Self { status: StatusCode::SERVICE_UNAVAILABLE, error: "temporarily_unavailable", description }
    }
}

impl IntoResponse for OAuthError {
    fn into_response(self) -> Response {
        let body = ErrorBody { error: self.error, error_description: &self.description };
        let mut response = (self.status, Json(body)).into_response();
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
