//! The spans of a finished request, named by the OpenTelemetry semantic conventions for HTTP. No credential and no query is in them.

use std::time::{Duration, Instant};

use http::Version;

use super::access_log::{RequestLog, UpstreamInfo};
use super::error_type::{CLIENT_CLOSED_REQUEST, ErrorType, error_type};
use super::method::{is_standard, method_name};
use super::rate_limit::RateLimitOutcome;
use super::request_metrics::CachedSeries;
use super::steps::Steps;
use super::trace::{Part, RequestTrace, server_attributes};
use crate::id::RequestId;
use crate::traces::{Attribute, SpanKind, Value};
use crate::verifier::CredentialKind;

/// The most limits that are described.
const LIMITS_MAX: usize = 8;

/// How a finished request is described beyond its log line.
pub(super) struct Finished<'a> {
    pub(super) log: &'a RequestLog<'a>,
    pub(super) request_id: &'a RequestId,
    pub(super) credential: Option<CredentialKind>,
}

/// Adds the spans of the decision: the decision itself, the lookup of a record and the charge of limits if they waited.
pub(super) fn add_decision(trace: &mut RequestTrace, began: Instant, steps: &Steps, limits: &RateLimitOutcome) {
    if !trace.is_recorded() {
        return;
    }
    let mut attributes: Vec<Attribute> = Vec::new();
    attributes.extend(steps.cache.map(|cache| ("keygate.lookup.tier", cache.level().into())));
    attributes.extend(steps.verified_by.map(|check| ("keygate.proof.cached_in", check.known_to().into())));
    let mut decision = Part::step("keygate.decision", (began, Instant::now()), attributes);
    let limits = limits.states().take(LIMITS_MAX).map(|(named, outcome)| {
        let attributes = vec![
            ("keygate.limit.name", Value::text(&named.name)),
            ("keygate.limit.remaining", Value::count(outcome.remaining)),
            ("keygate.limit.admitted", Value::Bool(outcome.admitted)),
        ];
        ("keygate.limit", attributes)
    });
    decision.events = limits.collect();
    let decision = trace.add_part(None, decision);
    let Some(waits) = &steps.waits else { return };
    if let Some(lookup) = waits.lookup {
        let tier = steps.cache.map(|cache| ("keygate.lookup.tier", cache.level().into()));
        let lookup = Part::step("keygate.lookup", lookup, tier.into_iter().collect());
        trace.add_part(None, Part { parent: Some(decision), ..lookup });
    }
    if let Some(charge) = waits.charge {
        let charge = Part::step("keygate.limit", charge, Vec::new());
        trace.add_part(None, Part { parent: Some(decision), ..charge });
    }
}

