//! `serve.http.cors`: calls of the admin API by scripts of other web sites.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::problems::Problems;

/// Calls of the admin API by scripts of other web sites (the CORS protocol of the Fetch standard). Without it, such calls get 403.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CorsConfig {
    /// Whether cross-origin calls are allowed.
    pub enabled: bool,
    /// Allowed origins, for example `https://console.example.com`. `*` is every origin, and only if callers are authenticated. One `*` in
    /// place of the first labels of a name stands for one label or more, as in `https://*.example.com`.
    pub allowed_origins: Vec<String>,
    /// Allowed methods.
    #[schemars(inner(regex(pattern = r"^(GET|HEAD|POST|PUT|DELETE|CONNECT|TRACE|PATCH)$")))]
    pub allowed_methods: Vec<String>,
    /// Allowed request headers; `*` is every header.
    pub allowed_headers: Vec<String>,
    /// Response headers that scripts may read.
    pub exposed_headers: Vec<String>,
    /// Whether credentials of the browser are allowed, such as client certificates. Not with `*` as an origin.
    pub allow_credentials: bool,
    /// How long browsers may cache the answer to a preflight request, in seconds.
    #[schemars(range(max = 4_294_967_295_u32))]
    pub max_age: u32,
    /// Whether decisions are logged.
    pub debug: bool,
}

impl Default for CorsConfig {
    fn default() -> Self {
        let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
        Self {
            enabled: false,
            allowed_origins: texts(&["*"]),
            allowed_methods: texts(&["GET", "POST", "PUT", "PATCH", "DELETE"]),
            allowed_headers: texts(&["Authorization", "Content-Type"]),
            exposed_headers: texts(&["Content-Type"]),
            allow_credentials: false,
            max_age: 0,
            debug: false,
        }
    }
}

impl CorsConfig {
    /// `authenticates` is whether callers of the listener are authenticated.
    pub(super) fn validate(&self, authenticates: bool, problems: &mut Problems) {
        const PATH: &str = "serve.http.cors.allowed_origins";
        problems.unique(PATH, self.allowed_origins.iter());
        for (index, origin) in self.allowed_origins.iter().enumerate() {
            if origin != "*" && !is_origin(origin) {
                problems.add_first(
                    &format!("{PATH}.{index}"),
                    "must be *, or an origin such as https://console.example.com or https://*.example.com",
                );
            }
        }
        for (name, texts) in [("allowed_headers", &self.allowed_headers), ("exposed_headers", &self.exposed_headers)] {
            for (index, text) in texts.iter().enumerate() {
                if text.parse::<http::HeaderName>().is_err() {
                    problems.add(&format!("serve.http.cors.{name}.{index}"), "must be the name of a header");
                }
            }
        }
        if self.enabled && self.allowed_origins.iter().any(|origin| origin == "*") {
            if !authenticates {
                problems
                    .add(PATH, "must not be * while callers are not authenticated: every web page could manage keys");
            } else if self.allow_credentials {
                problems.add(PATH, "must not be * with allow_credentials; name the origins");
            }
        }
    }
}

/// Whether a text is a scheme and a host, with an optional port, in lower case and without a path.
fn is_origin(text: &str) -> bool {
    let Some((scheme, authority)) = text.split_once("://") else { return false };
    let host = authority.strip_prefix("*.").unwrap_or(authority);
    let is_host = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.:[]".contains(&byte);
    ["http", "https"].contains(&scheme) && !host.is_empty() && host.bytes().all(is_host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::problems::problem_paths;

    fn problems(text: &str, authenticates: bool) -> Vec<String> {
        problem_paths(text, |config: &CorsConfig, problems| config.validate(authenticates, problems))
    }

    #[test]
    fn every_origin_needs_authentication_and_no_credentials_of_the_browser() {
        const PATH: &str = "serve.http.cors.allowed_origins";
        assert_eq!(problems("enabled: true", false), [PATH]);
        assert_eq!(problems("enabled: true", true), Vec::<String>::new());
        assert_eq!(problems("{ enabled: true, allow_credentials: true }", true), [PATH]);
        assert_eq!(problems("{ enabled: true, allowed_origins: ['https://a.example'] }", false), Vec::<String>::new());
    }

    #[test]
    fn origins_have_a_scheme_and_no_path() {
        for (origin, is_valid) in [
            ("https://a.example", true),
            ("http://localhost:3000", true),
            ("https://*.example.com", true),
            ("http://[::1]:3000", true),
            ("a.example", false),
            ("https://a.example/", false),
            ("https://A.example", false),
            ("https://a.*.example", false),
            ("https://*example.com", false),
            ("https://*.", false),
            ("null", false),
        ] {
            let found = problems(&format!("allowed_origins: ['{origin}']"), true);
            assert_eq!(found.is_empty(), is_valid, "{origin}: {found:?}");
        }
    }
}
