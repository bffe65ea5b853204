//! Errors of the admin API: one envelope, one table of reasons (contract, admin API section 3).

use std::borrow::Cow;
use std::collections::BTreeMap;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use crate::lifecycle::LifecycleError;
use crate::request_context::Principal;
use crate::store::StoreError;
use crate::verifier::Outage;

/// The reasons of errors. Their ids are part of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    BadRequest,
    DerivedTokenNotRevocable,
    Unauthorized,
    ApiKeyExpired,
    ApiKeyQuotaExceeded,
    Forbidden,
    NotFound,
    ApiKeyNotFound,
    Conflict,
    ApiKeyExists,
    FailedPrecondition,
    TooManyRequests,
    InternalServerError,
    ServiceUnavailable,
    GatewayTimeout,
}

/// An error response.
#[derive(Debug)]
pub(super) struct ApiError {
    reason: Reason,
    message: Cow<'static, str>,
    metadata: BTreeMap<&'static str, String>,
    /// Further fields of the head.
    headers: Option<Box<HeaderMap>>,
    /// The caller, if it is authenticated but may not make the call: for the audit trail.
    caller: Option<Principal>,
}

/// The wire form of a reason.
struct ReasonSpec {
    id: &'static str,
    http: StatusCode,
    status: &'static str,
    message: &'static str,
}

impl Reason {
    #[rustfmt::skip]
    fn spec(self) -> ReasonSpec {
        let (id, http, status, message) = match self {
            Self::BadRequest => ("BAD_REQUEST", StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", "The request was malformed or contained invalid parameters"),
            Self::DerivedTokenNotRevocable => ("DERIVED_TOKEN_NOT_REVOCABLE", StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", "Derived tokens cannot be revoked."),
            Self::Unauthorized => ("UNAUTHORIZED", StatusCode::UNAUTHORIZED, "UNAUTHENTICATED", "The request could not be authorized"),
            Self::ApiKeyExpired => ("API_KEY_EXPIRED", StatusCode::UNAUTHORIZED, "UNAUTHENTICATED", "The API key has expired."),
            Self::ApiKeyQuotaExceeded => ("API_KEY_QUOTA_EXCEEDED", StatusCode::PAYMENT_REQUIRED, "PERMISSION_DENIED", "The API key quota for the current plan has been reached."),
            Self::Forbidden => ("FORBIDDEN", StatusCode::FORBIDDEN, "PERMISSION_DENIED", "The requested action was forbidden"),
            Self::NotFound => ("NOT_FOUND", StatusCode::NOT_FOUND, "NOT_FOUND", "The requested resource could not be found"),
            Self::ApiKeyNotFound => ("API_KEY_NOT_FOUND", StatusCode::NOT_FOUND, "NOT_FOUND", "The API key was not found."),
            Self::Conflict => ("CONFLICT", StatusCode::CONFLICT, "ALREADY_EXISTS", "The resource could not be created due to a conflict"),
            Self::ApiKeyExists => ("API_KEY_EXISTS", StatusCode::CONFLICT, "ALREADY_EXISTS", "An API key with this identifier already exists."),
            Self::FailedPrecondition => ("FAILED_PRECONDITION", StatusCode::CONFLICT, "FAILED_PRECONDITION", "The operation cannot be completed due to a failed precondition."),
            Self::TooManyRequests => ("TOO_MANY_REQUESTS", StatusCode::TOO_MANY_REQUESTS, "RESOURCE_EXHAUSTED", "The request was throttled due to resource exhaustion."),
            Self::InternalServerError => ("INTERNAL_SERVER_ERROR", StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", "An internal server error occurred, please contact the system administrator"),
            Self::ServiceUnavailable => ("SERVICE_UNAVAILABLE", StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", "The service is temporarily unavailable."),
            Self::GatewayTimeout => ("GATEWAY_TIMEOUT", StatusCode::GATEWAY_TIMEOUT, "DEADLINE_EXCEEDED", "The operation timed out."),
        };
        ReasonSpec { id, http, status, message }
    }
}

impl ApiError {
    /// An error with the default message of its reason.
    pub(super) fn plain(reason: Reason) -> Self {
        Self::new(reason, reason.spec().message)
    }

    /// An error with a specific message.
    pub(super) fn new(reason: Reason, message: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, message: message.into(), metadata: BTreeMap::new(), headers: None, caller: None }
    }

    /// The error of a caller that is not authenticated, with a challenge (RFC 9110 section 11.6.1).
    pub(super) fn unauthenticated(message: &'static str) -> Self {
        let challenge = HeaderValue::from_static(r#"Bearer realm="keygate-admin""#);
        Self::new(Reason::Unauthorized, message).with_headers(HeaderMap::from_iter([(WWW_AUTHENTICATE, challenge)]))
    }

    /// The same error with further fields in the head.
    pub(super) fn with_headers(self, headers: HeaderMap) -> Self {
        Self { headers: Some(Box::new(headers)), ..self }
    }

    /// The same error for an authenticated caller.
    pub(super) fn of_caller(self, caller: Principal) -> Self {
        Self { caller: Some(caller), ..self }
    }

    /// The same error with a further member of its details.
    pub(super) fn with_metadata(mut self, name: &'static str, value: String) -> Self {
        self.metadata.insert(name, value);
        self
    }

    /// The message.
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// A client error.
    pub(super) fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Reason::BadRequest, message)
    }

    /// An internal error. The cause is logged and not sent.
    pub(super) fn internal(cause: &dyn std::fmt::Display) -> Self {
        tracing::error!(%cause, "an admin request failed");
        Self::new(Reason::InternalServerError, "an internal error occurred")
    }
}

impl From<LifecycleError> for ApiError {
    fn from(error: LifecycleError) -> Self {
        let message = error.to_string();
        match error {
            LifecycleError::Invalid(message) => Self::invalid(message),
            LifecycleError::NotFound(_) => Self::new(Reason::ApiKeyNotFound, message),
            LifecycleError::AlreadyRevoked | LifecycleError::IssuedShape => Self::new(Reason::Conflict, message),
            LifecycleError::AlreadyImported | LifecycleError::IdTaken => Self::new(Reason::ApiKeyExists, message),
            LifecycleError::DerivedShape
            | LifecycleError::NotActive
            | LifecycleError::Replaced(_)
            | LifecycleError::ParentEnded => Self::new(Reason::FailedPrecondition, message),
            LifecycleError::ScopeNotGranted(_) | LifecycleError::PublicKey | LifecycleError::ActorNotAllowed => {
                Self::new(Reason::Forbidden, message)
            }
            LifecycleError::NoSigningKey(kid) => {
                tracing::error!(kid, "{message}");
                let mut error = Self::new(Reason::InternalServerError, message);
                if !kid.is_empty() {
                    error.metadata.insert("signing_key_id", kid);
                }
                error
            }
            LifecycleError::Expired => Self::new(Reason::ApiKeyExpired, message),
            LifecycleError::QuotaExceeded => Self::plain(Reason::ApiKeyQuotaExceeded),
            LifecycleError::Store(error) => error.into(),
            LifecycleError::Internal(cause) => Self::internal(&cause),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) => {
                tracing::error!(%error, "an admin request failed");
                Outage::Connection.into()
            }
            StoreError::Timeout => Outage::Timeout.into(),
            StoreError::Busy => Outage::Busy.into(),
            StoreError::Corrupt(_) | StoreError::WrongTenant(_) => Self::internal(&error),
        }
    }
}

impl From<Outage> for ApiError {
    fn from(outage: Outage) -> Self {
        match outage {
            Outage::Connection | Outage::Busy => Self::new(Reason::ServiceUnavailable, outage.message()),
            Outage::Timeout => Self::new(Reason::GatewayTimeout, outage.message()),
            Outage::Database => Self::internal(&outage.message()),
        }
    }
}

/// The response for an unknown path or method.
pub(super) async fn not_found() -> Response {
    ApiError::plain(Reason::NotFound).into_response()
}

/// The body of every error response: the error, and beside it the members of `Status`, which the published clients read at top level.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ErrorResponse {
    /// As `error.code`.
    code: u16,
    /// As `error.message`.
    message: String,
    /// As `error.details`.
    #[schema(min_items = 1, max_items = 1)]
    details: [ErrorInfo; 1],
    error: ErrorBody,
}

