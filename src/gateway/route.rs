//! Which route takes a request. A few hash look-ups, however many routes there are.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::Ipv6Addr;
use std::sync::Arc;

use http::Method;

use super::path::NormalPath;
use crate::config::{Auth, RouteConfig};

/// What is matched, and what is then asked of a request.
#[derive(Debug, Clone)]
pub struct Route {
    /// Its place among the configured routes, by which other parts know what they keep for it.
    pub number: usize,
    /// The name in logs and metrics.
    pub name: Arc<str>,
    /// Hosts that the route takes; all when empty.
    pub hosts: Vec<String>,
    /// The path that the route takes, with everything below it.
    pub path_prefix: String,
    /// Methods that the route takes; all when empty.
    pub methods: Vec<Method>,
    /// The upstream's name.
    pub upstream: String,
    /// Whether a credential is needed.
    pub auth: Auth,
    /// Scopes that the credential needs, all of them.
    pub scopes: Arc<[Box<str>]>,
    /// Audiences one of which the credential must name.
    pub audiences: Vec<String>,
    /// How many requests one of these counts as.
    pub cost: u64,
}

/// All routes.
#[derive(Debug, Default)]
pub struct RouteTable {
    by_host: HashMap<Box<str>, Prefixes>,
    all_hosts: Prefixes,
    /// Whether some prefix reads otherwise to some server, by its case for one. If none does, a path without other
    /// readings needs no second look.
    prefixes_vary: bool,
}

/// Routes by prefix, without the slash at its end.
#[derive(Debug, Default)]
struct Prefixes {
    exact: ByPrefix,
    /// The same by every reading of the prefix.
    loose: ByPrefix,
}

#[derive(Debug, Default)]
struct ByPrefix {
    routes: HashMap<Box<str>, Vec<Arc<Route>>>,
    /// The length of the longest prefix: nothing longer need be looked up, however long a path somebody sends.
    longest: usize,
}

impl RouteTable {
    /// A table of routes. Of two that take the same requests the first is used; a prefix or host that can never be asked
    /// for is left out.
    pub fn new<R: Into<Route>>(routes: impl IntoIterator<Item = R>) -> Self {
        let mut table = Self::default();
        for (number, route) in routes.into_iter().enumerate() {
            table.add(&Arc::new(Route { number, ..route.into() }));
        }
        table
    }

    /// The route for a request: one that names the host goes first, then the longest prefix of whole segments. A route
    /// that does not take the method is passed over.
    ///
    /// Every other way to read the path must lead to the very same route. If one does not, there is none: some upstream
    /// might serve what another route's rules, or nobody's, would have had to judge.
    pub fn find(&self, host: &str, method: &Method, path: &NormalPath<'_>) -> Option<&Arc<Route>> {
        let host = normal_host(host)?;
        let named = self.by_host.get(&*host);
        let route = self.look_up(named, |prefixes| &prefixes.exact, path.as_str(), method)?;
        let agrees = |reading: &str| {
            let read = self.look_up(named, |prefixes| &prefixes.loose, reading, method);
            read.is_some_and(|read| Arc::ptr_eq(read, route))
        };
        let unanimous = match path.readings() {
            [] => !self.prefixes_vary || agrees(path.as_str()),
            readings => readings.iter().all(|reading| agrees(reading)),
        };
        unanimous.then_some(route)
    }

    fn look_up<'t>(
        &'t self,
        named: Option<&'t Prefixes>,
        part: impl Fn(&'t Prefixes) -> &'t ByPrefix,
        path: &str,
        method: &Method,
    ) -> Option<&'t Arc<Route>> {
        named
            .and_then(|prefixes| part(prefixes).find(path, method))
            .or_else(|| part(&self.all_hosts).find(path, method))
    }

    fn add(&mut self, route: &Arc<Route>) {
        let Some(prefix) = NormalPath::parse(&route.path_prefix) else { return };
        self.prefixes_vary |= !prefix.readings().is_empty();
        if route.hosts.is_empty() {
            self.all_hosts.add(&prefix, route);
        }
        for host in route.hosts.iter().filter_map(|host| normal_host(host)).filter(|host| !host.is_empty()) {
            self.by_host.entry(host.into()).or_default().add(&prefix, route);
        }
    }
}

impl Route {
    fn takes(&self, method: &Method) -> bool {
        self.methods.is_empty() || self.methods.contains(method)
    }
}

impl From<&RouteConfig> for Route {
    /// The route of a validated configuration.
    fn from(config: &RouteConfig) -> Self {
        Self {
            number: 0,
            name: config.name.as_str().into(),
            hosts: config.hosts.clone(),
            path_prefix: config.path_prefix.clone(),
            methods: config.methods.iter().filter_map(|method| method.parse().ok()).collect(),
            upstream: config.upstream.clone(),
            auth: config.auth,
            scopes: config.scopes.iter().map(|scope| scope.as_str().into()).collect(),
            audiences: config.audiences.clone(),
            cost: config.cost,
        }
    }
}

impl Prefixes {
    fn add(&mut self, prefix: &NormalPath<'_>, route: &Arc<Route>) {
        self.exact.add(prefix.as_str(), route);
        if prefix.readings().is_empty() {
            self.loose.add(prefix.as_str(), route);
        }
        for reading in prefix.readings() {
            self.loose.add(reading, route);
        }
    }
}

