//! The one mapping from denials to HTTP: status, challenge, body (RFC 9457, RFC 6750 section 3).

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use serde::{Serialize, Serializer};

use super::extract::ExtractError;
use super::ratelimit::retry_after;
use crate::id::RequestId;
use crate::verifier::Denial;

/// The header that carries the request id, both ways.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The type of problem that the draft on rate-limit headers registers.
const QUOTA_EXCEEDED: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";
/// Room for the fields of most answers, with those that a server adds.
const HEADERS_USUAL: usize = 8;
/// Room for most bodies, in bytes.
const BODY_USUAL: usize = 256;
/// How soon a caller may try again when Keygate cannot decide, in seconds.
const RETRY_SECONDS: HeaderValue = HeaderValue::from_static("1");

impl From<ExtractError> for Denial {
    fn from(error: ExtractError) -> Self {
        match error {
            ExtractError::Ambiguous => Self::CredentialAmbiguous,
            ExtractError::Malformed => Self::CredentialMalformed,
        }
    }
}

/// How a denial looks.
struct Look {
    kind: &'static str,
    status: StatusCode,
    title: &'static str,
    detail: &'static str,
    challenge: Option<&'static str>,
}

/// The body of an answer (RFC 9457 section 3.1), in the order in which it is written.
#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    detail: &'static str,
    code: &'static str,
    request_id: &'a str,
    #[serde(rename = "violated-policies", skip_serializing_if = "Option::is_none")]
    violated: Option<Names<'a>>,
}

/// Names of limits.
struct Names<'a>(&'a [Arc<str>]);

/// The complete answer to a denied request.
pub fn problem(denial: &Denial, request_id: &RequestId) -> Response<Bytes> {
    let look = look(denial);
    let violated = if let Denial::QuotaExceeded { violated, .. } = denial { Some(Names(violated)) } else { None };
    let body = Body {
        kind: look.kind,
        title: look.title,
        status: look.status.as_u16(),
        detail: look.detail,
        code: denial.code(),
        request_id: request_id.as_str(),
        violated,
    };
    let mut text = Vec::with_capacity(BODY_USUAL);
    // Texts and numbers can always be written.
    let _ = serde_json::to_writer(&mut text, &body);
    let body = Bytes::from(text);
    let length = body.len();
    let mut response = Response::new(body);
    *response.status_mut() = look.status;
    let headers = response.headers_mut();
    headers.reserve(HEADERS_USUAL);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(CONTENT_LENGTH, length.into());
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_REQUEST_ID, request_id.value().clone());
    if let Some(challenge) = look.challenge {
        headers.insert(WWW_AUTHENTICATE, challenge_value(challenge, denial));
    }
    match denial {
        Denial::Unavailable { .. } => headers.insert(RETRY_AFTER, RETRY_SECONDS),
        Denial::QuotaExceeded { retry_after: wait, .. } => {
            retry_after(*wait).and_then(|seconds| headers.insert(RETRY_AFTER, seconds))
        }
        _ => None,
    };
    response
}

impl Serialize for Names<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|name| &**name))
    }
}

