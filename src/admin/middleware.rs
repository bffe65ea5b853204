//! What every answer of the admin API has, and what is counted and logged of it (contract, admin API section 3.5 and
//! operations sections 5 and 6).

use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use http::header::ALLOW;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry};
use tower_http::catch_panic::CatchPanicLayer;

use super::body::drain;
use super::error::ApiError;
use crate::id::{KeyId, KeyKind, RequestId};
use crate::wire::problem::X_REQUEST_ID;

const SECURITY_HEADERS: [(&str, &str); 6] = [
    ("strict-transport-security", "max-age=31536000; includeSubDomains"),
    ("x-frame-options", "DENY"),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "strict-origin-when-cross-origin"),
    ("permissions-policy", "geolocation=(), microphone=(), camera=()"),
    ("content-security-policy", "default-src 'self'; frame-ancestors 'none'"),
];

/// Counters of the admin API.
#[derive(Clone)]
pub(super) struct Metrics {
    requests: IntCounterVec,
    duration: HistogramVec,
    in_flight: IntGauge,
}

#[derive(Clone)]
struct Outer {
    metrics: Metrics,
    quiet_health: bool,
}

impl Metrics {
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let labels = ["method", "code", "endpoint"];
        let metrics = Self {
            requests: IntCounterVec::new(Opts::new("http_requests_total", "Calls of the admin API"), &labels)?,
            duration: HistogramVec::new(
                HistogramOpts::new("http_request_duration_seconds", "Time that calls of the admin API took"),
                &labels,
            )?,
            in_flight: IntGauge::new("http_requests_in_flight", "Calls of the admin API under way")?,
        };
        registry.register(Box::new(metrics.requests.clone()))?;
        registry.register(Box::new(metrics.duration.clone()))?;
        registry.register(Box::new(metrics.in_flight.clone()))?;
        Ok(metrics)
    }
}

/// Wraps the routes: outside a task for each request, in it the log and the headers, inside them a net for panics.
pub(super) fn wrap(routes: Router, metrics: Metrics, quiet_health: bool) -> Router {
    let panics = CatchPanicLayer::custom(|_: Box<dyn std::any::Any + Send>| {
        ApiError::internal(&"a handler panicked").into_response()
    });
    let routes = routes.layer(panics).layer(from_fn_with_state(Outer { metrics, quiet_health }, outer));
    Router::new().fallback_service(routes).layer(map_response(without_allow)).layer(from_fn(to_its_end))
}

/// Goes on when the caller hangs up: a change that is stored must reach the caches too.
async fn to_its_end(request: Request, next: Next) -> Response {
    match tokio::spawn(next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::internal(&"a request came to no end").into_response(),
    }
}

/// The contract knows no 405, and so not the field that goes with it.
async fn without_allow(mut response: Response) -> Response {
    response.headers_mut().remove(ALLOW);
    response
}

async fn outer(State(outer): State<Outer>, mut request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let id = request_id(request.headers());
    request.extensions_mut().insert(id.clone());
    let method = request.method().clone();
    let endpoint = request.extensions().get::<MatchedPath>().map_or("unknown", MatchedPath::as_str).to_owned();
    let path = request.uri().path().to_owned();
    outer.metrics.in_flight.inc();
    let mut response = next.run(without_ignored_body(request).await).await;
    outer.metrics.in_flight.dec();
    let status = response.status();
    let labels = [method_label(&method), status.as_str(), &endpoint];
    outer.metrics.requests.with_label_values(&labels).inc();
    outer.metrics.duration.with_label_values(&labels).observe(begun.elapsed().as_secs_f64());
    if !(outer.quiet_health && path.starts_with("/health/")) {
        let duration_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        let (method, status, request_id) = (method.as_str(), status.as_u16(), id.as_str());
        let path = shown_path(&path, &endpoint);
        tracing::info!(target: "keygate::access", method, path, status, duration_us, request_id, "HTTP request completed");
    }
    for (name, value) in SECURITY_HEADERS {
        response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response.headers_mut().insert(X_REQUEST_ID, id.value().clone());
    response
}

/// The same request without the body that no operation of its method reads; left unread, it would end the connection.
async fn without_ignored_body(request: Request) -> Request {
    if !matches!(*request.method(), Method::GET | Method::DELETE) {
        return request;
    }
    let (head, body) = request.into_parts();
    drain(body).await;
    Request::from_parts(head, Body::empty())
}

/// A path as it may be logged: with the id of a key only if it is one, because some take the key itself for its id.
fn shown_path<'a>(path: &'a str, endpoint: &'a str) -> &'a str {
    if !endpoint.ends_with("{key_id}") {
        return path;
    }
    let last = path.rsplit('/').next().unwrap_or_default();
    let (id, verb) = last.rsplit_once(':').unwrap_or((last, ""));
    let is_id = [KeyKind::Issued, KeyKind::Imported].into_iter().any(|kind| KeyId::parse(kind, id).is_some());
    if is_id && ["", "rotate", "revoke"].contains(&verb) { path } else { endpoint }
}

/// A label from a closed set: callers may invent methods.
fn method_label(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "get",
        "HEAD" => "head",
        "POST" => "post",
        "PUT" => "put",
        "PATCH" => "patch",
        "DELETE" => "delete",
        "OPTIONS" => "options",
        _ => "other",
    }
}

/// The caller's id if it is 1 to 128 bytes, else a new one.
fn request_id(headers: &HeaderMap) -> RequestId {
    headers.get(X_REQUEST_ID).and_then(RequestId::from_value).unwrap_or_else(RequestId::random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logged_path_has_ids_and_no_keys() {
        let endpoint = "/issuedApiKeys/{key_id}";
        let id = "/issuedApiKeys/11111111-2222-4333-8444-555555555555";
        let imported = format!("/issuedApiKeys/{}", "0".repeat(64));
        for path in [id, &format!("{id}:rotate"), &format!("{imported}:revoke")] {
            assert_eq!(shown_path(path, endpoint), path);
        }
        for path in ["/issuedApiKeys/sk_live_1", "/issuedApiKeys/sk_live_1:revoke", &format!("{id}:sk_live_1")] {
            assert_eq!(shown_path(path, endpoint), endpoint);
        }
        assert_eq!(shown_path("/issuedApiKeys", "/issuedApiKeys"), "/issuedApiKeys");
    }
}
