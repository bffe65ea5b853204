//! Metrics of attempts at endpoints. The state of endpoints is in `state_metrics`.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::StatusCode;
use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry};

/// Upper bounds of histogram buckets, in seconds.
const BUCKETS: [f64; 15] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
const LABELS: &[&str] = &["upstream", "endpoint"];
/// The labels of [`Outcome`], in the order of its variants.
const OUTCOMES: [&str; 9] =
    ["2xx", "3xx", "4xx", "5xx", "connect_error", "timeout", "reset", "invalid_response", "other"];

/// How an attempt at an endpoint ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A response of a status class, 2 to 5.
    Status(u8),
    /// No connection.
    ConnectError,
    /// The endpoint was silent for too long.
    Timeout,
    /// The connection ended before the end of the response.
    Reset,
    /// The response could not be read.
    InvalidResponse,
}

/// The metrics of all endpoints.
#[derive(Debug, Clone)]
pub(super) struct Metrics {
    requests: IntCounterVec,
    connect: HistogramVec,
    first_byte: HistogramVec,
    ejections: IntCounterVec,
    retries: IntCounterVec,
}

/// The series of an endpoint. They are removed with it.
#[derive(Debug)]
pub(super) struct EndpointSeries {
    metrics: Metrics,
    upstream: Arc<str>,
    endpoint: Arc<str>,
    outcomes: [OnceLock<IntCounter>; OUTCOMES.len()],
    connect: Histogram,
    first_byte: Histogram,
    pub(super) ejections: IntCounter,
    pub(super) retries: IntCounter,
}

impl Outcome {
    /// The outcome of a final response.
    pub(super) fn of_status(status: StatusCode) -> Self {
        Self::Status(u8::try_from(status.as_u16() / 100).unwrap_or(0))
    }

    fn index(self) -> usize {
        match self {
            // A switch of protocols ends as any other response.
            Self::Status(1 | 2) => 0,
            Self::Status(3) => 1,
            Self::Status(4) => 2,
            Self::Status(5) => 3,
            Self::ConnectError => 4,
            Self::Timeout => 5,
            Self::Reset => 6,
            Self::InvalidResponse => 7,
            Self::Status(_) => 8,
        }
    }

    /// The value of the label `outcome`.
    pub(super) fn label(self) -> &'static str {
        OUTCOMES[self.index()]
    }
}

impl Metrics {
    /// Creates the metrics and registers them.
    ///
    /// # Errors
    /// When `registry` has metrics of these names already.
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name, help, labels| IntCounterVec::new(Opts::new(name, help), labels);
        let histogram =
            |name, help| HistogramVec::new(HistogramOpts::new(name, help).buckets(BUCKETS.to_vec()), LABELS);
        let metrics = Self {
            requests: counter(
                "keygate_upstream_requests_total",
                "Attempts at endpoints, by outcome: the class of the status, or why there was no response",
                &["upstream", "endpoint", "outcome"],
            )?,
            connect: histogram(
                "keygate_upstream_connect_duration_seconds",
                "Time to establish a connection, with TLS",
            )?,
            first_byte: histogram(
                "keygate_upstream_first_byte_duration_seconds",
                "Time from the selection of an endpoint to the head of its response",
            )?,
            ejections: counter("keygate_upstream_ejections_total", "Ejections of endpoints", LABELS)?,
            retries: counter(
                "keygate_upstream_retries_total",
                "Requests that were sent again after they failed at this endpoint",
                LABELS,
            )?,
        };
        registry.register(Box::new(metrics.requests.clone()))?;
        registry.register(Box::new(metrics.connect.clone()))?;
        registry.register(Box::new(metrics.first_byte.clone()))?;
        registry.register(Box::new(metrics.ejections.clone()))?;
        registry.register(Box::new(metrics.retries.clone()))?;
        Ok(metrics)
    }
}

impl EndpointSeries {
    pub(super) fn new(metrics: &Metrics, upstream: &Arc<str>, endpoint: &Arc<str>) -> Self {
        let labels = &[&**upstream, &**endpoint];
        Self {
            outcomes: Default::default(),
            connect: metrics.connect.with_label_values(labels),
            first_byte: metrics.first_byte.with_label_values(labels),
            ejections: metrics.ejections.with_label_values(labels),
            retries: metrics.retries.with_label_values(labels),
            metrics: metrics.clone(),
            upstream: Arc::clone(upstream),
            endpoint: Arc::clone(endpoint),
        }
    }

    /// Counts the end of an attempt.
    pub(super) fn count(&self, outcome: Outcome) {
        let labels = || [&*self.upstream, &*self.endpoint, outcome.label()];
        let counter = || self.metrics.requests.with_label_values(&labels());
        self.outcomes[outcome.index()].get_or_init(counter).inc();
    }

    /// Counts a new connection.
    pub(super) fn connected(&self, time: Duration) {
        self.connect.observe(time.as_secs_f64());
    }

    /// Counts the head of a response.
    pub(super) fn answered(&self, time: Duration) {
        self.first_byte.observe(time.as_secs_f64());
    }
}

impl Drop for EndpointSeries {
    fn drop(&mut self) {
        let labels = &[&*self.upstream, &*self.endpoint];
        // An error means that the series was never used.
        for vector in [&self.metrics.ejections, &self.metrics.retries] {
            let _ = vector.remove_label_values(labels);
        }
        for vector in [&self.metrics.connect, &self.metrics.first_byte] {
            let _ = vector.remove_label_values(labels);
        }
        for outcome in OUTCOMES {
            let _ = self.metrics.requests.remove_label_values(&[labels[0], labels[1], outcome]);
        }
    }
}
