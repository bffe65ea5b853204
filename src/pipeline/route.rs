//! Routes, and route matching by host, path and method. The cost is a few hash lookups, independent of the number of routes.

use std::sync::Arc;

use ahash::AHashMap;
use http::Method;
use smallvec::SmallVec;

use super::cors::CorsPolicy;
use super::header_rules::HeaderRules;
pub use super::host::normal_host;
use super::path::NormalPath;
use super::rate_limit::RouteLimits;
use super::request_metrics::{CachedSeries, Metrics};
use super::rewrite::Rewrite;
use super::route_response::RouteResponse;
use crate::config::{Auth, ForwardedHost, OnRevoke, RouteCertificateConfig, RouteConfig, RouteTimeoutsConfig, Upgrade};
use crate::wire::credential_locations::CredentialLocations;

/// A route: what it requires of a request, and where it forwards to.
#[derive(Debug)]
pub struct Route<U = ()> {
    /// The name in logs and metrics.
    pub name: Arc<str>,
    /// Whether a credential is required.
    pub auth: Auth,
    /// The scopes that the credential needs, all of them.
    pub scopes: Arc<[Box<str>]>,
    /// The audiences of which the credential must name one; any credential without audiences if empty.
    pub audiences: Vec<String>,
    /// What the certificate of the client must be; `None` if none is required.
    pub client_certificate: Option<RouteCertificateConfig>,
    /// Where requests carry their credential.
    pub credentials: Arc<CredentialLocations>,
    /// What pages of other origins may do.
    pub(super) cors: Option<Arc<CorsPolicy>>,
    /// The rate limits; `None` if rate limits are not enforced.
    #[doc(hidden)]
    pub limits: Option<RouteLimits>,
    /// Whether clients may upgrade connections.
    pub upgrade: Upgrade,
    /// What happens to streams whose credential becomes invalid.
    pub on_revoke: OnRevoke,
    /// The timeouts, each instead of that of the upstream.
    pub timeouts: RouteTimeoutsConfig,
    /// What the front keeps for the upstream.
    pub upstream: U,
    /// What the route responds with; `None` if it forwards requests.
    pub(super) response: Option<RouteResponse>,
    /// How paths are rewritten.
    pub(super) rewrite: Option<Rewrite>,
    pub(super) host: HostSelection,
    pub(super) request_rules: Option<Box<HeaderRules>>,
    pub(super) response_rules: Option<Box<HeaderRules>>,
    /// The maximum size of a request body in bytes.
    pub(super) max_body: Option<u64>,
    pub(super) series: CachedSeries,
}

/// Which `Host` the upstream of a route gets.
#[derive(Debug)]
pub(super) struct HostSelection(ForwardedHost);

/// The requests that a route matches.
#[derive(Debug, Clone, Default)]
pub struct RouteMatcher {
    /// The hosts; all hosts if empty. `*.` in front of a name stands for everything below it.
    pub hosts: Vec<String>,
    /// The path, with everything below it.
    pub path_prefix: String,
    /// The methods; all methods if empty.
    pub methods: Vec<Method>,
}

/// All routes of a configuration. `R` is what a match returns.
#[derive(Debug)]
pub struct RouteTable<R> {
    by_host: AHashMap<Box<str>, Prefixes<R>>,
    /// The routes of `*.SUFFIX`, by suffix.
    by_suffix: AHashMap<Box<str>, Prefixes<R>>,
    /// The length of the longest suffix in bytes. Longer ends of a host need no lookup.
    longest_suffix: usize,
    all_hosts: Prefixes<R>,
    /// Whether a prefix has interpretations besides its normal form (for example because of upper-case letters). If none has, an
    /// unambiguous path needs no second lookup.
    ambiguous_prefixes: bool,
}

/// The routes that name a host: itself, then by wildcards, the longest suffix first.
struct NamedRoutes<'t, R> {
    exact: Option<&'t Prefixes<R>>,
    wildcards: SmallVec<[&'t Prefixes<R>; 2]>,
}

/// Routes by prefix, without its trailing slash.
#[derive(Debug)]
struct Prefixes<R> {
    exact: ByPrefix<R>,
    /// The same routes by every interpretation of the prefix.
    permissive: ByPrefix<R>,
}

#[derive(Debug)]
struct ByPrefix<R> {
    routes: AHashMap<Box<str>, Vec<Candidate<R>>>,
    /// The length of the longest prefix in bytes. Longer parts of a path need no lookup.
    longest: usize,
}

#[derive(Debug)]
struct Candidate<R> {
    methods: Arc<[Method]>,
    route: Arc<R>,
}

