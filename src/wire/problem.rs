//! The only mapping from rejections to HTTP: status, challenge, body (RFC 9457, RFC 6750 section 3), and for gRPC requests the status of
//! the call (gRPC over HTTP/2, "Responses").

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::{Serialize, Serializer};

use super::Rejection;
use super::credential_locations::{Challenge, CredentialLocations};
use super::fields::Fields;
use super::ratelimit::retry_after;
use crate::id::RequestId;
use crate::verifier::Denial;

/// The field that carries the request id, in requests and responses.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The problem type that draft-ietf-httpapi-ratelimit-headers registers.
const QUOTA_EXCEEDED: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";
/// Initial capacity for fields: enough for most responses, including the fields that a server adds.
const HEADERS_USUAL: usize = 8;
/// Initial capacity for a body, in bytes.
const BODY_USUAL: usize = 256;
/// `Retry-After` when Keygate cannot decide, in seconds.
const RETRY_SECONDS: HeaderValue = HeaderValue::from_static("1");
/// The methods that are served, without extension methods (RFC 9110 section 15.5.6 requires the field).
const ALLOWED_METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
/// Status, detail and challenge when Keygate cannot decide.
const UNAVAILABLE: (StatusCode, &str, Option<Challenge>) =
    (StatusCode::SERVICE_UNAVAILABLE, "The credential cannot be judged now; try again shortly.", None);

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC: &str = "application/grpc";
/// The bytes of a `grpc-message` that are percent-encoded besides controls and non-ASCII.
const GRPC_MESSAGE_ENCODED: &AsciiSet = &CONTROLS.add(b'%');

/// The form of the response to a rejected request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ResponseForm {
    /// An HTTP status and a body of `application/problem+json`.
    #[default]
    Problem,
    /// A head with `grpc-status` and no body ("trailers-only").
    Grpc,
}

/// The parts of a response that depend on the kind of rejection.
struct Template<'a> {
    kind: &'static str,
    status: StatusCode,
    title: &'static str,
    detail: &'a str,
    challenge: Option<Challenge>,
}

/// The body (RFC 9457 section 3.1), in the order of serialization.
#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
    code: &'static str,
    request_id: &'a str,
    #[serde(rename = "violated-policies", skip_serializing_if = "Option::is_none")]
    violated: Option<Names<'a>>,
}

/// The names of limits.
struct Names<'a>(&'a [Arc<str>]);

impl ResponseForm {
    /// The form that the sender of a request with these fields can read: gRPC for `application/grpc` and its subtypes, such as
    /// `application/grpc+proto`.
    pub fn of<F: Fields>(fields: &F) -> Self {
        let is_grpc = |kind: &[u8]| {
            let (name, rest) = kind.split_at_checked(GRPC.len())?;
            Some(name.eq_ignore_ascii_case(GRPC.as_bytes()) && matches!(rest.first(), None | Some(b'+' | b';' | b' ')))
        };
        let kind = fields.field_values(&CONTENT_TYPE).next().and_then(is_grpc);
        if kind == Some(true) { Self::Grpc } else { Self::Problem }
    }
}

/// The HTTP status of the response to a rejected request.
pub fn rejection_status(rejection: &Rejection) -> StatusCode {
    template(rejection, CredentialLocations::standard()).status
}