impl Finished<'_> {
    /// Ends the trace of the request.
    pub(super) fn end(&self, mut trace: RequestTrace) {
        if !trace.is_recorded() {
            return;
        }
        if let Some(id) = trace.upstream_span() {
            let part = self.upstream();
            trace.add_part(Some(id), part);
        }
        trace.finish(|arrived| {
            let status = self.log.response.status;
            let is_error = status.is_some_and(|status| status >= 500) || self.log.response.is_truncated;
            Part::server(self.name(), arrived, self.attributes(), is_error)
        });
    }

    fn name(&self) -> String {
        span_name(self.log.method, self.log.route.map(CachedSeries::route))
    }

    fn attributes(&self) -> Vec<Attribute> {
        let log = self.log;
        let mut attributes = Vec::with_capacity(24);
        method_attributes(&mut attributes, log.method);
        attributes.push(("url.path", Value::text(log.path)));
        attributes.extend(log.route.map(|route| ("http.route", Value::text(route.route()))));
        attributes.extend(log.protocol.map(|version| ("network.protocol.version", version_number(version).into())));
        attributes.extend(log.user_agent.map(|agent| ("user_agent.original", Value::text(agent))));
        attributes.extend(log.client_ip.map(|client| ("client.address", Value::text(&client.to_string()))));
        let peer = log.proxy.or(log.client_ip);
        attributes.extend(peer.map(|peer| ("network.peer.address", Value::text(&peer.to_string()))));
        let response = &log.response;
        attributes.extend(response.status.map(|status| ("http.response.status_code", Value::count(status))));
        attributes.push(("http.request.body.size", Value::count(response.bytes_received)));
        attributes.push(("http.response.body.size", Value::count(response.bytes)));
        attributes.extend(self.error_type().map(|error| ("error.type", error)));
        attributes.push(("keygate.request_id", Value::text(self.request_id.as_str())));
        attributes.extend(log.key_id.map(|key| ("keygate.key_id", Value::text(&key.to_string()))));
        attributes.extend(self.credential.map(|kind| ("keygate.credential.type", kind.name().into())));
        attributes.extend(log.rejection.map(|code| ("keygate.rejection", code.into())));
        attributes
    }

    fn error_type(&self) -> Option<Value> {
        let response = &self.log.response;
        let status = response.status.unwrap_or(CLIENT_CLOSED_REQUEST);
        if let Some(error) = error_type(status, self.log.rejection) {
            return Some(match error {
                ErrorType::Code(code) => code.into(),
                ErrorType::Status(status) => Value::text(&status.to_string()),
            });
        }
        response.is_truncated.then(|| "response_truncated".into())
    }

    /// The request to the upstream. One span for all its attempts.
    fn upstream(&self) -> Part {
        let log = self.log;
        let ended = Instant::now();
        let response = &log.response;
        let mut attributes = Vec::with_capacity(8);
        method_attributes(&mut attributes, log.method);
        let mut elapsed = Duration::ZERO;
        if let Some(UpstreamInfo { name, endpoint, attempts, elapsed: took }) = &response.upstream {
            elapsed = *took;
            attributes.push(("keygate.upstream", Value::text(name)));
            server_attributes(&mut attributes, endpoint.as_deref().unwrap_or_default());
            let again = attempts.saturating_sub(1);
            attributes.extend((again > 0).then(|| ("http.request.resend_count", Value::count(again))));
        }
        // With a rejection, the status is one of Keygate.
        let status = response.status.filter(|_| log.rejection.is_none());
        attributes.extend(status.map(|status| ("http.response.status_code", Value::count(status))));
        let is_error = status.is_none_or(|status| status >= 400) || response.is_truncated;
        let error = match (log.rejection, status) {
            (Some(code), _) => Some(code.into()),
            (None, Some(status)) if status >= 400 => Some(Value::text(&status.to_string())),
            _ => response.is_truncated.then(|| "response_truncated".into()),
        };
        attributes.extend(error.map(|error| ("error.type", error)));
        let began = ended.checked_sub(elapsed).unwrap_or(ended);
        Part {
            name: method_name_of_span(log.method).into(),
            kind: SpanKind::Client,
            parent: None,
            began,
            ended,
            attributes,
            events: Vec::new(),
            is_error,
        }
    }
}

/// The name of the span of a request: its method, and its route if it has one.
fn span_name(method: &str, route: Option<&str>) -> String {
    let method = method_name_of_span(method);
    route.map_or_else(|| method.to_owned(), |route| format!("{method} {route}"))
}

fn method_name_of_span(method: &str) -> &'static str {
    if is_standard(method) { method_name(method) } else { "HTTP" }
}

fn method_attributes(attributes: &mut Vec<Attribute>, method: &str) {
    attributes.push(("http.request.method", method_name(method).into()));
    if !is_standard(method) {
        attributes.push(("http.request.method_original", Value::text(method)));
    }
}

fn version_number(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "0.9",
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        Version::HTTP_3 => "3",
        _ => "1.1",
    }
}

/// A request that goes through no exchange, when it is finished.
#[derive(Debug)]
pub struct PlainRequest<'a> {
    /// Its method.
    pub method: &'a str,
    /// The template of its path; `None` if no operation has it.
    pub route: Option<&'a str>,
    /// Its path, without what may be a secret.
    pub path: &'a str,
    /// The status of the response.
    pub status: u16,
    /// Its id.
    pub request_id: &'a RequestId,
}

impl PlainRequest<'_> {
    /// Ends the trace of the request.
    pub fn end(&self, trace: RequestTrace) {
        trace.finish(|arrived| {
            let mut attributes = Vec::with_capacity(8);
            method_attributes(&mut attributes, self.method);
            attributes.push(("url.path", Value::text(self.path)));
            attributes.extend(self.route.map(|route| ("http.route", Value::text(route))));
            attributes.push(("http.response.status_code", Value::count(self.status)));
            let is_error = self.status >= 500;
            attributes.extend(is_error.then(|| ("error.type", Value::text(&self.status.to_string()))));
            attributes.push(("keygate.request_id", Value::text(self.request_id.as_str())));
            Part::server(span_name(self.method, self.route), arrived, attributes, is_error)
        });
    }
}
