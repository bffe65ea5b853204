//! What is counted and logged of each request. Nothing a client sent is a label, and no credential is anywhere.

use std::array;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use http::Method;
use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use crate::id::{KeyId, RequestId};

/// Counters of the gateway.
#[derive(Debug, Clone)]
pub struct Metrics {
    requests: IntCounterVec,
    duration: HistogramVec,
    in_flight: IntGauge,
    /// Series that were counted in before, by route; names of routes come from the configuration.
    routes: Arc<ArcSwap<HashMap<Box<str>, Arc<RouteSeries>>>>,
}

/// How many kinds of answers a route remembers the counters of. Those beyond are looked up by their labels.
const ANSWERS_MAX: usize = 32;

/// Series of one route. Each appears when it is first counted in, and is not looked up again.
#[derive(Debug)]
struct RouteSeries {
    duration: Histogram,
    /// Filled from the front, so the usual answers are mostly found first.
    answers: [OnceLock<Answers>; ANSWERS_MAX],
}

/// How often an answer was given.
#[derive(Debug)]
struct Answers {
    status: u16,
    denial: &'static str,
    count: IntCounter,
}

/// One request, from its head to its end.
#[derive(Debug)]
pub struct Account {
    /// The request's id.
    pub request_id: RequestId,
    /// The route's name.
    pub route: Option<Arc<str>>,
    /// The key that was judged good.
    pub key_id: Option<KeyId>,
    /// Why it was refused.
    pub denial: Option<&'static str>,
    begun: Instant,
    in_flight: IntGauge,
}

/// What is known at a request's end.
#[derive(Debug)]
pub struct End<'a> {
    /// The method.
    pub method: &'a Method,
    /// The path as it came, without the query: a query may hold secrets.
    pub path: &'a str,
    /// The status sent; none when the client went away.
    pub status: Option<u16>,
    /// Body bytes sent.
    pub bytes: usize,
    /// The client's address.
    pub peer: Option<std::net::IpAddr>,
}

impl Metrics {
    /// Makes the counters known to `registry`.
    ///
    /// # Errors
    /// When counters of these names are there already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            requests: IntCounterVec::new(
                Opts::new("keygate_gateway_requests_total", "Requests by route, status and reason of refusal"),
                &["route", "status", "denial"],
            )?,
            duration: HistogramVec::new(
                HistogramOpts::new("keygate_gateway_request_duration_seconds", "Time from head to end of a request"),
                &["route"],
            )?,
            in_flight: IntGauge::new("keygate_gateway_requests_in_flight", "Requests under way")?,
            routes: Arc::default(),
        };
        registry.register(Box::new(metrics.requests.clone()))?;
        registry.register(Box::new(metrics.duration.clone()))?;
        registry.register(Box::new(metrics.in_flight.clone()))?;
        Ok(metrics)
    }

    /// Opens the account of a request.
    pub fn open(&self, request_id: RequestId) -> Account {
        self.in_flight.inc();
        let in_flight = self.in_flight.clone();
        Account { request_id, route: None, key_id: None, denial: None, begun: Instant::now(), in_flight }
    }

    /// How many requests are under way.
    pub fn in_flight(&self) -> i64 {
        self.in_flight.get()
    }

    /// Counts a request and writes its line.
    pub fn close(&self, account: &Account, end: &End<'_>) {
        let took = account.begun.elapsed();
        let route = account.route.as_deref().unwrap_or("");
        let denial = account.denial.unwrap_or("");
        let status = end.status.unwrap_or(499);
        let series = self.series(route);
        let count = || self.requests.with_label_values(&[route, status_text(status).as_str(), denial]);
        match series.answers(status, denial, count) {
            Some(count) => count.inc(),
            None => count().inc(),
        }
        series.duration.observe(took.as_secs_f64());
        log(account, end, status, took);
    }

    fn series(&self, route: &str) -> Arc<RouteSeries> {
        if let Some(series) = self.routes.load().get(route) {
            return Arc::clone(series);
        }
        let duration = self.duration.with_label_values(&[route]);
        let series = Arc::new(RouteSeries { duration, answers: array::from_fn(|_| OnceLock::new()) });
        self.routes.rcu(|routes| {
            let mut routes = HashMap::clone(routes);
            routes.insert(route.into(), Arc::clone(&series));
            routes
        });
        series
    }
}

impl RouteSeries {
    /// The counter of an answer; none when too many others came first.
    fn answers(&self, status: u16, denial: &'static str, count: impl Fn() -> IntCounter) -> Option<&IntCounter> {
        let held = |place: &'_ OnceLock<Answers>| {
            let answers = place.get_or_init(|| Answers { status, denial, count: count() });
            answers.status == status && answers.denial == denial
        };
        self.answers.iter().find(|place| held(place))?.get().map(|answers| &answers.count)
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.in_flight.dec();
    }
}

fn status_text(status: u16) -> http::StatusCode {
    http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR)
}

fn log(account: &Account, end: &End<'_>, status: u16, took: Duration) {
    tracing::info!(
        target: "keygate::access",
        request_id = account.request_id.as_str(),
        method = end.method.as_str(),
        path = end.path,
        status,
        bytes = end.bytes,
        duration_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        route = account.route.as_deref(),
        key_id = account.key_id.map(tracing::field::display),
        denial = account.denial,
        peer = end.peer.map(tracing::field::display),
        "request served",
    );
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use prometheus::TextEncoder;

    use super::*;

    fn served(metrics: &Metrics, route: Option<&str>, status: Option<u16>, denial: Option<&'static str>) {
        let mut account = metrics.open(RequestId::random());
        account.route = route.map(Arc::from);
        account.denial = denial;
        metrics.close(&account, &End { method: &Method::GET, path: "/", status, bytes: 0, peer: None });
    }

    #[test]
    fn each_answer_is_counted_under_its_labels_however_many_there_are() {
        let registry = Registry::new();
        let metrics = Metrics::register(&registry).unwrap();
        let statuses = 200..200 + 2 * u16::try_from(ANSWERS_MAX).unwrap();
        let mut expected = String::new();
        for status in statuses.clone() {
            writeln!(expected, r#"keygate_gateway_requests_total{{denial="",route="api",status="{status}"}} 2"#)
                .unwrap();
        }
        for status in statuses.clone().chain(statuses) {
            served(&metrics, Some("api"), Some(status), None);
        }
        served(&metrics, Some("api"), None, None);
        served(&metrics, None, Some(404), Some("route_not_found"));
        served(&metrics, Some("other"), Some(401), Some("credential_missing"));
        served(&metrics, Some("other"), Some(401), Some("credential_invalid"));
        let text = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        for line in expected.lines().chain([
            r#"keygate_gateway_requests_total{denial="",route="api",status="499"} 1"#,
            r#"keygate_gateway_requests_total{denial="route_not_found",route="",status="404"} 1"#,
            r#"keygate_gateway_requests_total{denial="credential_missing",route="other",status="401"} 1"#,
            r#"keygate_gateway_requests_total{denial="credential_invalid",route="other",status="401"} 1"#,
            r#"keygate_gateway_request_duration_seconds_count{route="api"} 129"#,
            r#"keygate_gateway_request_duration_seconds_count{route="other"} 2"#,
            "keygate_gateway_requests_in_flight 0",
        ]) {
            assert!(text.lines().any(|counted| counted == line), "{line} is not in\n{text}");
        }
        let series = text.lines().filter(|line| line.starts_with("keygate_gateway_requests_total")).count();
        assert_eq!(series, 2 * ANSWERS_MAX + 4);
    }
}