impl<U> Route<U> {
    /// A route of a configuration. `credentials` are the locations of a route that has none of its own.
    pub(super) fn new(
        config: &RouteConfig,
        credentials: &Arc<CredentialLocations>,
        limits: Option<RouteLimits>,
        upstream: U,
        metrics: &Metrics,
    ) -> Self {
        let credentials = match &config.credentials {
            Some(locations) => Arc::new(CredentialLocations::new(locations)),
            None => Arc::clone(credentials),
        };
        let name: Arc<str> = config.name.as_str().into();
        Self {
            series: CachedSeries::new(Arc::clone(&name), metrics),
            name,
            auth: config.auth,
            scopes: config.scopes.iter().map(|scope| scope.as_str().into()).collect(),
            audiences: config.audiences.clone(),
            client_certificate: config.client_certificate.clone(),
            cors: CorsPolicy::new(config, &credentials),
            credentials,
            limits,
            upgrade: config.upgrade,
            on_revoke: config.on_revoke,
            timeouts: config.timeouts,
            upstream,
            response: RouteResponse::new(config),
            rewrite: Rewrite::new(config),
            host: HostSelection(config.host.clone()),
            request_rules: HeaderRules::new(&config.request_headers),
            response_rules: HeaderRules::new(&config.response_headers),
            max_body: config.max_body,
        }
    }
}

impl<R> RouteTable<R> {
    /// A table of routes. If two routes match the same requests, the first one is used. A prefix or host that no request can have is
    /// ignored.
    pub fn new(routes: impl IntoIterator<Item = (RouteMatcher, R)>) -> Self {
        let mut table = Self {
            by_host: AHashMap::new(),
            by_suffix: AHashMap::new(),
            longest_suffix: 0,
            all_hosts: Prefixes::default(),
            ambiguous_prefixes: false,
        };
        for (matcher, route) in routes {
            table.add(&matcher, &Arc::new(route));
        }
        table
    }

    /// The route for a request. Routes that name the host take precedence, then those with a wildcard, the longest first; among them the
    /// longest prefix of whole segments. If the longest matching route does not allow the method, the next-longest match is tried.
    ///
    /// Every interpretation of the path must match the same route. Otherwise there is no match: an upstream could serve a
    /// resource that belongs to another route, or to none.
    pub fn find(&self, host: &str, method: &Method, path: &NormalPath<'_>) -> Option<&Arc<R>> {
        let host = normal_host(host)?;
        let named = self.named(&host);
        let route = self.look_up(&named, |prefixes| &prefixes.exact, path.as_str(), method)?;
        let agrees = |interpretation: &str| self.agrees(&named, method, interpretation, route);
        let is_unanimous = match path.interpretations() {
            [] => !self.ambiguous_prefixes || agrees(path.as_str()),
            interpretations => interpretations.iter().all(|interpretation| agrees(interpretation)),
        };
        is_unanimous.then_some(route)
    }

    /// Whether requests for all these interpretations of paths match a route.
    pub(super) fn all_match<I: AsRef<str>>(
        &self,
        route: &Arc<R>,
        host: &str,
        method: &Method,
        mut interpretations: impl Iterator<Item = Option<I>>,
    ) -> bool {
        let Some(host) = normal_host(host) else { return false };
        let named = self.named(&host);
        interpretations.all(|path| path.is_some_and(|path| self.agrees(&named, method, path.as_ref(), route)))
    }

