//! Which route takes a request. A few hash look-ups, however many routes there are.

use std::collections::HashMap;
use std::sync::Arc;

use http::Method;

use super::path::NormalPath;
use crate::config::{Auth, RouteConfig};

/// A route, ready to judge with.
#[derive(Debug)]
pub struct Route {
    /// The name in logs and metrics.
    pub name: Arc<str>,
    /// The upstream's name.
    pub upstream: String,
    /// Whether a credential is needed.
    pub auth: Auth,
    /// Scopes that the credential needs, all of them.
    pub scopes: Arc<[Box<str>]>,
    methods: Vec<Method>,
}

/// All routes.
#[derive(Debug, Default)]
pub struct RouteTable {
    by_host: HashMap<Box<str>, Prefixes>,
    all_hosts: Prefixes,
}

#[derive(Debug, Default)]
struct Prefixes {
    exact: HashMap<Box<str>, Vec<Arc<Route>>>,
    /// The same by lower-case prefix, for the loose reading.
    folded: HashMap<Box<str>, Vec<Arc<Route>>>,
}

impl RouteTable {
    /// A table of validated routes.
    pub fn new(routes: &[RouteConfig]) -> Self {
        let mut table = Self::default();
        for config in routes {
            let route = Arc::new(Route::new(config));
            if config.hosts.is_empty() {
                table.all_hosts.add(&config.path_prefix, &route);
            }
            for host in &config.hosts {
                let host = normal_host(host).unwrap_or_default();
                table.by_host.entry(host.into()).or_default().add(&config.path_prefix, &route);
            }
        }
        table
    }

    /// The route for a request: one that names the host goes first, then the longest prefix of whole segments.
    ///
    /// A path that a careless upstream would read so that another route's rules, or none, ought to have judged it, has
    /// no route at all.
    pub fn find(&self, host: &str, method: &Method, path: &NormalPath<'_>) -> Option<&Arc<Route>> {
        let host = normal_host(host)?;
        let named = self.by_host.get(host.as_str());
        let find = |folded: bool, path: &str| {
            named
                .and_then(|prefixes| prefixes.find(folded, path, method))
                .or_else(|| self.all_hosts.find(folded, path, method))
        };
        let route = find(false, path.as_str())?;
        let careless = find(true, path.loose())?;
        Arc::ptr_eq(route, careless).then_some(route)
    }
}

impl Route {
    fn new(config: &RouteConfig) -> Self {
        Self {
            name: config.name.as_str().into(),
            upstream: config.upstream.clone(),
            auth: config.auth,
            scopes: config.scopes.iter().map(|scope| scope.as_str().into()).collect(),
            methods: config.methods.iter().filter_map(|method| method.parse().ok()).collect(),
        }
    }

    fn takes(&self, method: &Method) -> bool {
        self.methods.is_empty() || self.methods.contains(method)
    }
}

impl Prefixes {
    fn add(&mut self, prefix: &str, route: &Arc<Route>) {
        let prefix = prefix.trim_end_matches('/');
        self.exact.entry(prefix.into()).or_default().push(Arc::clone(route));
        self.folded.entry(prefix.to_ascii_lowercase().into()).or_default().push(Arc::clone(route));
        // A route that names its methods is the more particular one.
        let folded = prefix.to_ascii_lowercase();
        for routes in [self.exact.get_mut(prefix), self.folded.get_mut(folded.as_str())].into_iter().flatten() {
            routes.sort_by_key(|route| route.methods.is_empty());
        }
    }

    fn find(&self, folded: bool, path: &str, method: &Method) -> Option<&Arc<Route>> {
        let table = if folded { &self.folded } else { &self.exact };
        if table.is_empty() {
            return None;
        }
        let mut prefix = path.trim_end_matches('/');
        loop {
            let routes = table.get(prefix).map(Vec::as_slice).unwrap_or_default();
            if let Some(route) = routes.iter().find(|route| route.takes(method)) {
                return Some(route);
            }
            prefix = &prefix[..prefix.rfind('/')?];
        }
    }
}

