//! The comparisons between candidates, with their targets.

use crate::measurements::{Measurements, Metric};
use crate::table::{Row, Target};

/// Parts of the comparison. The environment variable `ONLY` selects one.
pub(crate) const PARTS: [&str; 7] = [GATEWAY, TWO_WORKERS, FIXED_RATE, TLS, HTTP2, IDLE, AUTH];
pub(crate) const GATEWAY: &str = "gateway";
const TWO_WORKERS: &str = "workers";
const FIXED_RATE: &str = "rate";
const TLS: &str = "tls";
const HTTP2: &str = "http2";
pub(crate) const IDLE: &str = "idle";
const AUTH: &str = "auth";

// Features that the baselines lack.
const MISSING_IN_HAPROXY: &str = "scopes, expiry";
const MISSING_IN_NGINX: &str = "scopes, expiry, `RateLimit` fields; keys are compared without case";
const MISSING_IN_ENVOY: &str = "scopes, expiry";
const MISSING_IN_PINGORA: &str = "keys, limit, fields";
const MISSING_IN_REJECTIONS: &str = "a body with the reason";

/// A metric of one candidate divided by that of another, the baseline. Both are identified by name.
pub(crate) struct Comparison {
    pub(crate) part: &'static str,
    pub(crate) candidate: &'static str,
    pub(crate) baseline: &'static str,
    metric: Metric,
    target: Target,
    /// Features of the candidate that the baseline lacks.
    missing: &'static str,
}

/// All comparisons, in the order of the table.
pub(crate) const COMPARISONS: [Comparison; 34] = [
    limited("HAProxy", MISSING_IN_HAPROXY).stretch(0.85, 0.70),
    limited("nginx map", MISSING_IN_NGINX).stretch(0.98, 0.82),
    limited("Envoy", MISSING_IN_ENVOY).stretch(0.28, 0.24),
    limited("bare pingora", MISSING_IN_PINGORA).stretch(0.60, 0.50),
    limited("nginx auth_request", MISSING_IN_NGINX).wanted(0.70),
    all_fields("HAProxy", "scopes, expiry, six of the nine request fields"),
    all_fields("nginx map", "scopes, expiry, `RateLimit` fields, six of the nine request fields"),
    all_fields("Envoy", "scopes, expiry, six of the nine request fields"),
    all_fields("bare pingora", MISSING_IN_PINGORA),
    cpu(GATEWAY, "Keygate, keys", "bare pingora").missing("keys, fields"),
    cpu(GATEWAY, "Keygate, one key", "bare pingora").missing(MISSING_IN_PINGORA),
    cpu(GATEWAY, "Keygate, keys + log", "Keygate, keys").missing("the access log").stretch(1.08, 1.04),
    cpu(GATEWAY, "Keygate, JWT", "Keygate, keys + limit").wanted(1.03),
    cpu(GATEWAY, "Keygate, macaroon", "Keygate, keys + limit").wanted(1.03),
    cpu(GATEWAY, "Keygate, forged keys", "HAProxy, forged keys").missing(MISSING_IN_REJECTIONS).stretch(0.80, 0.68),
    cpu(GATEWAY, "Keygate, forged keys", "nginx map, forged keys").missing(MISSING_IN_REJECTIONS),
    cpu(GATEWAY, "Keygate, forged keys", "Envoy, forged keys").missing(MISSING_IN_REJECTIONS),
    cpu(GATEWAY, "Keygate, chunked", "HAProxy, chunked").missing(MISSING_IN_HAPROXY).stretch(0.95, 0.75),
    cpu(GATEWAY, "Keygate, chunked", "nginx map, chunked").missing(MISSING_IN_NGINX),
    cpu(GATEWAY, "Keygate, chunked", "Envoy, chunked").missing(MISSING_IN_ENVOY),
    cpu(TLS, "Keygate, TLS", "HAProxy, TLS").missing(MISSING_IN_HAPROXY).stretch(1.00, 0.90),
    cpu(TLS, "Keygate, TLS", "nginx map, TLS").missing(MISSING_IN_NGINX),
    cpu(HTTP2, "Keygate, HTTP/2", "bare pingora, HTTP/2").missing(MISSING_IN_PINGORA).stretch(1.25, 1.10),
    fixed_rate(Metric::P50, "HAProxy, 5,000/s").wanted(1.00),
    fixed_rate(Metric::P99, "HAProxy, 5,000/s"),
    fixed_rate(Metric::Cpu, "HAProxy, 5,000/s"),
    cpu(TWO_WORKERS, "Keygate, two workers", "HAProxy, two workers").missing(MISSING_IN_HAPROXY).wanted(0.90),
    cpu(TWO_WORKERS, "Keygate, two workers", "nginx map, two workers").missing(MISSING_IN_NGINX),
    auth("nginx, Keygate auth_request", "Keygate, keys + limit"),
    auth("nginx, Keygate auth_request", "nginx auth_request"),
    auth("Envoy, Keygate ext_authz HTTP", "Keygate, keys + limit"),
    auth("Envoy, Keygate ext_authz HTTP", "Envoy"),
    auth("Envoy, Keygate ext_authz gRPC", "Keygate, keys + limit"),
    auth("Envoy, Keygate ext_authz gRPC", "Envoy"),
];

