//! Rewriting of paths: another prefix for the upstream, and the client's prefix in what the upstream sends back.

use super::path::NormalPath;
use crate::config::RouteConfig;

/// How a route changes paths. Prefixes have no slash at their end; the root is empty.
#[derive(Debug)]
pub(super) struct Rewrite {
    /// The prefix that clients use, in normal form.
    prefix: Box<str>,
    /// The prefix that the upstream gets, in normal form.
    base: Box<str>,
    /// Every interpretation of the base.
    bases: Vec<Box<str>>,
}

impl Rewrite {
    /// The rewriting of a validated configuration; `None` if paths are forwarded unchanged.
    pub(super) fn new(config: &RouteConfig) -> Option<Self> {
        let base = config.replaced_prefix()?;
        let prefix = NormalPath::parse(&config.path_prefix)?;
        let rooted = if base.is_empty() { "/" } else { base };
        let base = NormalPath::parse(rooted)?;
        let text = |path: &str| Box::from(path.trim_end_matches('/'));
        let bases = match base.interpretations() {
            [] => vec![text(base.as_str())],
            interpretations => interpretations.iter().map(|path| text(path)).collect(),
        };
        Some(Self { prefix: text(prefix.as_str()), base: text(base.as_str()), bases })
    }

    /// The path for the upstream of a path in normal form that has the client's prefix; `None` for one that has not.
    pub(super) fn forward(&self, path: &str) -> Option<String> {
        let rest = below(path, &self.prefix)?;
        Some(absolute(&self.base, rest))
    }

    /// What a client would have to request for the upstream to serve an interpretation of a forwarded path. `None` if the interpretation
    /// is not below the base, so that no request of the route may lead to it.
    pub(super) fn requested(&self, interpretation: &str) -> Option<String> {
        let rest = self.bases.iter().find_map(|base| below(interpretation, base))?;
        Some(absolute(&self.prefix, rest))
    }

    /// The client's form of a path that the upstream has sent, which may end in a query and a fragment. `None` if it is not below the
    /// base.
    pub(super) fn back(&self, reference: &str) -> Option<String> {
        let (path, more) = reference.split_at(reference.find(['?', '#']).unwrap_or(reference.len()));
        Some(absolute(&self.prefix, below(path, &self.base)?) + more)
    }
}

/// What follows a prefix of whole segments.
fn below<'p>(path: &'p str, prefix: &str) -> Option<&'p str> {
    path.strip_prefix(prefix).filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn absolute(prefix: &str, rest: &str) -> String {
    if prefix.is_empty() && rest.is_empty() { "/".to_owned() } else { [prefix, rest].concat() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewrite(path_prefix: &str, rewrite: &str) -> Rewrite {
        let config =
            RouteConfig { path_prefix: path_prefix.into(), rewrite: Some(rewrite.into()), ..RouteConfig::default() };
        Rewrite::new(&config).unwrap()
    }

    #[test]
    fn prefix_is_replaced_in_whole_segments() {
        for (prefix, base, path, forwarded) in [
            ("/v1", "/", "/v1", Some("/")),
            ("/v1", "/", "/v1/", Some("/")),
            ("/v1", "/", "/v1/orders/", Some("/orders/")),
            ("/v1", "/", "/v1x", None),
            ("/v1/", "/internal/", "/v1", Some("/internal")),
            ("/v1", "/internal", "/v1/", Some("/internal/")),
            ("/", "/internal", "/", Some("/internal/")),
            ("/", "/internal", "/orders", Some("/internal/orders")),
            ("/a<b", "/c<d", "/a%3Cb/x", Some("/c%3Cd/x")),
        ] {
            assert_eq!(rewrite(prefix, base).forward(path).as_deref(), forwarded, "{prefix} {base} {path}");
        }
    }

    #[test]
    fn interpretations_outside_the_base_belong_to_no_request() {
        let rewrite = rewrite("/v1", "/Internal");
        for (interpretation, requested) in [
            ("/internal", Some("/v1")),
            ("/internal/x", Some("/v1/x")),
            ("/internalx", None),
            ("/", None),
            ("/x", None),
        ] {
            assert_eq!(rewrite.requested(interpretation).as_deref(), requested, "{interpretation}");
        }
    }

    #[test]
    fn paths_of_the_upstream_get_the_prefix_of_the_client() {
        for (prefix, base, reference, back) in [
            ("/v1", "/", "/orders/1?x=/y#z", Some("/v1/orders/1?x=/y#z")),
            ("/v1", "/", "?x", Some("/v1?x")),
            ("/v1", "/internal", "/internal?x", Some("/v1?x")),
            ("/v1", "/internal", "/internal/a", Some("/v1/a")),
            ("/v1", "/internal", "/internals", None),
            ("/v1", "/internal", "/login", None),
            ("/", "/internal", "/internal", Some("/")),
        ] {
            assert_eq!(rewrite(prefix, base).back(reference).as_deref(), back, "{prefix} {base} {reference}");
        }
    }
}
