//! OAuth 2.0 error responses (RFC 6749 section 5.2).

use std::borrow::Cow;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use utoipa::openapi::schema::OneOfBuilder;
use utoipa::openapi::{Ref, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::admin::body::BodyError;
use crate::admin::error::ErrorResponse;

/// An error response. The description never contains a value that the client sent.
#[derive(Debug)]
pub(in crate::admin) struct OAuthError {
    status: StatusCode,
    error: &'static str,
    description: Cow<'static, str>,
}

/// The body of an error of introspection (RFC 6749 section 5.2).
#[derive(Serialize, ToSchema)]
#[schema(as = OAuthErrorResponse)]
pub(in crate::admin) struct OAuthErrorBody<'a> {
    /// `invalid_request` or `temporarily_unavailable`.
    error: &'a str,
    /// A description for people; not stable.
    error_description: &'a str,
}

/// The body of a 503: of introspection itself, or of the authentication of the caller.
pub(in crate::admin) struct UnavailableError;

impl ToSchema for UnavailableError {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        for (name, schema) in
            [(OAuthErrorBody::name(), OAuthErrorBody::schema()), (ErrorResponse::name(), ErrorResponse::schema())]
        {
            schemas.push((name.into_owned(), schema));
        }
    }
}

impl PartialSchema for UnavailableError {
    fn schema() -> RefOr<Schema> {
        let alternatives = OneOfBuilder::new()
            .item(Ref::from_schema_name(OAuthErrorBody::name()))
            .item(Ref::from_schema_name(ErrorResponse::name()));
        alternatives.description(Some("The error of introspection, or of the authentication of the caller.")).into()
    }
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
        let body = OAuthErrorBody { error: self.error, error_description: &self.description };
        let mut response = (self.status, Json(body)).into_response();
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