/// The complete response to a rejected request. `locations` are those of its route; they are named if the request has no credential.
pub fn rejection_response(
    rejection: &Rejection,
    request_id: &RequestId,
    form: ResponseForm,
    locations: &CredentialLocations,
) -> Response<Bytes> {
    let template = template(rejection, locations);
    let mut response = match form {
        ResponseForm::Problem => problem(&template, rejection, request_id),
        ResponseForm::Grpc => grpc(&template),
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_REQUEST_ID, request_id.value().clone());
    if let Some(challenge) = template.challenge.and_then(|challenge| locations.challenge(challenge)) {
        headers.insert(WWW_AUTHENTICATE, challenge_value(challenge, rejection));
    }
    match rejection {
        Rejection::Denied(Denial::Unavailable { .. })
        | Rejection::LimiterUnavailable
        | Rejection::StreamsExceeded
        | Rejection::Overloaded(_)
        | Rejection::UpstreamOverloaded(_) => headers.insert(RETRY_AFTER, RETRY_SECONDS),
        Rejection::MethodNotAllowed => headers.insert(ALLOW, ALLOWED_METHODS),
        Rejection::QuotaExceeded { retry_after: wait, .. } | Rejection::AuthFailuresExceeded { retry_after: wait } => {
            retry_after(*wait).and_then(|seconds| headers.insert(RETRY_AFTER, seconds))
        }
        _ => None,
    };
    response
}

/// Status, type and body of a response for HTTP clients.
fn problem(template: &Template<'_>, rejection: &Rejection, request_id: &RequestId) -> Response<Bytes> {
    let violated = if let Rejection::QuotaExceeded { violated, .. } = rejection { Some(Names(violated)) } else { None };
    let body = Body {
        kind: template.kind,
        title: template.title,
        status: template.status.as_u16(),
        detail: template.detail,
        code: rejection.code(),
        request_id: request_id.as_str(),
        violated,
    };
    let mut text = Vec::with_capacity(BODY_USUAL);
    // Serialization of text and numbers into memory cannot fail.
    let _ = serde_json::to_writer(&mut text, &body);
    let body = Bytes::from(text);
    let length = body.len();
    let mut response = Response::new(body);
    *response.status_mut() = template.status;
    let headers = response.headers_mut();
    headers.reserve(HEADERS_USUAL);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(CONTENT_LENGTH, length.into());
    response
}

/// Status, type and call status of a response for gRPC clients.
fn grpc(template: &Template<'_>) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    let headers = response.headers_mut();
    headers.reserve(HEADERS_USUAL);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(GRPC));
    headers.insert(CONTENT_LENGTH, 0.into());
    headers.insert(GRPC_STATUS, grpc_status(template.status).into());
    let message = utf8_percent_encode(template.detail, GRPC_MESSAGE_ENCODED).to_string();
    if let Ok(message) = HeaderValue::try_from(message) {
        headers.insert(GRPC_MESSAGE, message);
    }
    response
}

/// The gRPC status code for an HTTP status of a rejection.
fn grpc_status(status: StatusCode) -> u16 {
    match status {
        StatusCode::BAD_REQUEST => 3,
        StatusCode::FORBIDDEN => 7,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::PAYLOAD_TOO_LARGE => 8,
        StatusCode::NOT_FOUND => 12,
        StatusCode::UNAUTHORIZED => 16,
        _ => 14,
    }
}

impl Serialize for Names<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|name| &**name))
    }
}

