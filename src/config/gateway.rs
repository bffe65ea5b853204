//! `gateway`: the reverse proxy's routes, upstreams and limits.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::access_log::AccessLogConfig;
use super::auth_failures::AuthFailuresConfig;
use super::credential_location::{self, CredentialLocation};
use super::limit::LimitConfig;
use super::listener::{ConnectionsConfig, ListenerConfig};
use super::overload::OverloadConfig;
use super::problems::Problems;
use super::route::RouteConfig;
use super::upstream::UpstreamConfig;
use crate::cidr::CidrSet;
use crate::duration::ConfigDuration;

/// The reverse proxy.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GatewayConfig {
    /// Whether the reverse proxy is started. If not, routes and limits are those of external authorization only.
    pub enabled: bool,
    /// Short form for a listener with default settings: its address. If neither this nor `listeners` is set, it is `127.0.0.1:8080`.
    pub address: Option<String>,
    /// The listeners.
    pub listeners: Vec<ListenerConfig>,
    /// Limits of the connections of all listeners.
    pub connections: ConnectionsConfig,
    /// Number of worker threads; 0 for one per core.
    #[schemars(range(max = 1024))]
    pub threads: usize,
    /// Whether plain requests of HTTP/1.1 are forwarded without pingora's proxy, which costs less. Both ways behave alike.
    pub fast_path: bool,
    /// How long active requests may run after a stop signal.
    pub shutdown_grace: ConfigDuration,
    /// When requests are refused because there are too many.
    pub overload: OverloadConfig,
    /// Throttling of database lookups of unknown keys, per client address. Above the limit, lookups are delayed and batched.
    pub unknown_keys: UnknownKeysConfig,
    /// Throttling of client addresses that repeatedly present rejected credentials.
    pub auth_failures: AuthFailuresConfig,
    /// The access log.
    pub access_log: AccessLogConfig,
    /// Where requests carry their credential. No other place is looked at; the order has no meaning. A route can have a list of its own.
    pub credentials: Vec<CredentialLocation>,
    /// The routes. A route that names the host has precedence over one that does not; then the longest prefix wins.
    pub routes: Vec<RouteConfig>,
    /// The upstreams, by name.
    pub upstreams: BTreeMap<String, UpstreamConfig>,
    /// Rate limits, by the name that callers see. A limit applies where a route or `tenant_limits` names it, in addition to
    /// the limit of the key itself, which callers see as `default`.
    pub limits: BTreeMap<String, LimitConfig>,
    /// Names of limits that apply to every route that authenticates.
    pub tenant_limits: Vec<String>,
    /// Rate limit headers of responses.
    pub limit_headers: LimitHeadersConfig,
    /// Whether request headers with an underscore or a dot in their name reach upstreams. Many servers read `X_User` as `X-User`.
    pub allow_underscores: bool,
    /// Headers that are added to requests for upstreams. Headers of these names that a client sends are always removed.
    pub request_headers: Vec<AddedHeader>,
}

/// A header that is added to requests for upstreams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AddedHeader {
    /// Id of the key.
    XKeygateKeyId,
    /// Id of the actor that the key was issued to.
    XKeygateActorId,
    /// Id of the key's tenant.
    XKeygateTenantId,
    /// Scopes of the key.
    XKeygateScopes,
    /// Type of the credential.
    XKeygateCredentialType,
    /// Id of the request.
    XRequestId,
    /// Address of the client.
    XForwardedFor,
    /// Scheme that the client used.
    XForwardedProto,
    /// Host that the client requested.
    XForwardedHost,
    /// Subject of the client's certificate (RFC 4514), percent-encoded.
    XKeygateClientSubject,
    /// Alternative names of the client's certificate, separated by spaces, each with its type, for example
    /// `URI:spiffe://example/reports`, percent-encoded.
    XKeygateClientSan,
}

impl AddedHeader {
    /// The headers that are added by default.
    pub const DEFAULT: [Self; 9] = [
        Self::XKeygateKeyId,
        Self::XKeygateActorId,
        Self::XKeygateTenantId,
        Self::XKeygateScopes,
        Self::XKeygateCredentialType,
        Self::XRequestId,
        Self::XForwardedFor,
        Self::XForwardedProto,
        Self::XForwardedHost,
    ];
}

/// Rate limit headers of responses.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LimitHeadersConfig {
    /// Whether the legacy headers `X-RateLimit-Limit`, `-Remaining` and `-Reset` are sent in addition to `RateLimit-Policy`
    /// and `RateLimit`.
    pub x_ratelimit: bool,
    /// What happens to rate limit headers that an upstream sends.
    pub upstream: UpstreamLimitFields,
}

/// What happens to rate limit headers that an upstream sends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum UpstreamLimitFields {
    /// They are kept; Keygate's come first.
    #[default]
    Keep,
    /// They are removed if Keygate adds its own.
    Replace,
    /// They are always removed.
    Remove,
}

/// Throttling of database lookups of unknown keys, per client address. Only the database can tell an unknown credential
/// from an imported key.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UnknownKeysConfig {
    /// Number of lookups without a result that a client address may cause at once.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub burst: u32,
    /// Number of such lookups that are replenished per second.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub per_second: u32,
}

