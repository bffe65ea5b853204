//! The answers over HTTP.

use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Response, StatusCode, Version};
use http_body_util::{BodyExt, Limited};

use super::check::{Allowed, Checked, Checker, Denied};
use super::endpoint::Endpoint;

/// The maximum size in bytes of a body that is read and discarded. A larger one closes the connection.
const BODY_MAX: usize = 64 * 1024;
/// The maximum time for that.
const BODY_TIMEOUT: Duration = Duration::from_secs(1);

const X_KEYGATE_STATUS: HeaderName = HeaderName::from_static("x-keygate-status");
const X_KEYGATE_DENIAL: HeaderName = HeaderName::from_static("x-keygate-denial");
/// Names the fields that Envoy removes from the request before it forwards it.
const ENVOY_REMOVE: HeaderName = HeaderName::from_static("x-envoy-auth-headers-to-remove");

/// Answers `auth_request` of nginx.
pub(super) async fn nginx(State(checker): State<Checker>, request: Request) -> Response<Body> {
    answer(&checker, Endpoint::Nginx, request).await
}

/// Answers `ForwardAuth` of Traefik and `forward_auth` of Caddy.
pub(super) async fn forward(State(checker): State<Checker>, request: Request) -> Response<Body> {
    answer(&checker, Endpoint::Forward, request).await
}

/// Answers `ext_authz` of Envoy.
pub(super) async fn envoy(State(checker): State<Checker>, request: Request) -> Response<Body> {
    answer(&checker, Endpoint::Envoy, request).await
}

async fn answer(checker: &Checker, endpoint: Endpoint, request: Request) -> Response<Body> {
    let (check_request, body) = request.into_parts();
    let is_discarded = discard(body).await;
    let result = checker.check(endpoint.original(&check_request), &check_request.headers).await;
    let mut response = match (result, endpoint) {
        (Checked::Allowed(allowed), Endpoint::Envoy) => {
            let removed = allowed.removed(&check_request.headers).collect::<Vec<_>>().join(",");
            let mut response = allow(allowed);
            if let Some(removed) = HeaderValue::try_from(removed).ok().filter(|removed| !removed.is_empty()) {
                response.headers_mut().insert(ENVOY_REMOVE, removed);
            }
            response
        }
        (Checked::Allowed(allowed), _) => allow(allowed),
        (Checked::Denied(denied), Endpoint::Nginx) => deny_nginx(denied),
        (Checked::Denied(denied), _) => denied.response.map(Body::from),
    };
    // HTTP/2 resets the stream instead.
    if !is_discarded && check_request.version <= Version::HTTP_11 {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// 200 with the identity fields. Envoy lets a request pass with exactly this status.
fn allow(allowed: Allowed) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    let fields = response.headers_mut();
    *fields = allowed.answer;
    for (name, value) in allowed.edits.set() {
        fields.insert(name, value.clone());
    }
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// 401 or 403, with the status for the client in a field: nginx reads no other status and no body.
fn deny_nginx(denied: Denied) -> Response<Body> {
    let (mut head, _) = denied.response.into_parts();
    head.headers.insert(X_KEYGATE_STATUS, head.status.as_u16().into());
    head.headers.insert(X_KEYGATE_DENIAL, HeaderValue::from_static(denied.code));
    head.headers.remove(CONTENT_TYPE);
    head.headers.remove(CONTENT_LENGTH);
    if head.status != StatusCode::UNAUTHORIZED {
        head.status = StatusCode::FORBIDDEN;
    }
    Response::from_parts(head, Body::empty())
}

/// Reads and discards a body, so that the connection can be reused. Returns whether nothing is left of it.
async fn discard(body: Body) -> bool {
    if body.is_end_stream() {
        return true;
    }
    let read = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, BODY_MAX).collect()).await;
    matches!(read, Ok(Ok(_)))
}