/// Compares CPU time per request.
const fn cpu(part: &'static str, candidate: &'static str, baseline: &'static str) -> Comparison {
    Comparison { part, candidate, baseline, metric: Metric::Cpu, target: Target::NONE, missing: "" }
}

/// Compares Keygate with a limit and the same upstream request headers as the other gateways.
const fn limited(baseline: &'static str, missing: &'static str) -> Comparison {
    cpu(GATEWAY, "Keygate, keys + limit", baseline).missing(missing)
}

/// Compares Keygate with a limit and all upstream request headers that it sets by default.
const fn all_fields(baseline: &'static str, missing: &'static str) -> Comparison {
    cpu(GATEWAY, "Keygate, keys + limit + all fields", baseline).missing(missing)
}

const fn fixed_rate(metric: Metric, baseline: &'static str) -> Comparison {
    Comparison { metric, ..cpu(FIXED_RATE, "Keygate, 5,000/s", baseline).missing(MISSING_IN_HAPROXY) }
}

const fn auth(candidate: &'static str, baseline: &'static str) -> Comparison {
    cpu(AUTH, candidate, baseline)
}

impl Comparison {
    const fn missing(self, missing: &'static str) -> Self {
        Self { missing, ..self }
    }

    /// Sets the wanted maximum.
    const fn wanted(self, wanted: f64) -> Self {
        Self { target: Target { wanted: Some(wanted), stretch: None }, ..self }
    }

    /// Sets the wanted maximum and the stretch target.
    const fn stretch(self, wanted: f64, stretch: f64) -> Self {
        Self { target: Target { wanted: Some(wanted), stretch: Some(stretch) }, ..self }
    }

    /// A row of the table with the ratio of each round. `None` if one of the candidates was not measured, or if its load generator
    /// does not report the metric.
    fn row(&self, measured: &[Measurements]) -> Option<Row> {
        let find = |name: &str| measured.iter().find(|candidate| candidate.name == name);
        let ratios: Option<Vec<f64>> = find(self.candidate)?.ratios(find(self.baseline)?, self.metric).collect();
        Some(Row {
            what: format!("{}{} ÷ {}", self.metric.prefix(), self.candidate, self.baseline),
            values: ratios?,
            unit: "",
            target: self.target,
            missing: self.missing,
        })
    }
}

/// The rows of all comparisons for which both candidates were measured.
pub(crate) fn rows(measured: &[Measurements]) -> Vec<Row> {
    COMPARISONS.iter().filter_map(|comparison| comparison.row(measured)).collect()
}

/// Whether a part of the comparison includes the candidate `name`.
pub(crate) fn part_includes(part: &str, name: &str) -> bool {
    COMPARISONS
        .iter()
        .filter(|comparison| comparison.part == part)
        .any(|comparison| [comparison.candidate, comparison.baseline].contains(&name))
}