    fn agrees<'t>(&'t self, named: &NamedRoutes<'t, R>, method: &Method, interpretation: &str, route: &Arc<R>) -> bool {
        let other = self.look_up(named, |prefixes| &prefixes.permissive, interpretation, method);
        other.is_some_and(|other| Arc::ptr_eq(other, route))
    }

    fn look_up<'t>(
        &'t self,
        named: &NamedRoutes<'t, R>,
        part: impl Fn(&'t Prefixes<R>) -> &'t ByPrefix<R>,
        path: &str,
        method: &Method,
    ) -> Option<&'t Arc<R>> {
        named
            .exact
            .and_then(|prefixes| part(prefixes).find(path, method))
            .or_else(|| named.wildcards.iter().find_map(|prefixes| part(prefixes).find(path, method)))
            .or_else(|| part(&self.all_hosts).find(path, method))
    }

    /// The routes that name a host in normal form.
    fn named(&self, host: &str) -> NamedRoutes<'_, R> {
        let mut wildcards = SmallVec::new();
        if !self.by_suffix.is_empty() {
            let suffixes = host.match_indices('.').map(|(at, _)| &host[at + 1..]);
            let suffixes = suffixes.filter(|suffix| suffix.len() <= self.longest_suffix);
            wildcards.extend(suffixes.filter_map(|suffix| self.by_suffix.get(suffix)));
        }
        NamedRoutes { exact: self.by_host.get(host), wildcards }
    }

    fn add(&mut self, matcher: &RouteMatcher, route: &Arc<R>) {
        let Some(prefix) = NormalPath::parse(&matcher.path_prefix) else { return };
        let methods: Arc<[Method]> = matcher.methods.as_slice().into();
        self.ambiguous_prefixes |= !prefix.interpretations().is_empty();
        if matcher.hosts.is_empty() {
            self.all_hosts.add(&prefix, &methods, route);
        }
        for host in &matcher.hosts {
            let suffix = host.strip_prefix("*.");
            let Some(name) = normal_host(suffix.unwrap_or(host)).filter(|name| !name.is_empty()) else { continue };
            let hosts = if suffix.is_some() { &mut self.by_suffix } else { &mut self.by_host };
            if suffix.is_some() {
                self.longest_suffix = self.longest_suffix.max(name.len());
            }
            hosts.entry(name.into()).or_default().add(&prefix, &methods, route);
        }
    }
}

impl HostSelection {
    /// The host for the upstream of a request for `requested`; `None` for that of the endpoint.
    pub(super) fn select<'h>(&'h self, requested: &'h str) -> Option<&'h str> {
        match &self.0 {
            ForwardedHost::Upstream => None,
            ForwardedHost::Preserve => Some(requested).filter(|host| !host.is_empty()),
            ForwardedHost::Name(name) => Some(name),
        }
    }
}

impl From<&RouteConfig> for RouteMatcher {
    /// The matcher of a validated configuration.
    fn from(config: &RouteConfig) -> Self {
        Self {
            hosts: config.hosts.clone(),
            path_prefix: config.path_prefix.clone(),
            methods: config.methods.iter().filter_map(|method| method.parse().ok()).collect(),
        }
    }
}

impl<R> Prefixes<R> {
    fn add(&mut self, prefix: &NormalPath<'_>, methods: &Arc<[Method]>, route: &Arc<R>) {
        self.exact.add(prefix.as_str(), methods, route);
        if prefix.interpretations().is_empty() {
            self.permissive.add(prefix.as_str(), methods, route);
        }
        for interpretation in prefix.interpretations() {
            self.permissive.add(interpretation, methods, route);
        }
    }
}

impl<R> Default for Prefixes<R> {
    fn default() -> Self {
        Self { exact: ByPrefix::default(), permissive: ByPrefix::default() }
    }
}

impl<R> ByPrefix<R> {
    fn add(&mut self, prefix: &str, methods: &Arc<[Method]>, route: &Arc<R>) {
        let prefix = prefix.trim_end_matches('/');
        self.longest = self.longest.max(prefix.len());
        let candidates = self.routes.entry(prefix.into()).or_default();
        // Two interpretations of one prefix may differ only in a trailing slash.
        if !candidates.iter().any(|candidate| Arc::ptr_eq(&candidate.route, route)) {
            candidates.push(Candidate { methods: Arc::clone(methods), route: Arc::clone(route) });
        }
        // A route that names its methods is more specific.
        candidates.sort_by_key(|candidate| candidate.methods.is_empty());
    }

    fn find(&self, path: &str, method: &Method) -> Option<&Arc<R>> {
        if self.routes.is_empty() {
            return None;
        }
        let mut prefix = whole_segments(path, self.longest);
        loop {
            let candidates = self.routes.get(prefix).map(Vec::as_slice).unwrap_or_default();
            if let Some(candidate) = candidates.iter().find(|candidate| candidate.allows(method)) {
                return Some(&candidate.route);
            }
            prefix = &prefix[..prefix.rfind('/')?];
        }
    }
}

impl<R> Default for ByPrefix<R> {
    fn default() -> Self {
        Self { routes: AHashMap::new(), longest: 0 }
    }
}

impl<R> Candidate<R> {
    fn allows(&self, method: &Method) -> bool {
        self.methods.is_empty() || self.methods.contains(method)
    }
}

