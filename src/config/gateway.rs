//! `gateway`: the reverse proxy's routes, upstreams and limits.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::auth_failures::AuthFailuresConfig;
use super::endpoint::{EndpointUrl, is_host_name, parse_endpoint};
use super::listener::{ConnectionsConfig, ListenerConfig};
use super::problems::Problems;
use super::route_certificate::RouteCertificateConfig;
use crate::cidr::CidrSet;
use crate::duration::ConfigDuration;

/// The reverse proxy.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
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
    /// How long active requests may run after a stop signal.
    pub shutdown_grace: ConfigDuration,
    /// Throttling of database lookups of unknown keys, per client address. Above the limit, lookups are delayed and batched.
    pub unknown_keys: UnknownKeysConfig,
    /// Throttling of client addresses that repeatedly present rejected credentials.
    pub auth_failures: AuthFailuresConfig,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
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

/// A rate limit.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitConfig {
    /// Number of requests per window; also the burst size.
    #[schemars(range(max = 1_000_000_000))]
    pub quota: std::num::NonZeroU64,
    /// Length of the window, at least one second. Tokens are replenished evenly over it.
    pub window: ConfigDuration,
    /// Which requests are counted together. Requests without a credential are counted by client address.
    #[serde(default)]
    pub count_by: CountBy,
    /// Whether the limit only counts and reports. Dry-run limits never reject.
    #[serde(default)]
    pub dry_run: bool,
}

/// Which requests are counted together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CountBy {
    /// Those of a key and of its derived tokens.
    #[default]
    Key,
    /// Those of all keys of an actor.
    Actor,
    /// All requests of the tenant.
    Tenant,
    /// Those of a client address.
    Address,
}

/// Rate limit headers of responses.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LimitHeadersConfig {
    /// Whether the legacy headers `X-RateLimit-Limit`, `-Remaining` and `-Reset` are sent in addition to `RateLimit-Policy`
    /// and `RateLimit`.
    pub x_ratelimit: bool,
    /// What happens to rate limit headers that an upstream sends.
    pub upstream: UpstreamLimitFields,
}

/// What happens to rate limit headers that an upstream sends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
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

/// A route.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteConfig {
    /// Name in logs and metrics.
    #[schemars(length(min = 1, max = 100))]
    pub name: String,
    /// Hosts that match; all when absent.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Path prefix that matches, by whole segments; all paths when absent.
    #[serde(default = "root")]
    pub path_prefix: String,
    /// Methods that match; all when absent.
    #[serde(default)]
    pub methods: Vec<String>,
    /// Name of the upstream. Required if the gateway is enabled.
    #[serde(default)]
    pub upstream: Option<String>,
    /// Whether a credential is required.
    #[serde(default)]
    pub auth: Auth,
    /// Scopes that the credential must have, all of them.
    #[serde(default)]
    #[schemars(inner(regex(pattern = r"^[\x21\x23-\x5b\x5d-\x7e]{1,100}$")))]
    pub scopes: Vec<String>,
    /// Audiences of which the credential must have at least one. Only derived tokens have audiences, so keys are rejected. If
    /// empty, tokens that have audiences are rejected.
    #[serde(default)]
    #[schemars(length(max = 100), inner(length(min = 1, max = 255)))]
    pub audiences: Vec<String>,
    /// What the certificate of the client must be; none is required when absent. Requires a listener with
    /// `tls.client_certificates`.
    #[serde(default)]
    pub client_certificate: Option<RouteCertificateConfig>,
    /// Names of `gateway.limits` that apply to the route.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub limits: Vec<String>,
    /// How many requests of a limit's quota one request uses; 0 for none.
    #[serde(default = "one")]
    #[schemars(range(max = 1_000_000))]
    pub cost: u64,
}

/// Whether a credential is required.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Auth {
    /// A valid credential is required.
    #[default]
    Required,
    /// Requests without a credential are allowed; a credential that is present must be valid.
    Optional,
    /// Credentials are not checked; the client's are forwarded to the upstream.
    None,
}

/// An upstream.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamConfig {
    /// The endpoints, each `http://host:port` or `https://host:port`, used round-robin.
    #[schemars(length(min = 1))]
    pub endpoints: Vec<String>,
    /// Timeout of connecting.
    #[serde(default = "connect_timeout")]
    pub connect_timeout: ConfigDuration,
    /// Maximum time without data from the upstream.
    #[serde(default = "read_timeout")]
    pub read_timeout: ConfigDuration,
}

/// Throttling of database lookups of unknown keys, per client address. Only the database can tell an unknown credential
/// from an imported key.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UnknownKeysConfig {
    /// Number of lookups without a result that a client address may cause at once.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub burst: u32,
    /// Number of such lookups that are replenished per second.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub per_second: u32,
}