fn look(denial: &Denial) -> Look {
    const MISSING: Option<&str> = Some(r#"Bearer realm="keygate""#);
    const INVALID_REQUEST: Option<&str> = Some(r#"Bearer realm="keygate", error="invalid_request""#);
    const INVALID_TOKEN: Option<&str> = Some(r#"Bearer realm="keygate", error="invalid_token""#);
    const INSUFFICIENT: Option<&str> = Some(r#"Bearer realm="keygate", error="insufficient_scope""#);
    let (status, detail, challenge) = match denial {
        Denial::RouteNotFound => (StatusCode::NOT_FOUND, "No route takes this request.", None),
        Denial::RequestInvalid(why) => (StatusCode::BAD_REQUEST, *why, None),
        Denial::CredentialMissing => (
            StatusCode::UNAUTHORIZED,
            "Send an API key as `Authorization: Bearer <key>` or `X-API-Key: <key>`.",
            MISSING,
        ),
        Denial::CredentialAmbiguous => {
            (StatusCode::BAD_REQUEST, "The request carries two different credentials; send one.", INVALID_REQUEST)
        }
        Denial::CredentialMalformed => {
            (StatusCode::BAD_REQUEST, "What the request carries cannot be a credential.", INVALID_REQUEST)
        }
        Denial::Unknown(_) | Denial::FormatInvalid | Denial::SignatureInvalid => {
            (StatusCode::UNAUTHORIZED, "The credential is not valid.", INVALID_TOKEN)
        }
        Denial::Expired => (StatusCode::UNAUTHORIZED, "The credential has expired.", INVALID_TOKEN),
        Denial::Revoked => (StatusCode::UNAUTHORIZED, "The credential has been revoked.", INVALID_TOKEN),
        Denial::AudienceMismatch => {
            (StatusCode::UNAUTHORIZED, "The credential is meant for another audience.", INVALID_TOKEN)
        }
        Denial::AddressNotAllowed { .. } => {
            (StatusCode::FORBIDDEN, "The credential may not be used from this address.", None)
        }
        Denial::ScopeInsufficient { .. } => {
            (StatusCode::FORBIDDEN, "The credential lacks a scope that this route demands.", INSUFFICIENT)
        }
        Denial::QuotaExceeded { .. } => {
            (StatusCode::TOO_MANY_REQUESTS, "The caller has made more requests than its limits allow.", None)
        }
        Denial::Unavailable { .. } => {
            (StatusCode::SERVICE_UNAVAILABLE, "The credential cannot be judged now; try again shortly.", None)
        }
        Denial::UpstreamUnreachable => (StatusCode::BAD_GATEWAY, "The upstream cannot be reached.", None),
        Denial::UpstreamTimeout => (StatusCode::GATEWAY_TIMEOUT, "The upstream did not answer in time.", None),
    };
    let kind = if let Denial::QuotaExceeded { .. } = denial { QUOTA_EXCEEDED } else { "about:blank" };
    Look { kind, status, title: status.canonical_reason().unwrap_or_default(), detail, challenge }
}

/// The challenge, with the scopes that would have been enough.
fn challenge_value(challenge: &'static str, denial: &Denial) -> HeaderValue {
    if let Denial::ScopeInsufficient { required } = denial {
        let with_scopes = format!(r#"{challenge}, scope="{}""#, required.join(" "));
        if let Ok(value) = HeaderValue::from_str(&with_scopes) {
            return value;
        }
    }
    HeaderValue::from_static(challenge)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;
    use crate::verifier::UnknownReason;

    #[test]
    fn every_denial_has_its_answer() {
        let required = [Box::from("read:orders"), Box::from("write:orders")].into();
        let denials = [
            Denial::RouteNotFound,
            Denial::RequestInvalid("The request has two Host fields."),
            Denial::CredentialMissing,
            Denial::CredentialAmbiguous,
            Denial::CredentialMalformed,
            Denial::Unknown(UnknownReason::Checksum),
            Denial::Expired,
            Denial::Revoked,
            Denial::FormatInvalid,
            Denial::SignatureInvalid,
            Denial::AddressNotAllowed { known: true },
            Denial::AudienceMismatch,
            Denial::ScopeInsufficient { required },
            Denial::QuotaExceeded {
                violated: vec!["default".into(), "burst".into()],
                retry_after: std::time::Duration::from_millis(1500),
            },
            Denial::Unavailable { cause: crate::verifier::Outage::Database },
            Denial::UpstreamUnreachable,
            Denial::UpstreamTimeout,
        ];
        let mut text = String::new();
        for denial in &denials {
            let answer = problem(denial, &RequestId::sane("req-1").unwrap());
            writeln!(text, "{}", answer.status().as_u16()).unwrap();
            for (name, value) in answer.headers() {
                writeln!(text, "{name}: {}", value.to_str().unwrap()).unwrap();
            }
            writeln!(text, "{}\n", std::str::from_utf8(answer.body()).unwrap()).unwrap();
        }
        insta::assert_snapshot!(text);
    }
}
