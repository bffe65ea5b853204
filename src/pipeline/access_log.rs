//! Access log and metrics of requests. Text that a client sent is never a label, and no credential is logged or counted.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use crate::id::{KeyId, RequestId};

/// The statuses of most responses. Their counters are cached for each route.
const COMMON_STATUSES: [u16; 6] = [200, 201, 204, 304, 404, 500];

/// The status that is logged when the client closed the connection before the response, as nginx does.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// The target of the access log.
const ACCESS_LOG: &str = "keygate::access";

/// The metrics of all requests. Registered once in a process; every snapshot uses the same ones.
#[derive(Debug, Clone)]
pub struct Metrics {
    requests: IntCounterVec,
    duration: HistogramVec,
    in_flight: IntGauge,
    malformed: IntCounterVec,
}

/// The metric series of a route, cached after their first use. Each series appears when it is first counted.
#[derive(Debug)]
pub struct CachedSeries {
    route: Arc<str>,
    metrics: Metrics,
    duration: OnceLock<Histogram>,
    /// Responses that are not rejections, by [`COMMON_STATUSES`].
    requests: [OnceLock<IntCounter>; COMMON_STATUSES.len()],
}

/// Counts a request as in flight until it is dropped.
#[derive(Debug)]
pub(super) struct InFlight(IntGauge);

/// One finished request, as it is counted and logged.
#[derive(Debug)]
pub(super) struct RequestLog<'a> {
    /// `None` if no log line is written.
    pub(super) request_id: Option<&'a RequestId>,
    pub(super) method: &'a str,
    /// The path as received, without the query: a query may contain secrets.
    pub(super) path: &'a str,
    pub(super) route: Option<&'a CachedSeries>,
    pub(super) key_id: Option<KeyId>,
    /// The code of the rejection.
    pub(super) rejection: Option<&'static str>,
    pub(super) client_ip: Option<IpAddr>,
    /// The peer of the socket, if that is not the client.
    pub(super) proxy: Option<IpAddr>,
    pub(super) arrived: Instant,
    pub(super) response: ResponseInfo,
}

/// What a front sent to the client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ResponseInfo {
    /// The status; `None` if the client closed the connection before the response.
    pub status: Option<u16>,
    /// Body bytes sent.
    pub bytes: usize,
}

impl Metrics {
    /// Creates the metrics and registers them.
    ///
    /// # Errors
    /// When `registry` has metrics of these names already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            requests: IntCounterVec::new(
                Opts::new("keygate_gateway_requests_total", "Requests by route, status and rejection code"),
                &["route", "status", "denial"],
            )?,
            duration: HistogramVec::new(
                HistogramOpts::new(
                    "keygate_gateway_request_duration_seconds",
                    "Time from the request head to the end of the response",
                ),
                &["route"],
            )?,
            in_flight: IntGauge::new("keygate_gateway_requests_in_flight", "Requests in flight")?,
            malformed: IntCounterVec::new(
                Opts::new("keygate_gateway_malformed_requests_total", "Requests whose head was refused, by reason"),
                &["reason"],
            )?,
        };
        registry.register(Box::new(metrics.requests.clone()))?;
        registry.register(Box::new(metrics.duration.clone()))?;
        registry.register(Box::new(metrics.in_flight.clone()))?;
        registry.register(Box::new(metrics.malformed.clone()))?;
        Ok(metrics)
    }

    /// The number of requests in flight.
    pub fn in_flight(&self) -> i64 {
        self.in_flight.get()
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

    /// Counts a finished request and writes its access-log line.
    pub(super) fn record(&self, log: &RequestLog<'_>) {
        let elapsed = log.arrived.elapsed();
        let status = log.response.status.unwrap_or(CLIENT_CLOSED_REQUEST);
        if let Some(series) = log.route {
            series.count(status, log.rejection, elapsed);
        } else {
            self.requests_series("", status, log.rejection).inc();
            self.duration.with_label_values(&[""]).observe(elapsed.as_secs_f64());
        }
        log.write(status, elapsed);
    }

    fn requests_series(&self, route: &str, status: u16, rejection: Option<&'static str>) -> IntCounter {
        let status = http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
        self.requests.with_label_values(&[route, status.as_str(), rejection.unwrap_or_default()])
    }
}

impl CachedSeries {
    /// The series of a route with this name.
    pub fn new(route: Arc<str>, metrics: &Metrics) -> Self {
        Self { route, metrics: metrics.clone(), duration: OnceLock::new(), requests: Default::default() }
    }

    fn count(&self, status: u16, rejection: Option<&'static str>, elapsed: Duration) {
        let requests = || self.metrics.requests_series(&self.route, status, rejection);
        let common = COMMON_STATUSES.iter().position(|common| *common == status).filter(|_| rejection.is_none());
        match common {
            Some(index) => self.requests[index].get_or_init(requests).inc(),
            None => requests().inc(),
        }
        let duration = || self.metrics.duration.with_label_values(&[&self.route]);
        self.duration.get_or_init(duration).observe(elapsed.as_secs_f64());
    }
}

impl RequestLog<'_> {
    /// Whether log lines are written.
    pub(super) fn is_enabled() -> bool {
        tracing::enabled!(target: ACCESS_LOG, tracing::Level::INFO)
    }

    fn write(&self, status: u16, elapsed: Duration) {
        tracing::info!(
            target: ACCESS_LOG,
            request_id = self.request_id.map(RequestId::as_str),
            method = self.method,
            path = self.path,
            status,
            bytes = self.response.bytes,
            duration_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
            route = self.route.map(|series| &*series.route),
            key_id = self.key_id.map(tracing::field::display),
            denial = self.rejection,
            peer = self.client_ip.map(tracing::field::display),
            proxy = self.proxy.map(tracing::field::display),
            "request served",
        );
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}