/// The leading whole segments of a path that fit into `limit` bytes.
fn whole_segments(path: &str, limit: usize) -> &str {
    if path.len() <= limit {
        return path.trim_end_matches('/');
    }
    let end = path.as_bytes()[..=limit].iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    &path[..end]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A route that is only a name.
    fn route(name: &'static str, hosts: &[&str], path_prefix: &str, methods: &[&str]) -> (RouteMatcher, &'static str) {
        let matcher = RouteMatcher {
            hosts: hosts.iter().map(ToString::to_string).collect(),
            path_prefix: path_prefix.into(),
            methods: methods.iter().map(|method| method.parse().unwrap()).collect(),
        };
        (matcher, name)
    }

    fn found(table: &RouteTable<&'static str>, host: &str, method: &str, path: &str) -> Option<&'static str> {
        let path = NormalPath::parse(path)?;
        table.find(host, &method.parse().unwrap(), &path).map(|route| **route)
    }

    #[test]
    fn longest_prefix_of_whole_segments_wins() {
        let table = RouteTable::new([
            route("root", &[], "/", &[]),
            route("orders", &[], "/orders", &[]),
            route("one", &[], "/orders/one/", &[]),
            route("projects", &[], "/projects", &[]),
            route("cased", &[], "/Cased", &[]),
            route("accented", &[], "/café", &[]),
        ]);
        for (path, name) in [
            ("/", "root"),
            ("/x", "root"),
            ("/ordersx", "root"),
            ("/orders", "orders"),
            ("/orders/", "orders"),
            ("/orders/onex", "orders"),
            ("/orders/one", "one"),
            ("/orders/one/two/three/four", "one"),
            ("/projects/group%2Fname", "projects"),
            ("/projects/group%2F..%2Fname;v=1", "projects"),
            ("/projects/Some%20Name", "projects"),
            ("/Cased/Thing", "cased"),
            ("/caf%c3%a9/x", "accented"),
        ] {
            assert_eq!(found(&table, "h", "GET", path), Some(name), "{path}");
        }
        assert_eq!(found(&table, "h", "GET", "/cased"), None);
    }

    #[test]
    fn hosts_and_methods_are_matched() {
        let table = RouteTable::new([
            route("any", &[], "/", &[]),
            route("api", &["API.example.com."], "/", &["GET", "POST"]),
            route("six", &["[::0:1]"], "/", &[]),
            route("deep", &[], "/deep/er", &[]),
            route("mixed", &[], "/mixed", &[]),
            route("write", &[], "/mixed", &["POST"]),
            route("never", &["", "a b"], "/", &[]),
            route("nowhere", &[], "relative", &[]),
        ]);
        for (host, method, path, name) in [
            ("api.example.com", "GET", "/", Some("api")),
            ("Api.Example.COM.:8080", "POST", "/deep/er", Some("api")),
            ("api.example.com", "DELETE", "/", Some("any")),
            ("[0:0:0:0:0:0:0:1]:80", "GET", "/deep/er", Some("six")),
            ("[::2]", "GET", "/deep/er", Some("deep")),
            ("", "GET", "/x", Some("any")),
            ("x", "POST", "/mixed", Some("write")),
            ("x", "GET", "/mixed", Some("mixed")),
            ("a b", "GET", "/", None),
        ] {
            assert_eq!(found(&table, host, method, path), name, "{host} {method} {path}");
        }
    }

    #[test]
    fn wildcards_match_names_below_a_suffix() {
        let table = RouteTable::new([
            route("any", &[], "/", &[]),
            route("wild", &["*.Example.com."], "/", &[]),
            route("deep", &["*.eu.example.com"], "/", &["GET"]),
            route("exact", &["api.example.com"], "/api", &[]),
            route("never", &["*.", "*", "a.*.com"], "/", &[]),
        ]);
        for (host, method, path, name) in [
            ("a.example.com", "GET", "/", "wild"),
            ("A.B.Example.COM.:8080", "GET", "/x", "wild"),
            ("a.eu.example.com", "GET", "/", "deep"),
            ("a.eu.example.com", "POST", "/", "wild"),
            ("eu.example.com", "GET", "/", "wild"),
            ("api.example.com", "GET", "/api/1", "exact"),
            ("api.example.com", "GET", "/other", "wild"),
            ("example.com", "GET", "/", "any"),
            ("xexample.com", "GET", "/", "any"),
            ("example.com.evil", "GET", "/", "any"),
            ("[::1]", "GET", "/", "any"),
            ("", "GET", "/", "any"),
        ] {
            assert_eq!(found(&table, host, method, path), Some(name), "{host} {method} {path}");
        }
    }

    #[test]
    fn ambiguous_paths_match_no_route() {
        let alone = RouteTable::new([route("orders", &[], "/orders", &[])]);
        let open = RouteTable::new([route("orders", &[], "/orders", &[]), route("open", &[], "/", &[])]);
        let named = RouteTable::new([route("orders", &["h"], "/orders", &[]), route("open", &[], "/", &[])]);
        for (path, alone_matches, open_matches) in [
            ("//orders", Some("orders"), Some("orders")),
            ("/x/../orders", Some("orders"), Some("orders")),
            ("/%6frders", Some("orders"), Some("orders")),
            ("/orders/%2e%2e/orders", Some("orders"), Some("orders")),
            ("/orders/a%2Fb;v=1", Some("orders"), Some("orders")),
            ("/orders/../admin", None, Some("open")),
            ("/orders/%2e%2e/admin", None, Some("open")),
            ("/orders%2f..", None, None),
            ("/orders%2f..;x", None, None),
            ("/orders%5c..%5cadmin", None, None),
            ("/orders/%2e%2e%2fx", None, None),
            ("/x%2f..%2forders", None, None),
            ("/x%252f..%252forders", None, None),
            ("/x%c0%af..%c0%aforders", None, None),
            ("/x/%c0%ae%c0%ae/orders", None, None),
            ("/%2forders", None, None),
            ("/ORDERS", None, None),
            ("/Orders/1", None, None),
            ("/orders;x", None, None),
            ("/orders%3bx", None, None),
            ("/orders%2500", None, None),
            ("/x/..;/orders", None, None),
            ("/x/..%3b/orders", None, None),
            ("/x\\..\\orders", None, None),
            ("\\orders", None, None),
            ("/orders\\1", None, None),
            ("/orders/..%5cx", None, None),
            ("/orders%3fx", None, None),
            ("/orders%23", None, None),
            ("/orders/1%3fx", Some("orders"), Some("orders")),
            ("/orders.", None, None),
            ("/orders./1", None, None),
            ("/orders/report.", Some("orders"), Some("orders")),
            ("/orders%20", None, None),
            ("/orders/a%20b%20/c", Some("orders"), Some("orders")),
            ("/x/..%20/orders", None, None),
            ("/.../orders", None, None),
            ("/orders::$DATA", None, None),
            ("/orders:$i30:$index_allocation/1", None, None),
            ("/orders/1:cancel", Some("orders"), Some("orders")),
            ("/orders/1::$DATA", Some("orders"), Some("orders")),
            ("/x/．．/orders", None, None),
            ("/x/%ef%bc%8e%ef%bc%8e%ef%bc%8forders", None, None),
            ("/ｏrders", None, None),
            ("/x%25252f..%25252forders", None, None),
        ] {
            assert_eq!(found(&alone, "h", "GET", path), alone_matches, "alone {path}");
            for host in ["h", "H:8080", "h.", "H.:8080"] {
                assert_eq!(found(&open, host, "GET", path), open_matches, "open {host} {path}");
                assert_eq!(found(&named, host, "GET", path), open_matches, "named {host} {path}");
            }
        }
    }

    #[test]
    fn lookups_are_bounded_by_the_longest_prefix() {
        assert_eq!(whole_segments("/orders/1", 7), "/orders");
        assert_eq!(whole_segments("/ordersx", 7), "");
        assert_eq!(whole_segments("/orders/", 8), "/orders");
        assert_eq!(whole_segments("/orders/", 7), "/orders");
        assert_eq!(whole_segments("/a/b/c/d", 5), "/a/b");
        assert_eq!(whole_segments("/", 0), "");
        let table = RouteTable::new([route("open", &[], "/", &[]), route("orders", &[], "/orders/deep", &[])]);
        assert_eq!(found(&table, "h", "GET", &"/a".repeat(500_000)), Some("open"));
    }

    proptest! {
        /// No interpretation of a path that matches the open route is below the protected route.
        #[test]
        fn open_route_never_matches_an_interpretation_of_a_protected_path(raw in "/?(orders|x|O|[./\\\\;?]|%2[ef]|%252f|%25252e|%5c|%3f|%23|%20|::\\$DATA|%ef%bc%8[ef]){0,8}") {
            let table = RouteTable::new([route("orders", &[], "/orders", &[]), route("open", &[], "/", &[])]);
            if found(&table, "h", "GET", &raw) == Some("open") {
                let path = NormalPath::parse(&raw).unwrap();
                let orders = |text: &str| text == "/orders" || text.starts_with("/orders/");
                prop_assert!(!orders(path.as_str()) && !orders(path.permissive()));
                prop_assert!(!path.interpretations().iter().any(|interpretation| orders(interpretation)));
            }
        }
    }
}
