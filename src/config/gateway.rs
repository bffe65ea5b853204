//! `gateway`: what is proxied, where to, and who may.

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::load::Problems;
use crate::duration::ConfigDuration;

/// The reverse proxy.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GatewayConfig {
    /// `ip:port` to listen on.
    pub address: String,
    /// Threads that serve; 0 for one on each core.
    #[schemars(range(max = 1024))]
    pub threads: usize,
    /// How long requests under way may take after a signal to stop.
    pub shutdown_grace: ConfigDuration,
    /// What unknown credentials of the imported shape may cost. Beyond it, lookups for an address wait and are made together.
    pub unknown_keys: UnknownKeysConfig,
    /// What is proxied. The longest prefix wins; a route that names the host goes before one that does not.
    pub routes: Vec<RouteConfig>,
    /// Where requests are forwarded to, by name.
    pub upstreams: BTreeMap<String, UpstreamConfig>,
    /// Limits of requests, by the name that callers see. They hold where a route or `tenant_limits` names them, beside the
    /// limit that a key itself may have, which callers see as `default`.
    pub limits: BTreeMap<String, LimitConfig>,
    /// Limits that hold on every route that judges credentials.
    pub tenant_limits: Vec<String>,
    /// How callers are told where they stand.
    pub limit_headers: LimitHeadersConfig,
    /// What is added to requests on their way to an upstream. Fields of these names that a client sends are taken out in any case.
    pub request_headers: Vec<AddedHeader>,
}

/// A field that is added to requests on their way to an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AddedHeader {
    /// The key's id.
    XKeygateKeyId,
    /// Whom the key was issued to.
    XKeygateActorId,
    /// Whom the key belongs to.
    XKeygateTenantId,
    /// What the key may be used for.
    XKeygateScopes,
    /// What kind of credential was presented.
    XKeygateCredentialType,
    /// The request's id.
    XRequestId,
    /// The client's address.
    XForwardedFor,
    /// How the client reached the gateway.
    XForwardedProto,
    /// The host that the client asked for.
    XForwardedHost,
}

impl AddedHeader {
    /// All of them.
    pub const ALL: [Self; 9] = [
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

/// A limit of requests.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitConfig {
    /// Requests in a window; so many may also come at once.
    #[schemars(range(max = 1_000_000_000))]
    pub quota: std::num::NonZeroU64,
    /// The window, at least one second.
    pub window: ConfigDuration,
    /// Whose requests are counted together. Requests without a credential are counted by address.
    #[serde(default)]
    pub count_by: CountBy,
    /// Only counts and reports; nobody is refused.
    #[serde(default)]
    pub dry_run: bool,
}

/// Whose requests are counted together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CountBy {
    /// A key's, with those of its derived tokens.
    #[default]
    Key,
    /// Those of all keys of an actor.
    Actor,
    /// All of the tenant.
    Tenant,
    /// Those from one client address.
    Address,
}

/// How callers are told where they stand.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LimitHeadersConfig {
    /// Whether the older `X-RateLimit-Limit`, `-Remaining` and `-Reset` are sent beside `RateLimit-Policy` and `RateLimit`.
    pub x_ratelimit: bool,
    /// What becomes of fields of these names that an upstream sends.
    pub upstream: UpstreamLimitFields,
}

/// What becomes of an upstream's own rate-limit fields.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum UpstreamLimitFields {
    /// They stay, below Keygate's.
    #[default]
    Keep,
    /// They give way to Keygate's, where there are such.
    Replace,
    /// They are taken out.
    Remove,
}

/// A route.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteConfig {
    /// The name in logs and metrics.
    #[schemars(length(min = 1, max = 100))]
    pub name: String,
    /// Hosts that the route takes; all when absent.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// The path that the route takes, by whole segments; all paths when absent.
    #[serde(default = "root")]
    pub path_prefix: String,
    /// Methods that the route takes; all when absent.
    #[serde(default)]
    pub methods: Vec<String>,
    /// The upstream's name.
    pub upstream: String,
    /// Whether a credential is needed.
    #[serde(default)]
    pub auth: Auth,
    /// Scopes that the credential needs, all of them.
    #[serde(default)]
    #[schemars(inner(regex(pattern = r"^[\x21\x23-\x5b\x5d-\x7e]{1,100}$")))]
    pub scopes: Vec<String>,
    /// Audiences one of which the credential must name. Keys name none, so with it only derived tokens pass; without it
    /// tokens that name audiences are refused.
    #[serde(default)]
    #[schemars(length(max = 100), inner(length(min = 1, max = 255)))]
    pub audiences: Vec<String>,
    /// Names of `gateway.limits` that hold here.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub limits: Vec<String>,
    /// How many requests one of this route counts as; 0 for none.
    #[serde(default = "one")]
    #[schemars(range(max = 1_000_000))]
    pub cost: u64,
}

/// Whether a credential is needed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Auth {
    /// A good one is needed.
    #[default]
    Required,
    /// None is needed, but one that is there must be good.
    Optional,
    /// None is looked for; what the client sends is the upstream's.
    None,
}

/// Where requests are forwarded to.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamConfig {
    /// `http://host:port` or `https://host:port`, used in turn.
    #[schemars(length(min = 1))]
    pub endpoints: Vec<String>,
    /// How long a connection may take to be made.
    #[serde(default = "connect_timeout")]
    pub connect_timeout: ConfigDuration,
    /// How long the upstream may be silent.
    #[serde(default = "read_timeout")]
    pub read_timeout: ConfigDuration,
}

