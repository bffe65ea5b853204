//! `gateway.routes`: which requests are matched, and what they require.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::credential_location::{self, CredentialLocation};
use super::endpoint::is_host_name;
use super::problems::Problems;
use super::route_certificate::RouteCertificateConfig;
use super::route_cors::RouteCorsConfig;
use super::route_headers::HeaderRulesConfig;
use super::route_response::{RedirectConfig, RespondConfig};
use super::route_rewrite::{ForwardedHost, PathRewrite, is_plain_path};
use super::stream::{OnRevoke, Upgrade};
use super::timeouts::RouteTimeoutsConfig;

/// A route.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteConfig {
    /// Name in logs and metrics.
    #[schemars(length(min = 1, max = 100))]
    pub name: String,
    /// Hosts that match; all when absent. `*.example.com` matches all names below `example.com`, not `example.com` itself.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Path prefix that matches, by whole segments; all paths when absent.
    #[serde(default = "root")]
    pub path_prefix: String,
    /// Methods that match; all when absent.
    #[serde(default)]
    pub methods: Vec<String>,
    /// Name of the upstream. Required if the gateway is enabled, except with `redirect` or `respond`.
    #[serde(default)]
    pub upstream: Option<String>,
    /// Whether a credential is required.
    #[serde(default)]
    pub auth: Auth,
    /// Where requests carry their credential, instead of `gateway.credentials`.
    #[serde(default)]
    pub credentials: Option<Vec<CredentialLocation>>,
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
    /// Part of `path_prefix` that forwarded requests do not have: all of it, or its leading segments.
    #[serde(default)]
    pub strip_prefix: Option<String>,
    /// Path that replaces `path_prefix` in forwarded requests.
    #[serde(default)]
    pub rewrite: Option<String>,
    /// The `Host` that the upstream gets: `upstream` for that of the endpoint, `preserve` for the client's, or a host.
    #[serde(default)]
    pub host: ForwardedHost,
    /// Changes to the headers of forwarded requests.
    #[serde(default)]
    pub request_headers: HeaderRulesConfig,
    /// Changes to the headers of responses of the upstream.
    #[serde(default)]
    pub response_headers: HeaderRulesConfig,
    /// Maximum size of a request body in bytes; not limited when absent.
    #[serde(default)]
    pub max_body: Option<u64>,
    /// Whether clients may upgrade connections to the WebSocket protocol.
    #[serde(default)]
    pub upgrade: Upgrade,
    /// What happens to WebSockets, event streams and gRPC calls when their key is revoked, deleted or expires.
    #[serde(default)]
    pub on_revoke: OnRevoke,
    /// Timeouts of the route, each instead of that of the upstream.
    #[serde(default)]
    pub timeouts: RouteTimeoutsConfig,
    /// Which pages of other origins may call the route. Preflights are answered by Keygate. If absent, nothing is added, and `OPTIONS` is
    /// a request as any other.
    #[serde(default)]
    pub cors: Option<RouteCorsConfig>,
    /// Redirects authorized requests instead of forwarding them.
    #[serde(default)]
    pub redirect: Option<RedirectConfig>,
    /// Answers authorized requests with a fixed response instead of forwarding them.
    #[serde(default)]
    pub respond: Option<RespondConfig>,
}

/// Whether a credential is required.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
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
            credentials: None,
            scopes: Vec::new(),
            audiences: Vec::new(),
            client_certificate: None,
            limits: Vec::new(),
            cost: one(),
            strip_prefix: None,
            rewrite: None,
            host: ForwardedHost::default(),
            request_headers: HeaderRulesConfig::default(),
            response_headers: HeaderRulesConfig::default(),
            max_body: None,
            upgrade: Upgrade::default(),
            on_revoke: OnRevoke::default(),
            timeouts: RouteTimeoutsConfig::default(),
            cors: None,
            redirect: None,
            respond: None,
        }
    }
}

fn one() -> u64 {
    1
}

fn root() -> String {
    "/".into()
}

impl RouteConfig {
    pub(super) fn validate(&self, path: &str, problems: &mut Problems) {
        if !is_plain_path(&self.path_prefix) {
            problems.add(
                &format!("{path}.path_prefix"),
                "must be a plain path such as /orders, without %, ?, #, ;, \\, // or dot segments",
            );
        }
        for (index, host) in self.hosts.iter().enumerate() {
            if !is_host_name(host.strip_prefix("*.").unwrap_or(host)) {
                problems.add(
                    &format!("{path}.hosts.{index}"),
                    "must be a host name such as api.example.com or *.example.com, without scheme and port",
                );
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
        if let Some(credentials) = &self.credentials {
            credential_location::validate(&format!("{path}.credentials"), credentials, problems);
        }
        problems.unique(&format!("{path}.scopes"), self.scopes.iter());
        if self.auth == Auth::None && !self.scopes.is_empty() {
            problems.add(&format!("{path}.scopes"), "cannot be required on a route with `auth: none`");
        }
        problems.unique(&format!("{path}.audiences"), self.audiences.iter());
        if self.auth == Auth::None && !self.audiences.is_empty() {
            problems.add(&format!("{path}.audiences"), "cannot be required on a route with `auth: none`");
        }
        self.timeouts.validate(&format!("{path}.timeouts"), problems);
        if let Some(cors) = &self.cors {
            cors.validate(&format!("{path}.cors"), &self.methods, problems);
        }
        if let Some(certificate) = &self.client_certificate {
            certificate.validate(&format!("{path}.client_certificate"), problems);
        }
        self.path_rewrite().validate(path, problems);
        self.host.validate(&format!("{path}.host"), problems);
        self.request_headers.validate(&format!("{path}.request_headers"), problems);
        self.response_headers.validate(&format!("{path}.response_headers"), problems);
        self.validate_response(path, problems);
    }

    /// Whether the route responds itself and forwards nothing.
    pub fn responds(&self) -> bool {
        self.redirect.is_some() || self.respond.is_some()
    }

    /// The path that replaces `path_prefix` in forwarded requests, without a slash at its end; empty for the root. `None` if paths are
    /// forwarded unchanged.
    pub fn replaced_prefix(&self) -> Option<&str> {
        self.path_rewrite().base()
    }

    fn path_rewrite(&self) -> PathRewrite<'_> {
        PathRewrite {
            path_prefix: &self.path_prefix,
            strip_prefix: self.strip_prefix.as_deref(),
            rewrite: self.rewrite.as_deref(),
        }
    }

    fn validate_response(&self, path: &str, problems: &mut Problems) {
        if let Some(redirect) = &self.redirect {
            redirect.validate(&format!("{path}.redirect"), problems);
        }
        if let Some(respond) = &self.respond {
            respond.validate(&format!("{path}.respond"), problems);
            if self.redirect.is_some() {
                problems.add(&format!("{path}.respond"), "cannot be set together with redirect; remove one of them");
            }
        }
        let unused = [
            ("upstream", self.upstream.is_some()),
            ("host", self.host != ForwardedHost::default()),
            ("request_headers", !self.request_headers.is_empty()),
            ("response_headers", !self.response_headers.is_empty()),
        ];
        for (name, is_set) in unused {
            if is_set && self.responds() {
                problems.add(&format!("{path}.{name}"), "is not used by a route with redirect or respond; remove it");
            }
        }
    }

    /// Whether some request matches both routes with the same precedence. Paths are compared case-insensitively.
    pub(super) fn conflicts_with(&self, other: &Self) -> bool {
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