fn template<'a>(rejection: &Rejection, locations: &'a CredentialLocations) -> Template<'a> {
    let (status, detail, challenge) = match rejection {
        Rejection::RouteNotFound => (StatusCode::NOT_FOUND, "No route takes this request.", None),
        Rejection::RequestInvalid(why) => (StatusCode::BAD_REQUEST, *why, None),
        Rejection::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "CONNECT and TRACE are not served.", None),
        Rejection::TargetTooLong => (StatusCode::URI_TOO_LONG, "The request target is longer than the limit.", None),
        Rejection::HeadTooLarge => {
            (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "The request head exceeds a limit.", None)
        }
        Rejection::RequestTimeout => (StatusCode::REQUEST_TIMEOUT, "The request did not arrive in time.", None),
        Rejection::BodyTooLarge => {
            (StatusCode::PAYLOAD_TOO_LARGE, "The request body is larger than this route allows.", None)
        }
        Rejection::VersionNotSupported => {
            (StatusCode::HTTP_VERSION_NOT_SUPPORTED, "HTTP/1.0, HTTP/1.1 and HTTP/2 are served.", None)
        }
        Rejection::TlsRequired => (
            StatusCode::FORBIDDEN,
            "Credentials are accepted over TLS only; use https, and replace the credential.",
            None,
        ),
        Rejection::CredentialMissing => (StatusCode::UNAUTHORIZED, locations.hint(), Some(Challenge::Missing)),
        Rejection::CredentialAmbiguous => (
            StatusCode::BAD_REQUEST,
            "The request carries two different credentials; send one.",
            Some(Challenge::InvalidRequest),
        ),
        Rejection::CredentialMalformed => (
            StatusCode::BAD_REQUEST,
            "What the request carries cannot be a credential.",
            Some(Challenge::InvalidRequest),
        ),
        Rejection::CrossOriginForbidden => (
            StatusCode::FORBIDDEN,
            "A browser sent the credential with a request of another site, which this route does not allow.",
            None,
        ),
        Rejection::Denied(denial) => denied(denial),
        Rejection::ClientCertificateRequired => {
            (StatusCode::FORBIDDEN, "This route requires another client certificate, presented over TLS.", None)
        }
        Rejection::ScopeInsufficient { .. } => (
            StatusCode::FORBIDDEN,
            "The credential lacks a scope that this route demands.",
            Some(Challenge::InsufficientScope),
        ),
        Rejection::QuotaExceeded { .. } => {
            (StatusCode::TOO_MANY_REQUESTS, "The caller has made more requests than its limits allow.", None)
        }
        Rejection::AuthFailuresExceeded { .. } => (
            StatusCode::TOO_MANY_REQUESTS,
            "Too many rejected credentials came from this address; try again later.",
            None,
        ),
        Rejection::LimiterUnavailable => UNAVAILABLE,
        Rejection::PeerNotTrusted => (StatusCode::FORBIDDEN, "This listener answers trusted peers only.", None),
        Rejection::UpgradeDenied => (StatusCode::FORBIDDEN, "This route does not serve WebSockets.", None),
        Rejection::StreamsExceeded => {
            (StatusCode::SERVICE_UNAVAILABLE, "There are too many streams; try again later.", None)
        }
        Rejection::InternalError => {
            (StatusCode::INTERNAL_SERVER_ERROR, "The gateway failed to process the request.", None)
        }
        Rejection::UpstreamUnreachable => (StatusCode::BAD_GATEWAY, "The upstream cannot be reached.", None),
        Rejection::UpstreamTimeout => (StatusCode::GATEWAY_TIMEOUT, "The upstream did not answer in time.", None),
        Rejection::Overloaded(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "The gateway has too many requests; try again shortly.", None)
        }
        Rejection::UpstreamOverloaded(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "The upstream has too many requests in flight; try again shortly.", None)
        }
    };
    let kind = if let Rejection::QuotaExceeded { .. } = rejection { QUOTA_EXCEEDED } else { "about:blank" };
    Template { kind, status, title: status.canonical_reason().unwrap_or_default(), detail, challenge }
}

/// Status, detail and challenge of what the verifier denies.
fn denied(denial: &Denial) -> (StatusCode, &'static str, Option<Challenge>) {
    match denial {
        Denial::Unknown(_) | Denial::FormatInvalid | Denial::SignatureInvalid => {
            (StatusCode::UNAUTHORIZED, "The credential is not valid.", Some(Challenge::InvalidToken))
        }
        Denial::Expired => (StatusCode::UNAUTHORIZED, "The credential has expired.", Some(Challenge::InvalidToken)),
        Denial::Revoked => {
            (StatusCode::UNAUTHORIZED, "The credential has been revoked.", Some(Challenge::InvalidToken))
        }
        Denial::AudienceMismatch => {
            (StatusCode::UNAUTHORIZED, "The credential is meant for another audience.", Some(Challenge::InvalidToken))
        }
        Denial::AddressNotAllowed { .. } => {
            (StatusCode::FORBIDDEN, "The credential may not be used from this address.", None)
        }
        Denial::Unavailable { .. } => UNAVAILABLE,
    }
}