impl Default for UnknownKeysConfig {
    fn default() -> Self {
        Self { burst: 100, per_second: 10 }
    }
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            address: None,
            listeners: Vec::new(),
            connections: ConnectionsConfig::default(),
            threads: 0,
            fast_path: true,
            shutdown_grace: ConfigDuration(Duration::from_secs(30)),
            overload: OverloadConfig::default(),
            unknown_keys: UnknownKeysConfig::default(),
            auth_failures: AuthFailuresConfig::default(),
            access_log: AccessLogConfig::default(),
            credentials: CredentialLocation::standard(),
            routes: Vec::new(),
            upstreams: BTreeMap::new(),
            limits: BTreeMap::new(),
            tenant_limits: Vec::new(),
            limit_headers: LimitHeadersConfig::default(),
            allow_underscores: false,
            request_headers: AddedHeader::DEFAULT.to_vec(),
        }
    }
}

impl GatewayConfig {
    /// The listeners, each with the path of the setting of its address: that of `address`, then those of `listeners`.
    pub fn effective_listeners(&self) -> Vec<(String, ListenerConfig)> {
        let short = self.address.iter().map(|address| ("gateway.address".into(), ListenerConfig::new(address.clone())));
        let path = |index| format!("gateway.listeners.{index}.address");
        let listeners = self.listeners.iter().enumerate().map(|(index, listener)| (path(index), listener.clone()));
        let all: Vec<_> = short.chain(listeners).collect();
        if all.is_empty() { vec![("gateway.address".into(), ListenerConfig::fallback())] } else { all }
    }

    /// The address ranges of all proxies that listeners trust. Ranges that are not valid contain no address.
    pub fn trusted_ranges(&self) -> CidrSet {
        let ranges =
            |listener: &ListenerConfig| [&listener.proxy_protocol.trusted[..], &listener.trusted_proxies].concat();
        let ranges: Vec<String> = self.listeners.iter().flat_map(ranges).collect();
        CidrSet::parse(&ranges).unwrap_or_default()
    }

    fn validate_listeners(&self, problems: &mut Problems) {
        if let Some(address) = &self.address
            && address.parse::<SocketAddr>().is_err()
        {
            problems.add("gateway.address", "must be an IP address and a port, for example 0.0.0.0:8080");
        }
        for (index, listener) in self.listeners.iter().enumerate() {
            listener.validate(&format!("gateway.listeners.{index}"), problems);
        }
        problems.unique("gateway.listeners", self.listeners.iter().map(|listener| &listener.address));
    }

    pub(super) fn validate(&self, problems: &mut Problems) {
        self.validate_listeners(problems);
        self.overload.validate("gateway.overload", problems);
        self.auth_failures.validate("gateway.auth_failures", problems);
        self.access_log.validate("gateway.access_log", problems);
        credential_location::validate("gateway.credentials", &self.credentials, problems);
        for (name, upstream) in &self.upstreams {
            upstream.validate(&format!("gateway.upstreams.{name}"), problems);
        }
        for (name, limit) in &self.limits {
            limit.validate(&format!("gateway.limits.{name}"), name, problems);
        }
        self.check_limit_names("gateway.tenant_limits", &self.tenant_limits, problems);
        let mut names = HashSet::new();
        for (index, route) in self.routes.iter().enumerate() {
            let path = format!("gateway.routes.{index}");
            if !names.insert(&route.name) {
                problems.add(&format!("{path}.name"), "is the name of another route");
            }
            match &route.upstream {
                Some(upstream) if !self.upstreams.contains_key(upstream) => {
                    problems.add(&format!("{path}.upstream"), "names no entry of gateway.upstreams");
                }
                None if self.enabled && !route.responds() => problems.add(
                    &format!("{path}.upstream"),
                    "is required: the name of an entry of gateway.upstreams; without a proxy, set gateway.enabled to false",
                ),
                _ => {}
            }
            route.validate(&path, problems);
            if route.client_certificate.is_some() && !self.requests_client_certificates() {
                problems.add(
                    &format!("{path}.client_certificate"),
                    "requires a listener that requests certificates; set gateway.listeners.0.tls.client_certificates",
                );
            }
            self.check_limit_names(&format!("{path}.limits"), &route.limits, problems);
            for (earlier, other) in self.routes[..index].iter().enumerate() {
                if route.conflicts_with(other) {
                    problems.add(&path, &format!("matches the same requests as gateway.routes.{earlier}"));
                }
            }
        }
    }

    fn requests_client_certificates(&self) -> bool {
        self.listeners.iter().filter_map(|listener| listener.tls.as_ref()).any(|tls| tls.client_certificates.is_some())
    }

    fn check_limit_names(&self, path: &str, names: &[String], problems: &mut Problems) {
        for (index, name) in names.iter().enumerate() {
            if !self.limits.contains_key(name) {
                problems.add(&format!("{path}.{index}"), "names no entry of gateway.limits");
            }
        }
        problems.unique(path, names.iter());
    }
}
