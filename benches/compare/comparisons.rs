//! What is compared with what, and what is wanted of it.

use crate::measured::{Figure, Measured};
use crate::table::{Row, Target};

/// Parts of the comparison; `ONLY` names one.
pub(crate) const PARTS: [&str; 7] = [GATEWAY, TWO_WORKERS, FIXED_RATE, TLS, HTTP2, IDLE, AUTH];
pub(crate) const GATEWAY: &str = "gateway";
const TWO_WORKERS: &str = "workers";
const FIXED_RATE: &str = "rate";
const TLS: &str = "tls";
const HTTP2: &str = "http2";
pub(crate) const IDLE: &str = "idle";
const AUTH: &str = "auth";

const BY_HAPROXY: &str = "scopes, expiry";
const BY_NGINX: &str = "scopes, expiry, `RateLimit` fields; keys are compared without case";
const BY_ENVOY: &str = "scopes, expiry";
const BY_BARE: &str = "keys, limit, fields";
const BY_FORGED: &str = "a body with the reason";

/// `one` ÷ `other`, by the names of candidates.
pub(crate) struct Comparison {
    pub(crate) part: &'static str,
    pub(crate) one: &'static str,
    pub(crate) other: &'static str,
    figure: Figure,
    target: Target,
    /// What the other one does not do.
    missing: &'static str,
}

/// All comparisons, in the order of the table.
pub(crate) const COMPARISONS: [Comparison; 34] = [
    limited("HAProxy", BY_HAPROXY).stretch(0.85, 0.70),
    limited("nginx map", BY_NGINX).stretch(0.98, 0.82),
    limited("Envoy", BY_ENVOY).stretch(0.28, 0.24),
    limited("bare pingora", BY_BARE).stretch(0.60, 0.50),
    limited("nginx auth_request", BY_NGINX).wanted(0.70),
    all_fields("HAProxy", "scopes, expiry, six of the nine request fields"),
    all_fields("nginx map", "scopes, expiry, `RateLimit` fields, six of the nine request fields"),
    all_fields("Envoy", "scopes, expiry, six of the nine request fields"),
    all_fields("bare pingora", BY_BARE),
    cpu(GATEWAY, "Keygate, keys", "bare pingora").missing("keys, fields"),
    cpu(GATEWAY, "Keygate, one key", "bare pingora").missing(BY_BARE),
    cpu(GATEWAY, "Keygate, keys + log", "Keygate, keys").missing("the access log").stretch(1.08, 1.04),
    cpu(GATEWAY, "Keygate, JWT", "Keygate, keys + limit").wanted(1.03),
    cpu(GATEWAY, "Keygate, macaroon", "Keygate, keys + limit").wanted(1.03),
    cpu(GATEWAY, "Keygate, forged keys", "HAProxy, forged keys").missing(BY_FORGED).stretch(0.80, 0.68),
    cpu(GATEWAY, "Keygate, forged keys", "nginx map, forged keys").missing(BY_FORGED),
    cpu(GATEWAY, "Keygate, forged keys", "Envoy, forged keys").missing(BY_FORGED),
    cpu(GATEWAY, "Keygate, chunked", "HAProxy, chunked").missing(BY_HAPROXY).stretch(0.95, 0.75),
    cpu(GATEWAY, "Keygate, chunked", "nginx map, chunked").missing(BY_NGINX),
    cpu(GATEWAY, "Keygate, chunked", "Envoy, chunked").missing(BY_ENVOY),
    cpu(TLS, "Keygate, TLS", "HAProxy, TLS").missing(BY_HAPROXY).stretch(1.00, 0.90),
    cpu(TLS, "Keygate, TLS", "nginx map, TLS").missing(BY_NGINX),
    cpu(HTTP2, "Keygate, HTTP/2", "bare pingora, HTTP/2").missing(BY_BARE).stretch(1.25, 1.10),
    fixed_rate(Figure::P50, "HAProxy, 5,000/s").wanted(1.00),
    fixed_rate(Figure::P99, "HAProxy, 5,000/s"),
    fixed_rate(Figure::Cpu, "HAProxy, 5,000/s"),
    cpu(TWO_WORKERS, "Keygate, two workers", "HAProxy, two workers").missing(BY_HAPROXY).wanted(0.90),
    cpu(TWO_WORKERS, "Keygate, two workers", "nginx map, two workers").missing(BY_NGINX),
    auth("nginx, Keygate auth_request", "Keygate, keys + limit"),
    auth("nginx, Keygate auth_request", "nginx auth_request"),
    auth("Envoy, Keygate ext_authz HTTP", "Keygate, keys + limit"),
    auth("Envoy, Keygate ext_authz HTTP", "Envoy"),
    auth("Envoy, Keygate ext_authz gRPC", "Keygate, keys + limit"),
    auth("Envoy, Keygate ext_authz gRPC", "Envoy"),
];

const fn cpu(part: &'static str, one: &'static str, other: &'static str) -> Comparison {
    Comparison { part, one, other, figure: Figure::Cpu, target: Target::NONE, missing: "" }
}

/// The same fields to the upstream as the other gateways set.
const fn limited(other: &'static str, missing: &'static str) -> Comparison {
    cpu(GATEWAY, "Keygate, keys + limit", other).missing(missing)
}

const fn all_fields(other: &'static str, missing: &'static str) -> Comparison {
    cpu(GATEWAY, "Keygate, keys + limit + all fields", other).missing(missing)
}

const fn fixed_rate(figure: Figure, other: &'static str) -> Comparison {
    Comparison { figure, ..cpu(FIXED_RATE, "Keygate, 5,000/s", other).missing(BY_HAPROXY) }
}

const fn auth(one: &'static str, other: &'static str) -> Comparison {
    cpu(AUTH, one, other)
}

impl Comparison {
    const fn missing(self, missing: &'static str) -> Self {
        Self { missing, ..self }
    }

    const fn wanted(self, wanted: f64) -> Self {
        Self { target: Target { wanted: Some(wanted), stretch: None }, ..self }
    }

    const fn stretch(self, wanted: f64, stretch: f64) -> Self {
        Self { target: Target { wanted: Some(wanted), stretch: Some(stretch) }, ..self }
    }

    /// What came out; `None` unless both were measured.
    fn row(&self, measured: &[Measured]) -> Option<Row> {
        let find = |name: &str| measured.iter().find(|candidate| candidate.name == name);
        let ratios: Option<Vec<f64>> = find(self.one)?.ratios(find(self.other)?, self.figure).collect();
        Some(Row {
            what: format!("{}{} ÷ {}", self.figure.prefix(), self.one, self.other),
            values: ratios?,
            unit: "",
            target: self.target,
            missing: self.missing,
        })
    }
}

/// The comparisons of which both were measured.
pub(crate) fn rows(measured: &[Measured]) -> Vec<Row> {
    COMPARISONS.iter().filter_map(|comparison| comparison.row(measured)).collect()
}

/// Whether a candidate is compared in a part.
pub(crate) fn is_of(part: &str, name: &str) -> bool {
    COMPARISONS.iter().any(|comparison| comparison.part == part && [comparison.one, comparison.other].contains(&name))
}
