//! `gateway.routes[].cors`: which pages of other origins may call a route (Fetch standard, section 3.2).

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::problems::Problems;
use crate::duration::ConfigDuration;

/// The longest time for which a browser may keep the response to a preflight. No browser keeps it longer.
const MAX_AGE_MAX: Duration = Duration::from_secs(24 * 60 * 60);
const SAFELISTED: [&str; 3] = ["GET", "HEAD", "POST"];

/// Which pages of other origins may call a route.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteCorsConfig {
    /// The origins, each as a browser writes it, for example `https://app.example.com`. `https://*.example.com` stands for one or more
    /// labels in front of `.example.com`; `*` for all origins; `null` for pages without one, such as local files.
    #[schemars(length(min = 1), inner(length(min = 1, max = 300)))]
    pub origins: Vec<String>,
    /// The methods; if empty, those of the route, or the usual ones if the route has none.
    #[serde(default)]
    pub methods: Vec<String>,
    /// The request headers that pages may send, besides those that carry the credential; `*` for all.
    #[serde(default = "content_type")]
    pub headers: Vec<String>,
    /// The response headers that pages may read, besides those that Keygate sets and those that every page may read.
    #[serde(default)]
    pub expose_headers: Vec<String>,
    /// Whether browsers send cookies and `Authorization: Basic`, and whether these are accepted in writes of the origins.
    #[serde(default)]
    pub credentials: bool,
    /// How long browsers may keep the response to a preflight.
    #[serde(default = "max_age")]
    pub max_age: ConfigDuration,
}

/// An origin, or a group of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OriginPattern {
    /// Every origin.
    Any,
    /// This text.
    Exact(String),
    /// A scheme with `://`, one or more labels, and the rest of the host with its port. The rest begins with a dot.
    Subdomains {
        /// The scheme with `://`.
        scheme: String,
        /// The rest.
        suffix: String,
    },
}

fn content_type() -> Vec<String> {
    vec!["Content-Type".into()]
}

fn max_age() -> ConfigDuration {
    ConfigDuration(Duration::from_secs(600))
}

impl OriginPattern {
    /// Reads an entry of `origins`. `None` if no browser writes an origin like that, or the wildcard is not bounded.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "*" => return Some(Self::Any),
            "null" => return Some(Self::Exact(text.to_owned())),
            _ => {}
        }
        let (scheme, authority) = text.split_once("://")?;
        let is_scheme = scheme.starts_with(|first: char| first.is_ascii_lowercase())
            && scheme.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port)),
            _ => (authority, None),
        };
        let default_port = match scheme {
            "http" => "80",
            "https" => "443",
            _ => "",
        };
        let is_port =
            |port: &str| port != default_port && port.parse::<u16>().is_ok_and(|number| number.to_string() == port);
        if !is_scheme || !port.is_none_or(is_port) {
            return None;
        }
        match host.strip_prefix("*.") {
            // A single label, as in https://*.com, is no bound.
            Some(domain) => (is_host(domain) && domain.contains('.'))
                .then(|| Self::Subdomains { scheme: format!("{scheme}://"), suffix: authority[1..].to_owned() }),
            None => (is_host(host) || is_ipv6(host)).then(|| Self::Exact(text.to_owned())),
        }
    }

    /// Whether the value of an `Origin` field matches.
    pub fn matches(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(text) => text == origin,
            Self::Subdomains { scheme, suffix } => {
                let labels = origin.strip_prefix(scheme.as_str()).and_then(|host| host.strip_suffix(suffix.as_str()));
                labels.is_some_and(is_host)
            }
        }
    }
}

/// Whether the text consists of whole labels in lower case.
fn is_host(text: &str) -> bool {
    let is_label = |label: &str| {
        let is_legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
        !label.is_empty() && label.bytes().all(is_legal)
    };
    text.split('.').all(is_label)
}

fn is_ipv6(text: &str) -> bool {
    let address = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    address.is_some_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok_and(|address| address.to_string() == text))
}

impl RouteCorsConfig {
    pub(super) fn validate(&self, path: &str, route_methods: &[String], problems: &mut Problems) {
        if self.origins.is_empty() {
            problems.add(&format!("{path}.origins"), "must have at least one entry");
        }
        for (index, origin) in self.origins.iter().enumerate() {
            let setting = format!("{path}.origins.{index}");
            match OriginPattern::parse(origin) {
                None => problems.add(
                    &setting,
                    "must be an origin as browsers write it, such as https://app.example.com: in lower case, without a path and without \
                     the default port; or https://*.example.com, *, or null",
                ),
                Some(OriginPattern::Any) if self.credentials => problems.add(
                    &setting,
                    "cannot be * with `credentials: true`: browsers refuse it; list the origins",
                ),
                Some(_) => {}
            }
        }
        for (index, method) in self.methods.iter().enumerate() {
            let setting = format!("{path}.methods.{index}");
            if http::Method::from_bytes(method.as_bytes()).is_err() || method.bytes().any(|b| b.is_ascii_lowercase()) {
                problems.add(&setting, "must be a method in upper case, such as GET");
            } else if !route_methods.is_empty() && !route_methods.contains(method) {
                problems.add(
                    &setting,
                    "is not a method of this route; preflights for it are answered by the route that has it",
                );
            }
        }
        for (name, headers, all) in
            [("headers", &self.headers, true), ("expose_headers", &self.expose_headers, !self.credentials)]
        {
            for (index, header) in headers.iter().enumerate() {
                let setting = format!("{path}.{name}.{index}");
                if header == "*" && !all {
                    problems.add(
                        &setting,
                        "cannot be * with `credentials: true`: browsers read it as a name; list the headers",
                    );
                } else if header.parse::<http::HeaderName>().is_err() {
                    problems.add(&setting, "must be the name of a header");
                }
            }
            problems.unique(&format!("{path}.{name}"), headers.iter().map(|header| header.to_ascii_lowercase()));
        }
        problems.unique(&format!("{path}.origins"), self.origins.iter());
        problems.unique(&format!("{path}.methods"), self.methods.iter());
        if self.max_age.0 > MAX_AGE_MAX {
            problems.add(&format!("{path}.max_age"), "must be 24h or less; browsers keep no response longer");
        }
    }

