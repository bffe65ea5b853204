//! Middleware of the admin API: response headers, metrics and the access log (contract, admin API section 3.5 and operations
//! sections 5 and 6).

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state, map_request, map_response};
use axum::response::{IntoResponse, Response};
use http::header::ALLOW;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry};
use tower_http::catch_panic::CatchPanicLayer;

use super::body::drain;
use super::browser::{BrowserRules, guard};
use super::console;
use super::context::request_context;
use super::custom_verb::decode_colon;
use super::error::{ApiError, not_found};
use super::state::AdminState;
use crate::audit_log::RefusedCall;
use crate::id::{KeyId, KeyKind, RequestId};
use crate::pipeline::{PlainRequest, RequestTrace};
use crate::request_context::{Principal, RequestContext};
use crate::wire::problem::X_REQUEST_ID;

const SECURITY_HEADERS: [(&str, &str); 6] = [
    ("strict-transport-security", "max-age=31536000; includeSubDomains"),
    ("x-frame-options", "DENY"),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "strict-origin-when-cross-origin"),
    ("permissions-policy", "geolocation=(), microphone=(), camera=()"),
    ("content-security-policy", "default-src 'self'; frame-ancestors 'none'"),
];

/// Metrics of the admin API.
#[derive(Clone)]
pub struct Metrics {
    requests: IntCounterVec,
    duration: HistogramVec,
    in_flight: IntGauge,
}

/// What observes the requests.
#[derive(Clone)]
pub(super) struct Observer {
    metrics: Metrics,
    state: AdminState,
}

impl Observer {
    pub(super) fn new(metrics: Metrics, state: &AdminState) -> Self {
        Self { metrics, state: state.clone() }
    }

    /// Counts a refused call for the audit trail.
    fn note_refused(&self, status: StatusCode, context: &RequestContext, (method, endpoint): (&Method, &str)) {
        if !matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS) {
            return;
        }
        // The calls of the API by its pages are noted already.
        if endpoint.starts_with(console::PREFIX) {
            return;
        }
        let route = format!("{} {endpoint}", method_label(method).to_ascii_uppercase());
        let call = RefusedCall { status: status.as_u16(), route: &route, time: self.state.lifecycle.now() };
        self.state.gathered_calls.refused.note(context, &call);
    }
}

impl Metrics {
    /// Registers them.
    ///
    /// # Errors
    /// If they are registered already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let labels = ["method", "code", "endpoint"];
        let metrics = Self {
            requests: IntCounterVec::new(Opts::new("http_requests_total", "Requests to the admin API"), &labels)?,
            duration: HistogramVec::new(
                HistogramOpts::new("http_request_duration_seconds", "Duration of requests to the admin API"),
                &labels,
            )?,
            in_flight: IntGauge::new("http_requests_in_flight", "Requests to the admin API in flight")?,
        };
        registry.register(Box::new(metrics.requests.clone()))?;
        registry.register(Box::new(metrics.duration.clone()))?;
        registry.register(Box::new(metrics.in_flight.clone()))?;
        Ok(metrics)
    }
}

/// Wraps the routes, from the outside in: a task for each request, the colon of custom verbs, removal of `Allow`, log and headers, the
/// rules for browsers, and a panic handler.
pub(super) fn wrap(routes: Router, observer: Observer, browser: Option<BrowserRules>) -> Router {
    let panics = CatchPanicLayer::custom(|_: Box<dyn std::any::Any + Send>| {
        ApiError::internal(&"a handler panicked").into_response()
    });
    let routes = match browser {
        Some(rules) => routes.layer(from_fn_with_state(Arc::new(rules), guard)),
        None => routes,
    };
    let routes = routes.layer(panics).layer(from_fn_with_state(observer, observe));
    Router::new()
        .fallback_service(routes)
        .layer(map_response(remove_allow))
        .layer(map_request(decode_colon))
        .layer(from_fn(run_to_completion))
}

/// Completes a request after the client disconnects: a stored change must reach the caches too.
async fn run_to_completion(request: Request, next: Next) -> Response {
    match tokio::spawn(next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::internal(&"the task of a request was cancelled").into_response(),
    }
}

/// The contract has no 405, and so no `Allow` header.
async fn remove_allow(mut response: Response) -> Response {
    response.headers_mut().remove(ALLOW);
    response
}