/// What unknown credentials of the imported shape may cost.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UnknownKeysConfig {
    /// Lookups in vain that a client address may cause at once.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub burst: u32,
    /// How many of them it may cause again each second.
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
            address: "127.0.0.1:8080".into(),
            threads: 0,
            shutdown_grace: ConfigDuration(Duration::from_secs(30)),
            unknown_keys: UnknownKeysConfig::default(),
            routes: Vec::new(),
            upstreams: BTreeMap::new(),
            limits: BTreeMap::new(),
            tenant_limits: Vec::new(),
            limit_headers: LimitHeadersConfig::default(),
            request_headers: AddedHeader::ALL.to_vec(),
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

/// The address that a listener's host means.
pub(crate) fn listen_ip(host: &str) -> Option<IpAddr> {
    if host == "localhost" { Some(Ipv4Addr::LOCALHOST.into()) } else { host.parse().ok() }
}

impl GatewayConfig {
    pub(super) fn validate(&self, problems: &mut Problems) {
        if self.address.parse::<SocketAddr>().is_err() {
            problems.add("gateway.address", "must be an IP address and a port, for example 0.0.0.0:8080");
        }
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
            if !self.upstreams.contains_key(&route.upstream) {
                problems.add(&format!("{path}.upstream"), "names no entry of gateway.upstreams");
            }
            route.validate(&path, problems);
            self.check_limit_names(&format!("{path}.limits"), &route.limits, problems);
            for (earlier, other) in self.routes[..index].iter().enumerate() {
                if route.takes_the_same_as(other) {
                    problems.add(&path, &format!("takes the same requests as gateway.routes.{earlier}"));
                }
            }
        }
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
            problems.add(path, "must have another name: default is the limit that a key itself has");
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
            problems.add(&format!("{path}.scopes"), "can demand nothing of a route with `auth: none`");
        }
        problems.unique(&format!("{path}.audiences"), self.audiences.iter());
        if self.auth == Auth::None && !self.audiences.is_empty() {
            problems.add(&format!("{path}.audiences"), "can demand nothing of a route with `auth: none`");
        }
    }

    /// Whether some request would be taken by both with equal right. Case does not tell paths apart.
    fn takes_the_same_as(&self, other: &Self) -> bool {
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
                problems.add(&format!("{path}.{name}"), "must be longer than 0s, or no request could be forwarded");
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

    /// The endpoints, taken apart.
    pub fn parsed_endpoints(&self) -> Vec<EndpointUrl> {
        self.endpoints.iter().filter_map(|endpoint| parse_endpoint(endpoint)).collect()
    }
}

/// An endpoint's parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointUrl {
    /// Whether it is reached over TLS.
    pub tls: bool,
    /// The host: a name or an address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Host and port as in a `Host` field; the port is left out where it is the scheme's.
    pub authority: String,
}

/// Takes an endpoint apart; nothing for what is not one.
pub fn parse_endpoint(text: &str) -> Option<EndpointUrl> {
    // A fragment would be dropped without a word by the parser below.
    let uri: http::Uri = if text.contains('#') { return None } else { text.parse().ok()? };
    let (tls, default_port) = match uri.scheme_str()? {
        "http" => (false, 80),
        "https" => (true, 443),
        _ => return None,
    };
    if uri.path() != "/" || uri.query().is_some() {
        return None;
    }
    let authority = uri.authority()?.as_str();
    let (name, port) = split_port(authority);
    let host = endpoint_host(name)?;
    let port = port.map_or(Some(default_port), parse_port)?;
    let authority = if port == default_port { name.to_owned() } else { format!("{name}:{port}") };
    Some(EndpointUrl { tls, host, port, authority })
}

/// Splits at the colon before a port; the colons within brackets belong to the address.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (authority, None),
    }
}

/// A host as it is connected to: a name, an IPv4 address, or an IPv6 address out of its brackets.
fn endpoint_host(name: &str) -> Option<String> {
    if let Some(address) = name.strip_prefix('[') {
        return Some(address.strip_suffix(']')?.parse::<Ipv6Addr>().ok()?.to_string());
    }
    is_host_name(name).then(|| name.to_owned())
}

/// A port in digits. `http::Uri` has no port for `host:99999` or `host:abc`, and the scheme's would be a surprise.
fn parse_port(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port > 0)
}

/// Whether a text is a plain host: no scheme, no port, no wildcard.
fn is_host_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_connected_to_where_it_says() {
        for (text, tls, host, port, authority) in [
            ("http://127.0.0.1:9000", false, "127.0.0.1", 9000, "127.0.0.1:9000"),
            ("http://orders.internal/", false, "orders.internal", 80, "orders.internal"),
            ("https://orders.internal:443", true, "orders.internal", 443, "orders.internal"),
            ("https://[::1]:8443", true, "::1", 8443, "[::1]:8443"),
            ("http://[::1]", false, "::1", 80, "[::1]"),
        ] {
            let wanted = EndpointUrl { tls, host: host.into(), port, authority: authority.into() };
            assert_eq!(parse_endpoint(text), Some(wanted), "{text}");
        }
    }

    #[test]
    fn what_is_not_quite_an_endpoint_is_none() {
        let ports = ["http://h:99999", "http://h:abc", "http://h:0", "http://h:", "http://h:+80", "http://h:80:90"];
        let others =
            ["h:80", "ftp://h", "http://", "http://u@h", "http://h/p", "http://h?q", "http://h/?", "http://h#f"];
        let hosts = ["http://a b", "http://a%20b", "http://[::g]:80", "http://[::1", "http://*.h"];
        for text in ports.iter().chain(&others).chain(&hosts) {
            assert_eq!(parse_endpoint(text), None, "{text}");
        }
    }
}