    /// The methods that pages may use, for a route with these methods.
    pub fn effective_methods(&self, route_methods: &[String]) -> Vec<String> {
        if !self.methods.is_empty() {
            return self.methods.clone();
        }
        if !route_methods.is_empty() {
            return route_methods.to_vec();
        }
        SAFELISTED.into_iter().chain(["PUT", "PATCH", "DELETE"]).map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let config: RouteCorsConfig = serde_saphyr::from_str(text).unwrap();
        let mut problems = Problems::default();
        config.validate("c", &["GET".into(), "POST".into()], &mut problems);
        let errors = problems.result(()).err().map(|errors| errors.0).unwrap_or_default();
        errors.into_iter().map(|error| error.path).collect()
    }

    #[test]
    fn usable_settings_are_accepted() {
        for text in [
            "{origins: ['*']}",
            "{origins: ['*'], headers: ['*'], expose_headers: ['*'], max_age: 0s}",
            "{origins: ['https://app.example.com', 'http://localhost:3000', 'null'], methods: [POST], credentials: true, headers: ['*']}",
            "{origins: ['https://*.example.com', 'http://[::1]:8080', 'capacitor://localhost'], max_age: 24h}",
        ] {
            assert_eq!(problems(text), Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn unusable_settings_are_rejected() {
        for (text, path) in [
            ("{origins: []}", "c.origins"),
            ("{origins: ['*'], credentials: true}", "c.origins.0"),
            ("{origins: [a, 'https://a']}", "c.origins.0"),
            ("{origins: ['https://a', 'https://a']}", "c.origins.1"),
            ("{origins: ['https://a'], methods: [get]}", "c.methods.0"),
            ("{origins: ['https://a'], methods: [PUT]}", "c.methods.0"),
            ("{origins: ['https://a'], headers: ['a b']}", "c.headers.0"),
            ("{origins: ['https://a'], expose_headers: ['*'], credentials: true}", "c.expose_headers.0"),
            ("{origins: ['https://a'], max_age: 25h}", "c.max_age"),
        ] {
            assert_eq!(problems(text), [path], "{text}");
        }
    }

    #[test]
    fn origins_that_no_browser_writes_are_rejected() {
        for text in [
            "",
            "example.com",
            "https://",
            "https://example.com/",
            "https://example.com/a",
            "https://Example.com",
            "HTTPS://example.com",
            "https://example.com:443",
            "http://example.com:80",
            "https://example.com:",
            "https://example.com:0443",
            "https://example.com:99999",
            "https://u@example.com",
            "https://*",
            "https://*.com",
            "https://*example.com",
            "https://a.*.example.com",
            "https://*.*.example.com",
            "https://*.example.com/",
            "*.example.com",
            "*://example.com",
            "https://[::01]",
            "https://é.example.com",
        ] {
            assert_eq!(OriginPattern::parse(text), None, "{text}");
        }
    }

    #[test]
    fn wildcard_stands_for_whole_labels() {
        let pattern = OriginPattern::parse("https://*.example.com").unwrap();
        for origin in ["https://a.example.com", "https://a.b-c.example.com"] {
            assert!(pattern.matches(origin), "{origin}");
        }
        for origin in [
            "https://example.com",
            "https://.example.com",
            "https://evilexample.com",
            "https://a..example.com",
            "http://a.example.com",
            "https://a.example.com:8443",
            "https://a.example.com.evil.example",
            "https://evil.example/.example.com",
            "https://evil.example:1.example.com",
            "https://evil.example@a.example.com",
            "https://evil.example#.example.com",
            "https://a.example.com ",
            "https://A.example.com",
            "xhttps://a.example.com",
        ] {
            assert!(!pattern.matches(origin), "{origin}");
        }
        let with_port = OriginPattern::parse("http://*.example.com:8080").unwrap();
        assert!(with_port.matches("http://a.example.com:8080") && !with_port.matches("http://a.example.com"));
        let null = OriginPattern::parse("null").unwrap();
        assert!(null.matches("null") && !null.matches("https://null"));
        assert!(OriginPattern::Any.matches("null"));
    }
}