/// A host without port, trailing dot and upper case; `None` when it has characters that no host has.
pub fn normal_host(host: &str) -> Option<String> {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0,
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
    name.bytes().all(plain).then(|| name.trim_end_matches('.').to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(name: &str, hosts: &[&str], path_prefix: &str, methods: &[&str]) -> RouteConfig {
        let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
        RouteConfig {
            name: name.into(),
            hosts: texts(hosts),
            path_prefix: path_prefix.into(),
            methods: texts(methods),
            upstream: "u".into(),
            auth: Auth::Required,
            scopes: Vec::new(),
        }
    }

    fn found<'a>(table: &'a RouteTable, host: &str, method: &str, path: &str) -> Option<&'a str> {
        let path = NormalPath::parse(path)?;
        table.find(host, &method.parse().unwrap(), &path).map(|route| &*route.name)
    }

    #[test]
    fn the_longest_prefix_of_whole_segments_wins() {
        let table = RouteTable::new(&[
            route("root", &[], "/", &[]),
            route("orders", &[], "/orders", &[]),
            route("one", &[], "/orders/one/", &[]),
        ]);
        for (path, name) in [
            ("/", "root"),
            ("/x", "root"),
            ("/ordersx", "root"),
            ("/orders", "orders"),
            ("/orders/", "orders"),
            ("/orders/onex", "orders"),
            ("/orders/one", "one"),
            ("/orders/one/two", "one"),
            ("/projects/group%2Fname", "root"),
        ] {
            assert_eq!(found(&table, "h", "GET", path), Some(name), "{path}");
        }
    }

    #[test]
    fn hosts_and_methods_are_part_of_the_match() {
        let table = RouteTable::new(&[
            route("any", &[], "/", &[]),
            route("api", &["API.example.com."], "/", &["GET", "POST"]),
            route("deep", &[], "/deep/er", &[]),
            route("write", &[], "/mixed", &["POST"]),
            route("mixed", &[], "/mixed", &[]),
        ]);
        assert_eq!(found(&table, "api.example.com", "GET", "/"), Some("api"));
        assert_eq!(found(&table, "Api.Example.COM.:8080", "POST", "/deep/er"), Some("api"));
        assert_eq!(found(&table, "api.example.com", "DELETE", "/"), Some("any"));
        assert_eq!(found(&table, "[::1]:80", "GET", "/deep/er"), Some("deep"));
        assert_eq!(found(&table, "x", "POST", "/mixed"), Some("write"));
        assert_eq!(found(&table, "x", "GET", "/mixed"), Some("mixed"));
        assert_eq!(found(&table, "a b", "GET", "/"), None);
    }

    #[test]
    fn no_trick_gets_past_a_rule() {
        let alone = RouteTable::new(&[route("orders", &[], "/orders", &[])]);
        let open = RouteTable::new(&[route("orders", &[], "/orders", &[]), route("open", &[], "/", &[])]);
        for (path, alone_takes, open_takes) in [
            ("//orders", Some("orders"), Some("orders")),
            ("/x/../orders", Some("orders"), Some("orders")),
            ("/%6frders", Some("orders"), Some("orders")),
            ("/orders/../admin", None, Some("open")),
            // Every reading of it is the open route's.
            ("/orders%2f..", None, Some("open")),
            ("/orders/%2e%2e%2fx", None, None),
            ("/x%2f..%2forders", None, None),
            ("/x%252f..%252forders", None, None),
            ("/ORDERS", None, None),
            ("/Orders/1", None, None),
            ("/orders;x", None, None),
            ("/x/..;/orders", None, None),
            ("/x\\..\\orders", None, None),
            ("/orders/..%5cx", None, None),
        ] {
            assert_eq!(found(&alone, "h", "GET", path), alone_takes, "alone {path}");
            assert_eq!(found(&open, "h", "GET", path), open_takes, "open {path}");
        }
    }
}
