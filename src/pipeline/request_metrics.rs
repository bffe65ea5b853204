//! Metrics of requests. Text that a client sent is never a label.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::error_type::{ErrorType, error_type};
use super::method::method_name;
use crate::wire::ShedReason;

/// Upper bounds of the buckets of latencies, in seconds.
pub const LATENCY_BUCKETS: [f64; 15] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// The statuses and rejection codes of most responses. Their counters are cached for each route. A flood of bad credentials is common, too.
const COMMON_OUTCOMES: [(u16, Option<&str>); 12] = [
    (200, None),
    (201, None),
    (204, None),
    (304, None),
    (404, None),
    (500, None),
    (401, Some("credential_missing")),
    (401, Some("credential_invalid")),
    (401, Some("credential_expired")),
    (401, Some("credential_revoked")),
    (403, Some("scope_insufficient")),
    (429, Some("quota_exceeded")),
];

/// The methods of most requests. Their series with the [`COMMON_OUTCOMES`] are cached for each route.
const COMMON_METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

/// Which way a request took through the gateway.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RequestPath {
    /// None: the request came to another front, which forwards nothing.
    #[default]
    None,
    /// The fast path: the front door forwards, or responds, itself.
    Fast,
    /// pingora's proxy.
    Proxy,
}

/// The metrics of all requests. Registered once in a process; every snapshot uses the same ones.
#[derive(Debug, Clone)]
pub struct Metrics {
    requests: IntCounterVec,
    duration: HistogramVec,
    http_duration: HistogramVec,
    upstream_duration: HistogramVec,
    in_flight: IntGauge,
    malformed: IntCounterVec,
    shed: IntCounterVec,
}

/// The metric series of a route, cached after their first use. Each series appears when it is first counted.
#[derive(Debug)]
pub(super) struct CachedSeries {
    route: Arc<str>,
    metrics: Metrics,
    duration: OnceLock<Histogram>,
    upstream_duration: OnceLock<Histogram>,
    /// By [`RequestPath`] and [`COMMON_OUTCOMES`].
    requests: [[OnceLock<IntCounter>; COMMON_OUTCOMES.len()]; 3],
    /// By [`COMMON_METHODS`] and [`COMMON_OUTCOMES`].
    http_duration: [[OnceLock<Histogram>; COMMON_OUTCOMES.len()]; COMMON_METHODS.len()],
}

/// What is counted of a finished request.
#[derive(Debug, Clone, Copy)]
pub(super) struct CountedRequest<'a> {
    pub(super) path: RequestPath,
    pub(super) method: &'a str,
    pub(super) status: u16,
    /// The code of the rejection.
    pub(super) rejection: Option<&'static str>,
    pub(super) elapsed: Duration,
    /// The time that the upstream took.
    pub(super) upstream: Option<Duration>,
}

/// Counts a request as in flight until it is dropped.
#[derive(Debug)]
pub(super) struct InFlight(IntGauge);

impl RequestPath {
    fn label(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Fast => "fast",
            Self::Proxy => "proxy",
        }
    }
}