impl Default for RouteConfig {
    /// A route for all requests that requires a credential, without a name and an upstream.
    fn default() -> Self {
        Self {
            name: String::new(),
            hosts: Vec::new(),
            path_prefix: root(),
            methods: Vec::new(),
            upstream: None,
            auth: Auth::default(),
            scopes: Vec::new(),
            audiences: Vec::new(),
            client_certificate: None,
            limits: Vec::new(),
            cost: one(),
        }
    }
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
            shutdown_grace: ConfigDuration(Duration::from_secs(30)),
            unknown_keys: UnknownKeysConfig::default(),
            auth_failures: AuthFailuresConfig::default(),
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

fn one() -> u64 {
    1
}

fn root() -> String {
    "/".into()
}

fn connect_timeout() -> ConfigDuration {
    ConfigDuration(Duration::from_secs(5))
}

fn read_timeout() -> ConfigDuration {
    ConfigDuration(Duration::from_secs(60))
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
        self.auth_failures.validate("gateway.auth_failures", problems);
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
                None if self.enabled => problems.add(
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

impl LimitConfig {
    fn validate(&self, path: &str, name: &str, problems: &mut Problems) {
        let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        if !(1..=64).contains(&name.len()) || !plain {
            problems.add(path, "must have a name of 1 to 64 letters, digits, dots, dashes and underscores");
        }
        if name == "default" {
            problems.add(path, "must have another name: default is the limit of the key itself");
        }
        if self.window.0 < Duration::from_secs(1) {
            problems.add(&format!("{path}.window"), "must be at least 1s");
        }
    }
}

impl RouteConfig {
    fn validate(&self, path: &str, problems: &mut Problems) {
        let prefix = self.path_prefix.as_str();
        let plain = prefix.bytes().all(|byte| byte.is_ascii_graphic() && !b"%?#;\\".contains(&byte));
        let dots = prefix.split('/').any(|segment| segment == "." || segment == "..");
        if !prefix.starts_with('/') || prefix.contains("//") || dots || !plain {
            problems.add(
                &format!("{path}.path_prefix"),
                "must be a plain path such as /orders, without %, ?, #, ;, \\, // or dot segments",
            );
        }
        for (index, host) in self.hosts.iter().enumerate() {
            if !is_host_name(host) {
                problems.add(&format!("{path}.hosts.{index}"), "must be a host name, without scheme, port or wildcard");
            }
        }
        for (index, method) in self.methods.iter().enumerate() {
            if http::Method::from_bytes(method.as_bytes()).is_err() || method.bytes().any(|b| b.is_ascii_lowercase()) {
                problems.add(&format!("{path}.methods.{index}"), "must be a method in upper case, such as GET");
            }
        }
        let host_name = |host: &String| host.trim_end_matches('.').to_ascii_lowercase();
        problems.unique(&format!("{path}.hosts"), self.hosts.iter().map(host_name));
        problems.unique(&format!("{path}.methods"), self.methods.iter());
        problems.unique(&format!("{path}.scopes"), self.scopes.iter());
        if self.auth == Auth::None && !self.scopes.is_empty() {
            problems.add(&format!("{path}.scopes"), "cannot be required on a route with `auth: none`");
        }
        problems.unique(&format!("{path}.audiences"), self.audiences.iter());
        if self.auth == Auth::None && !self.audiences.is_empty() {
            problems.add(&format!("{path}.audiences"), "cannot be required on a route with `auth: none`");
        }
        if let Some(certificate) = &self.client_certificate {
            certificate.validate(&format!("{path}.client_certificate"), problems);
        }
    }

    /// Whether some request matches both routes with the same precedence. Paths are compared case-insensitively.
    fn conflicts_with(&self, other: &Self) -> bool {
        let same =
            |a: &str, b: &str| a.trim_end_matches(['/', '.']).eq_ignore_ascii_case(b.trim_end_matches(['/', '.']));
        let hosts = (self.hosts.is_empty() && other.hosts.is_empty())
            || self.hosts.iter().any(|host| other.hosts.iter().any(|other| same(host, other)));
        let methods = match (self.methods.is_empty(), other.methods.is_empty()) {
            (true, true) => true,
            (false, false) => self.methods.iter().any(|method| other.methods.contains(method)),
            _ => false,
        };
        hosts && methods && same(&self.path_prefix, &other.path_prefix)
    }
}

impl UpstreamConfig {
    fn validate(&self, path: &str, problems: &mut Problems) {
        if self.endpoints.is_empty() {
            problems.add(&format!("{path}.endpoints"), "must have at least one entry");
        }
        for (name, timeout) in [("connect_timeout", self.connect_timeout), ("read_timeout", self.read_timeout)] {
            if timeout.0.is_zero() {
                problems.add(&format!("{path}.{name}"), "must be longer than 0s");
            }
        }
        for (index, endpoint) in self.endpoints.iter().enumerate() {
            if parse_endpoint(endpoint).is_none() {
                problems.add(
                    &format!("{path}.endpoints.{index}"),
                    "must be http://host:port or https://host:port, without a path",
                );
            }
        }
    }

    /// The parsed endpoints.
    pub fn parsed_endpoints(&self) -> Vec<EndpointUrl> {
        self.endpoints.iter().filter_map(|endpoint| parse_endpoint(endpoint)).collect()
    }
}
