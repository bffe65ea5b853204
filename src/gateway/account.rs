//! What is counted and logged of each request. Nothing a client sent is a label, and no credential is anywhere.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use http::Method;
use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::route::Route;
use crate::id::{KeyId, RequestId};

/// Counters of the gateway.
#[derive(Debug, Clone)]
pub struct Metrics {
    requests: IntCounterVec,
    duration: HistogramVec,
    in_flight: IntGauge,
    /// By the routes' numbers.
    found: Arc<[Found]>,
}

/// Series of a route that were counted in before, so that they need not be looked up again.
#[derive(Debug, Default)]
struct Found {
    duration: OnceLock<Histogram>,
    /// Of answers that are no refusals, by [`USUAL`].
    requests: [OnceLock<IntCounter>; USUAL.len()],
}

/// The statuses of most answers.
const USUAL: [u16; 6] = [200, 201, 204, 304, 404, 500];

/// One request, from its head to its end.
#[derive(Debug)]
pub struct Account {
    /// The request's id.
    pub request_id: RequestId,
    /// The route that took it.
    pub route: Option<Arc<Route>>,
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
    /// Makes the counters known to `registry`, for so many routes.
    ///
    /// # Errors
    /// When counters of these names are there already.
    pub fn register(registry: &Registry, routes: usize) -> Result<Self, prometheus::Error> {
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
            found: std::iter::repeat_with(Found::default).take(routes).collect(),
        };
        registry.register(Box::new(metrics.requests.clone()))?;
        registry.register(Box::new(metrics.duration.clone()))?;
        registry.register(Box::new(metrics.in_flight.clone()))?;
        Ok(metrics)
    }

    /// Opens the account of a request that came at `begun`.
    pub fn open(&self, request_id: RequestId, begun: Instant) -> Account {
        self.in_flight.inc();
        let in_flight = self.in_flight.clone();
        Account { request_id, route: None, key_id: None, denial: None, begun, in_flight }
    }

    /// How many requests are under way.
    pub fn in_flight(&self) -> i64 {
        self.in_flight.get()
    }

    /// Counts a request and writes its line.
    pub fn close(&self, account: &Account, end: &End<'_>) {
        let took = account.begun.elapsed();
        let status = end.status.unwrap_or(499);
        self.count(account, status, took);
        log(account, end, status, took);
    }

    fn count(&self, account: &Account, status: u16, took: Duration) {
        let route = account.route.as_ref().map_or("", |route| &route.name);
        let denial = account.denial.unwrap_or("");
        let found = account.route.as_ref().and_then(|route| self.found.get(route.number));
        let requests = || self.requests.with_label_values(&[route, status_text(status).as_str(), denial]);
        let usual = USUAL.iter().position(|usual| *usual == status).filter(|_| account.denial.is_none());
        match found.zip(usual) {
            Some((found, place)) => found.requests[place].get_or_init(requests).inc(),
            None => requests().inc(),
        }
        let duration = || self.duration.with_label_values(&[route]);
        match found {
            Some(found) => found.duration.get_or_init(duration).observe(took.as_secs_f64()),
            None => duration().observe(took.as_secs_f64()),
        }
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
        route = account.route.as_ref().map(|route| &*route.name),
        key_id = account.key_id.map(tracing::field::display),
        denial = account.denial,
        peer = end.peer.map(tracing::field::display),
        "request served",
    );
}