impl Metrics {
    /// Creates the metrics and registers them.
    ///
    /// # Errors
    /// When `registry` has metrics of these names already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            requests: IntCounterVec::new(
                Opts::new(
                    "keygate_gateway_requests_total",
                    "Requests by route, status and rejection code, and by the path through the gateway: fast, or proxy for that of pingora",
                ),
                &["route", "status", "denial", "path"],
            )?,
            duration: HistogramVec::new(
                HistogramOpts::new(
                    "keygate_gateway_request_duration_seconds",
                    "Time from the request head to the end of the response",
                )
                .buckets(LATENCY_BUCKETS.to_vec()),
                &["route"],
            )?,
            http_duration: HistogramVec::new(
                HistogramOpts::new(
                    "http_server_request_duration_seconds",
                    "Time from the request head to the end of the response, by the OpenTelemetry conventions",
                )
                .buckets(LATENCY_BUCKETS.to_vec()),
                &["http_request_method", "http_response_status_code", "http_route", "error_type"],
            )?,
            upstream_duration: HistogramVec::new(
                HistogramOpts::new(
                    "keygate_gateway_upstream_duration_seconds",
                    "Time from the first attempt at the upstream to the end of its response",
                )
                .buckets(LATENCY_BUCKETS.to_vec()),
                &["route"],
            )?,
            in_flight: IntGauge::new("keygate_gateway_requests_in_flight", "Requests in flight")?,
            malformed: IntCounterVec::new(
                Opts::new("keygate_gateway_malformed_requests_total", "Requests whose head was refused, by reason"),
                &["reason"],
            )?,
            shed: IntCounterVec::new(
                Opts::new(
                    "keygate_gateway_shed_requests_total",
                    "Requests that were refused because of overload, by reason",
                ),
                &["reason"],
            )?,
        };
        registry.register(Box::new(metrics.requests.clone()))?;
        registry.register(Box::new(metrics.duration.clone()))?;
        registry.register(Box::new(metrics.http_duration.clone()))?;
        registry.register(Box::new(metrics.upstream_duration.clone()))?;
        registry.register(Box::new(metrics.in_flight.clone()))?;
        registry.register(Box::new(metrics.malformed.clone()))?;
        registry.register(Box::new(metrics.shed.clone()))?;
        Ok(metrics)
    }

    /// The number of requests in flight.
    pub fn in_flight(&self) -> i64 {
        self.in_flight.get()
    }

    /// Counts a request that is refused because of overload.
    pub(super) fn count_shed(&self, reason: ShedReason) {
        self.shed.with_label_values(&[reason.label()]).inc();
    }

    /// Counts a request as in flight.
    pub(super) fn begin(&self) -> InFlight {
        self.in_flight.inc();
        InFlight(self.in_flight.clone())
    }

    /// Counts a request whose head was refused.
    pub(super) fn count_malformed(&self, reason: &str) {
        self.malformed.with_label_values(&[reason]).inc();
    }

    /// Counts a finished request.
    pub(super) fn count(&self, route: Option<&CachedSeries>, request: &CountedRequest<'_>) {
        if let Some(series) = route {
            series.count(request);
        } else {
            let elapsed = request.elapsed.as_secs_f64();
            self.requests_series("", request).inc();
            self.duration.with_label_values(&[""]).observe(elapsed);
            self.http_series("", request).observe(elapsed);
        }
    }

    fn http_series(&self, route: &str, request: &CountedRequest<'_>) -> Histogram {
        let status = status_text(request.status);
        let error = match error_type(request.status, request.rejection) {
            None => "",
            Some(ErrorType::Code(code)) => code,
            Some(ErrorType::Status(_)) => status.as_str(),
        };
        self.http_duration.with_label_values(&[method_name(request.method), status.as_str(), route, error])
    }

    fn requests_series(&self, route: &str, request: &CountedRequest<'_>) -> IntCounter {
        let status = status_text(request.status);
        let rejection = request.rejection.unwrap_or_default();
        self.requests.with_label_values(&[route, status.as_str(), rejection, request.path.label()])
    }
}

fn status_text(status: u16) -> http::StatusCode {
    http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR)
}

impl CachedSeries {
    /// The series of a route with this name.
    pub(super) fn new(route: Arc<str>, metrics: &Metrics) -> Self {
        Self {
            route,
            metrics: metrics.clone(),
            duration: OnceLock::new(),
            upstream_duration: OnceLock::new(),
            requests: Default::default(),
            http_duration: Default::default(),
        }
    }

    /// The name of the route.
    pub(super) fn route(&self) -> &str {
        &self.route
    }

    fn count(&self, request: &CountedRequest<'_>) {
        let CountedRequest { path, method, status, rejection, elapsed, upstream } = *request;
        let elapsed = elapsed.as_secs_f64();
        let requests = || self.metrics.requests_series(&self.route, request);
        let http_duration = || self.metrics.http_series(&self.route, request);
        let common = COMMON_OUTCOMES.iter().position(|common| *common == (status, rejection));
        match common {
            Some(index) => self.requests[path as usize][index].get_or_init(requests).inc(),
            None => requests().inc(),
        }
        match common.zip(COMMON_METHODS.iter().position(|common| *common == method)) {
            Some((outcome, method)) => self.http_duration[method][outcome].get_or_init(http_duration).observe(elapsed),
            None => http_duration().observe(elapsed),
        }
        let duration = || self.metrics.duration.with_label_values(&[&self.route]);
        self.duration.get_or_init(duration).observe(elapsed);
        if let Some(upstream) = upstream {
            let duration = || self.metrics.upstream_duration.with_label_values(&[&self.route]);
            self.upstream_duration.get_or_init(duration).observe(upstream.as_secs_f64());
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}