/// The error.
#[derive(Debug, Serialize, ToSchema)]
struct ErrorBody {
    /// The HTTP status.
    code: u16,
    /// A description for people; not stable.
    message: String,
    /// The name of the gRPC status code.
    status: &'static str,
    /// Exactly one.
    #[schema(min_items = 1, max_items = 1)]
    details: [ErrorInfo; 1],
}

/// The error details that clients match on.
#[derive(Debug, Clone, Serialize, ToSchema)]
struct ErrorInfo {
    #[serde(rename = "@type")]
    kind: &'static str,
    /// The id of the error.
    reason: &'static str,
    domain: &'static str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(required = false)]
    metadata: BTreeMap<&'static str, String>,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let spec = self.reason.spec();
        let info = ErrorInfo {
            kind: "type.googleapis.com/google.rpc.ErrorInfo",
            reason: spec.id,
            domain: "www.ory.com/talos",
            metadata: self.metadata,
        };
        let (code, message, details) = (spec.http.as_u16(), self.message.into_owned(), [info]);
        let error = ErrorBody { code, message: message.clone(), status: spec.status, details: details.clone() };
        let mut response = (spec.http, Json(ErrorResponse { code, message, details, error })).into_response();
        if self.reason == Reason::ServiceUnavailable {
            response.headers_mut().insert(http::header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response.headers_mut().extend(self.headers.map(|headers| *headers).unwrap_or_default());
        if let Some(caller) = self.caller {
            response.extensions_mut().insert(caller);
        }
        response
    }
}
