//! References to the upstream's own address in `Location` and `Content-Location`, mapped to the address that the client uses.

use super::rewrite::Rewrite;
use crate::wire::forwarded::Scheme;

/// What is mapped to what.
#[derive(Debug)]
pub(super) struct AddressMap<'a> {
    /// The scheme that the upstream was reached by.
    pub(super) scheme: Scheme,
    /// The authorities of the upstream: that of its endpoint and the `Host` that it got.
    pub(super) authorities: [&'a str; 2],
    /// The scheme and the host that the client used; no host if it named none.
    pub(super) client: (Scheme, &'a str),
    /// How paths are rewritten.
    pub(super) rewrite: Option<&'a Rewrite>,
}

impl AddressMap<'_> {
    /// The client's form of a reference; `None` if it is the client's already, or not about the upstream's own address.
    ///
    /// A path below another prefix than the one that is rewritten stays as it is.
    pub(super) fn mapped(&self, reference: &str) -> Option<String> {
        let Some(rest) = self.own_path(reference) else {
            let is_absolute_path = reference.starts_with('/') && !reference.starts_with("//");
            return self.rewrite.filter(|_| is_absolute_path)?.back(reference);
        };
        let path = self.rewrite.and_then(|rewrite| rewrite.back(rest)).unwrap_or_else(|| rest.to_owned());
        let (scheme, host) = self.client;
        Some(match host {
            "" if path.starts_with('/') => path,
            "" => ["/", &path].concat(),
            host => [scheme.as_str(), "://", host, &path].concat(),
        })
    }

    /// What follows the authority of a URL of the upstream.
    fn own_path<'r>(&self, reference: &'r str) -> Option<&'r str> {
        let rest = match reference.split_once("//")? {
            ("", rest) => rest,
            (scheme, rest) if scheme.strip_suffix(':')?.eq_ignore_ascii_case(self.scheme.as_str()) => rest,
            _ => return None,
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let authority = self.without_default_port(authority);
        let is_own = |own: &&str| !own.is_empty() && self.without_default_port(own).eq_ignore_ascii_case(authority);
        self.authorities.iter().any(is_own).then_some(path)
    }

    fn without_default_port<'t>(&self, authority: &'t str) -> &'t str {
        let port = if self.scheme == Scheme::Https { ":443" } else { ":80" };
        authority.strip_suffix(port).unwrap_or(authority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RouteConfig;

    fn mapped(reference: &str, host: &str, rewrite: Option<&Rewrite>) -> Option<String> {
        let client = (Scheme::Https, host);
        let authorities = ["10.0.0.1:9000", "orders.internal"];
        AddressMap { scheme: Scheme::Http, authorities, client, rewrite }.mapped(reference)
    }

    #[test]
    fn own_address_becomes_that_of_the_client() {
        for (reference, client) in [
            ("http://10.0.0.1:9000/a?b#c", Some("https://api.example.com/a?b#c")),
            ("HTTP://Orders.Internal:80/a", Some("https://api.example.com/a")),
            ("//orders.internal/a", Some("https://api.example.com/a")),
            ("http://10.0.0.1:9000", Some("https://api.example.com")),
            ("http://10.0.0.1:9000?a", Some("https://api.example.com?a")),
            ("https://orders.internal/a", None),
            ("http://orders.internal:9000/a", None),
            ("http://10.0.0.1/a", None),
            ("http://orders.internal.evil/a", None),
            ("http://u@orders.internal/a", None),
            ("http:///a", None),
            ("/a", None),
            ("a//orders.internal/b", None),
            ("", None),
        ] {
            assert_eq!(mapped(reference, "api.example.com", None).as_deref(), client, "{reference}");
        }
        assert_eq!(mapped("http://orders.internal/a", "", None).as_deref(), Some("/a"));
        assert_eq!(mapped("http://orders.internal?a", "", None).as_deref(), Some("/?a"));
    }

    #[test]
    fn rewritten_paths_are_mapped_back() {
        let config =
            RouteConfig { path_prefix: "/v1".into(), rewrite: Some("/internal".into()), ..RouteConfig::default() };
        let rewrite = Rewrite::new(&config).unwrap();
        for (reference, client) in [
            ("http://orders.internal/internal/a?b", Some("https://api.example.com/v1/a?b")),
            ("http://orders.internal/other", Some("https://api.example.com/other")),
            ("/internal", Some("/v1")),
            ("/internal/a//b", Some("/v1/a//b")),
            ("/other", None),
            ("//evil.example.com/internal", None),
            ("https://evil.example.com/internal", None),
            ("a/b", None),
        ] {
            assert_eq!(mapped(reference, "api.example.com", Some(&rewrite)).as_deref(), client, "{reference}");
        }
    }
}