async fn observe(State(observer): State<Observer>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request_id(request.headers());
    let trace = observer.state.tracer.as_ref().map(|tracer| RequestTrace::begin(tracer, request.headers(), started));
    request.extensions_mut().insert(id.clone());
    let method = request.method().clone();
    let endpoint = request.extensions().get::<MatchedPath>().map_or("unknown", MatchedPath::as_str).to_owned();
    let path = request.uri().path().to_owned();
    let mut context = request_context(request.extensions(), request.headers(), &observer.state);
    observer.metrics.in_flight.inc();
    let mut response = next.run(drain_ignored_body(request).await).await;
    observer.metrics.in_flight.dec();
    let status = response.status();
    if let Some(principal) = response.extensions_mut().remove::<Principal>() {
        context.principal = principal;
    }
    observer.note_refused(status, &context, (&method, &endpoint));
    let labels = [method_label(&method), status.as_str(), &endpoint];
    observer.metrics.requests.with_label_values(&labels).inc();
    observer.metrics.duration.with_label_values(&labels).observe(started.elapsed().as_secs_f64());
    let is_health = path.starts_with("/health/");
    let path = loggable_path(&path, &endpoint);
    if !(observer.state.quiet_health && is_health) {
        let duration_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let (method, status, request_id) = (method.as_str(), status.as_u16(), id.as_str());
        let trace_id = trace.as_ref().map(|trace| tracing::field::display(trace.id()));
        tracing::info!(target: "keygate::admin_access", method, path, status, duration_us, request_id, trace_id, "HTTP request completed");
    }
    // Probes would be most of the traces.
    if let Some(trace) = trace.filter(|_| !is_health) {
        let route = Some(endpoint.as_str()).filter(|endpoint| *endpoint != "unknown");
        let (method, status) = (method.as_str(), status.as_u16());
        PlainRequest { method, route, path, status, request_id: &id }.end(trace);
    }
    for (name, value) in SECURITY_HEADERS {
        // The console has stricter ones.
        response.headers_mut().entry(HeaderName::from_static(name)).or_insert(HeaderValue::from_static(value));
    }
    response.headers_mut().insert(X_REQUEST_ID, id.value().clone());
    response
}

/// Rejects HEAD, which the contract does not have and axum would handle like GET.
pub(super) async fn reject_head(request: Request, next: Next) -> Response {
    if request.method() == Method::HEAD { not_found().await } else { next.run(request).await }
}

/// Drains the body of a method whose operations have none. An unread body would close the connection.
async fn drain_ignored_body(request: Request) -> Request {
    if !matches!(*request.method(), Method::GET | Method::DELETE) {
        return request;
    }
    let (head, body) = request.into_parts();
    drain(body).await;
    Request::from_parts(head, Body::empty())
}

/// The path for the log. If the last segment is not a key id, it may be a credential sent by mistake, and the route is logged.
fn loggable_path<'a>(path: &'a str, endpoint: &'a str) -> &'a str {
    if endpoint.starts_with(console::PREFIX) {
        return endpoint;
    }
    if !endpoint.ends_with("{key_id}") {
        return path;
    }
    let last = path.rsplit('/').next().unwrap_or_default();
    let (id, verb) = last.rsplit_once(':').unwrap_or((last, ""));
    let is_id = [KeyKind::Issued, KeyKind::Imported].into_iter().any(|kind| KeyId::parse(kind, id).is_some());
    if is_id && ["", "rotate", "revoke"].contains(&verb) { path } else { endpoint }
}

/// The metric label of a method, from a closed set.
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

/// The client's request id if it has 1 to 128 bytes, else a new one.
fn request_id(headers: &HeaderMap) -> RequestId {
    headers.get(X_REQUEST_ID).and_then(RequestId::from_value).unwrap_or_else(RequestId::random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logged_path_contains_key_ids_and_no_credentials() {
        let endpoint = "/issuedApiKeys/{key_id}";
        let id = "/issuedApiKeys/11111111-2222-4333-8444-555555555555";
        let imported = format!("/issuedApiKeys/{}", "0".repeat(64));
        for path in [id, &format!("{id}:rotate"), &format!("{imported}:revoke")] {
            assert_eq!(loggable_path(path, endpoint), path);
        }
        for path in ["/issuedApiKeys/sk_live_1", "/issuedApiKeys/sk_live_1:revoke", &format!("{id}:sk_live_1")] {
            assert_eq!(loggable_path(path, endpoint), endpoint);
        }
        assert_eq!(loggable_path("/issuedApiKeys", "/issuedApiKeys"), "/issuedApiKeys");
    }
}