/// The challenge, with the required scopes if the credential lacks one.
fn challenge_value(challenge: &HeaderValue, rejection: &Rejection) -> HeaderValue {
    if let Rejection::ScopeInsufficient { required } = rejection {
        let challenge = challenge.to_str().unwrap_or_default();
        let with_scopes = format!(r#"{challenge}, scope="{}""#, required.join(" "));
        if let Ok(value) = HeaderValue::from_str(&with_scopes) {
            return value;
        }
    }
    challenge.clone()
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;
    use crate::verifier::UnknownReason;
    use crate::wire::ShedReason;
    use crate::wire::fields::FieldList;

    #[test]
    fn every_rejection_has_its_response() {
        let required = [Box::from("read:orders"), Box::from("write:orders")].into();
        let rejections = [
            Rejection::RouteNotFound,
            Rejection::RequestInvalid("The request has two Host fields."),
            Rejection::MethodNotAllowed,
            Rejection::TargetTooLong,
            Rejection::HeadTooLarge,
            Rejection::RequestTimeout,
            Rejection::BodyTooLarge,
            Rejection::VersionNotSupported,
            Rejection::TlsRequired,
            Rejection::CredentialMissing,
            Rejection::CredentialAmbiguous,
            Rejection::CredentialMalformed,
            Rejection::CrossOriginForbidden,
            Denial::Unknown(UnknownReason::Checksum).into(),
            Denial::Expired.into(),
            Denial::Revoked.into(),
            Denial::FormatInvalid.into(),
            Denial::SignatureInvalid.into(),
            Denial::AddressNotAllowed { known: true }.into(),
            Denial::AudienceMismatch.into(),
            Rejection::ClientCertificateRequired,
            Rejection::ScopeInsufficient { required },
            Rejection::QuotaExceeded {
                violated: vec!["default".into(), "burst".into()],
                retry_after: std::time::Duration::from_millis(1500),
            },
            Rejection::AuthFailuresExceeded { retry_after: std::time::Duration::from_millis(1500) },
            Denial::Unavailable { cause: crate::verifier::Outage::Database }.into(),
            Rejection::PeerNotTrusted,
            Rejection::UpgradeDenied,
            Rejection::StreamsExceeded,
            Rejection::InternalError,
            Rejection::UpstreamUnreachable,
            Rejection::UpstreamTimeout,
            Rejection::UpstreamOverloaded(ShedReason::MaxWaiting),
            Rejection::Overloaded(ShedReason::InFlight),
        ];
        let mut text = String::new();
        for (rejection, form) in rejections
            .iter()
            .flat_map(|rejection| [ResponseForm::Problem, ResponseForm::Grpc].map(|form| (rejection, form)))
        {
            let response = rejection_response(
                rejection,
                &RequestId::sane("req-1").unwrap(),
                form,
                CredentialLocations::standard(),
            );
            writeln!(text, "{}", response.status().as_u16()).unwrap();
            for (name, value) in response.headers() {
                writeln!(text, "{name}: {}", value.to_str().unwrap()).unwrap();
            }
            writeln!(text, "{}\n", std::str::from_utf8(response.body()).unwrap()).unwrap();
        }
        insta::assert_snapshot!(text);
    }

    #[test]
    fn form_follows_the_content_type() {
        for (kind, form) in [
            ("application/grpc", ResponseForm::Grpc),
            ("application/grpc+proto", ResponseForm::Grpc),
            ("Application/gRPC; charset=utf-8", ResponseForm::Grpc),
            ("application/grpc-web", ResponseForm::Problem),
            ("application/json", ResponseForm::Problem),
            ("app", ResponseForm::Problem),
        ] {
            let fields = [("content-type", kind.as_bytes())];
            assert_eq!(ResponseForm::of(&FieldList(&fields)), form, "{kind}");
        }
        assert_eq!(ResponseForm::of(&FieldList(&[])), ResponseForm::Problem);
    }
}
