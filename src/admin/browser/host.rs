//! The names that a request may have in `Host` while callers are not authenticated. A web page can point a name of its own to this
//! listener (DNS rebinding), but it cannot choose an IP address or `localhost` for its origin.

use std::net::IpAddr;

use http::HeaderMap;
use http::header::HOST;
use http::uri::{Authority, Uri};

/// The allowed names besides IP addresses, `localhost` and names below it.
#[derive(Debug, Clone, Default)]
pub struct AllowedHosts(Box<[Box<str>]>);

impl AllowedHosts {
    /// Names in lower case, without ports.
    pub fn new<T: Into<Box<str>>>(names: impl IntoIterator<Item = T>) -> Self {
        Self(names.into_iter().map(Into::into).collect())
    }

    /// Whether all names that a request has in its target and its `Host` are allowed. A request without any is not from a browser.
    pub(super) fn allow(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        let fields = headers.get_all(HOST).iter().map(|value| value.to_str().ok().and_then(|text| text.parse().ok()));
        let mut authorities = uri.authority().cloned().map(Some).into_iter().chain(fields);
        authorities.all(|authority: Option<Authority>| authority.is_some_and(|authority| self.allows(authority.host())))
    }

    fn allows(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        let name = host.strip_suffix('.').unwrap_or(&host);
        let literal = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        literal.parse::<IpAddr>().is_ok()
            || name == "localhost"
            || name.ends_with(".localhost")
            || self.0.iter().any(|allowed| **allowed == *name)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn allow(target: &str, hosts: &[&str]) -> bool {
        let headers = hosts.iter().map(|host| (HOST, HeaderValue::from_str(host).unwrap())).collect();
        AllowedHosts::new(["keygate.internal"]).allow(&target.parse().unwrap(), &headers)
    }

    #[test]
    fn addresses_loopback_names_and_configured_names_are_allowed() {
        for host in [
            "127.0.0.1:4420",
            "10.1.2.3",
            "[::1]:4420",
            "[2001:db8::1]",
            "localhost",
            "LOCALHOST:4420",
            "localhost.",
            "a.localhost",
            "keygate.internal:4420",
            "Keygate.Internal",
        ] {
            assert!(allow("/", &[host]), "{host}");
        }
        assert!(allow("/", &[]) && allow("http://127.0.0.1/", &["localhost"]));
    }

    #[test]
    fn other_names_are_not_allowed() {
        for host in [
            "evil.example",
            "evil.example:4420",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "keygate.internal.evil.example",
            "xlocalhost",
            "",
            "a b",
        ] {
            assert!(!allow("/", &[host]), "{host}");
        }
        assert!(!allow("/", &["localhost", "evil.example"]) && !allow("http://evil.example/", &["localhost"]));
    }
}