impl ByPrefix {
    fn add(&mut self, prefix: &str, route: &Arc<Route>) {
        let prefix = prefix.trim_end_matches('/');
        self.longest = self.longest.max(prefix.len());
        let routes = self.routes.entry(prefix.into()).or_default();
        // Two readings of one prefix may differ in nothing but a slash at the end.
        if !routes.iter().any(|known| Arc::ptr_eq(known, route)) {
            routes.push(Arc::clone(route));
        }
        // A route that names its methods is the more particular one.
        routes.sort_by_key(|route| route.methods.is_empty());
    }

    fn find(&self, path: &str, method: &Method) -> Option<&Arc<Route>> {
        if self.routes.is_empty() {
            return None;
        }
        let mut prefix = whole_segments(path, self.longest);
        loop {
            let routes = self.routes.get(prefix).map(Vec::as_slice).unwrap_or_default();
            if let Some(route) = routes.iter().find(|route| route.takes(method)) {
                return Some(route);
            }
            prefix = &prefix[..prefix.rfind('/')?];
        }
    }
}

/// As many segments of a path, from its beginning, as fit into `limit` bytes.
fn whole_segments(path: &str, limit: usize) -> &str {
    if path.len() <= limit {
        return path.trim_end_matches('/');
    }
    let end = path.as_bytes()[..=limit].iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    &path[..end]
}

/// A host in lower case, without port and trailing dot; an IPv6 address in its brackets and its shortest spelling.
///
/// There is none for what cannot be a host. No host at all is the empty one, which no route can name.
pub fn normal_host(host: &str) -> Option<Cow<'_, str>> {
    if let Some(rest) = host.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let address: Ipv6Addr = address.parse().ok()?;
        return is_port(port).then(|| ["[", &address.to_string(), "]"].concat().into());
    }
    let (name, port) = host.split_at(host.find(':').unwrap_or(host.len()));
    let name = name.strip_suffix('.').unwrap_or(name);
    let legal = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    if !is_port(port) || !(host.is_empty() || name.split('.').all(legal)) {
        return None;
    }
    let lower = !name.bytes().any(|byte| byte.is_ascii_uppercase());
    Some(if lower { name.into() } else { name.to_ascii_lowercase().into() })
}

/// Whether what follows a host is a port: RFC 3986 lets it be empty, colon and all.
fn is_port(text: &str) -> bool {
    text.is_empty()
        || text.strip_prefix(':').is_some_and(|port| port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn route(name: &str, hosts: &[&str], path_prefix: &str, methods: &[&str]) -> Route {
        Route {
            number: 0,
            name: name.into(),
            hosts: hosts.iter().map(ToString::to_string).collect(),
            path_prefix: path_prefix.into(),
            methods: methods.iter().map(|method| method.parse().unwrap()).collect(),
            upstream: "u".into(),
            auth: Auth::Required,
            scopes: Arc::default(),
            audiences: Vec::new(),
            cost: 1,
        }
    }

    fn found<'a>(table: &'a RouteTable, host: &str, method: &str, path: &str) -> Option<&'a str> {
        let path = NormalPath::parse(path)?;
        table.find(host, &method.parse().unwrap(), &path).map(|route| &*route.name)
    }

    #[test]
    fn the_longest_prefix_of_whole_segments_wins() {
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
    fn hosts_and_methods_are_part_of_the_match() {
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
    fn hosts_become_normal() {
        for (host, normal) in [
            ("example.com", Some("example.com")),
            ("EXAMPLE.com.:443", Some("example.com")),
            ("example.com:", Some("example.com")),
            ("127.0.0.1:80", Some("127.0.0.1")),
            ("[::1]", Some("[::1]")),
            ("[0::1]:80", Some("[::1]")),
            ("", Some("")),
        ] {
            assert_eq!(normal_host(host).as_deref(), normal, "{host}");
        }
        for host in
            ["a..", ".", ":80", "a:b", "a:80:90", "a:123456", "[::1", "[::1]x", "[a.b]", "u@a", "a/b", "é", "::1"]
        {
            assert_eq!(normal_host(host), None, "{host}");
        }
    }

    #[test]
    fn no_trick_gets_past_a_rule() {
        let alone = RouteTable::new([route("orders", &[], "/orders", &[])]);
        let open = RouteTable::new([route("orders", &[], "/orders", &[]), route("open", &[], "/", &[])]);
        let named = RouteTable::new([route("orders", &["h"], "/orders", &[]), route("open", &[], "/", &[])]);
        for (path, alone_takes, open_takes) in [
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
        ] {
            assert_eq!(found(&alone, "h", "GET", path), alone_takes, "alone {path}");
            for host in ["h", "H:8080", "h.", "H.:8080"] {
                assert_eq!(found(&open, host, "GET", path), open_takes, "open {host} {path}");
                assert_eq!(found(&named, host, "GET", path), open_takes, "named {host} {path}");
            }
        }
    }

    #[test]
    fn a_long_path_costs_no_more_look_ups_than_the_longest_prefix_has_segments() {
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
        /// Whatever is let through by the open route is in no reading below the other one.
        #[test]
        fn what_the_open_route_takes_nobody_reads_as_another(raw in "/?(orders|x|O|[./\\\\;]|%2[ef]|%252f|%5c){0,8}") {
            let table = RouteTable::new([route("orders", &[], "/orders", &[]), route("open", &[], "/", &[])]);
            if found(&table, "h", "GET", &raw) == Some("open") {
                let path = NormalPath::parse(&raw).unwrap();
                let orders = |text: &str| text == "/orders" || text.starts_with("/orders/");
                prop_assert!(!orders(path.as_str()) && !orders(path.loose()));
                prop_assert!(!path.readings().iter().any(|reading| orders(reading)));
            }
        }
    }
}
