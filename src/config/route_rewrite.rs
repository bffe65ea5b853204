//! `gateway.routes[]`: `strip_prefix`, `rewrite` and `host`, which change where a request is forwarded to.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::endpoint::parse_endpoint;
use super::problems::Problems;

/// The `Host` that the upstream gets; `:authority` in HTTP/2.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(from = "String", into = "String")]
#[schemars(with = "String")]
pub enum ForwardedHost {
    /// `upstream`: that of the endpoint.
    #[default]
    Upstream,
    /// `preserve`: the one that the client sent; that of the endpoint if it sent none.
    Preserve,
    /// A fixed one.
    Name(String),
}

impl From<String> for ForwardedHost {
    fn from(text: String) -> Self {
        match &*text {
            "upstream" => Self::Upstream,
            "preserve" => Self::Preserve,
            _ => Self::Name(text),
        }
    }
}

impl From<ForwardedHost> for String {
    fn from(host: ForwardedHost) -> Self {
        match host {
            ForwardedHost::Upstream => "upstream".into(),
            ForwardedHost::Preserve => "preserve".into(),
            ForwardedHost::Name(name) => name,
        }
    }
}

impl ForwardedHost {
    pub(super) fn validate(&self, path: &str, problems: &mut Problems) {
        let is_authority = |name: &str| !name.contains('/') && parse_endpoint(&format!("http://{name}")).is_some();
        if let Self::Name(name) = self
            && !is_authority(name)
        {
            problems.add(path, "must be upstream, preserve, or a host with an optional port");
        }
    }
}

/// Whether a path is one that normalization does not change, apart from characters that it encodes.
pub(super) fn is_plain_path(path: &str) -> bool {
    let plain = path.bytes().all(|byte| byte.is_ascii_graphic() && !b"%?#;\\".contains(&byte));
    let dots = path.split('/').any(|segment| segment == "." || segment == "..");
    path.starts_with('/') && !path.contains("//") && !dots && plain
}

/// How a route changes paths.
#[derive(Debug, Clone, Copy)]
pub(super) struct PathRewrite<'c> {
    pub(super) path_prefix: &'c str,
    pub(super) strip_prefix: Option<&'c str>,
    pub(super) rewrite: Option<&'c str>,
}

impl<'c> PathRewrite<'c> {
    /// The path that replaces the prefix, without a slash at its end; empty for the root. `None` if paths are forwarded unchanged.
    pub(super) fn base(&self) -> Option<&'c str> {
        match (self.rewrite, self.strip_prefix) {
            (Some(rewrite), _) => Some(rewrite.trim_end_matches('/')),
            (None, Some(strip)) => without_prefix(self.path_prefix.trim_end_matches('/'), strip),
            (None, None) => None,
        }
    }

    pub(super) fn validate(&self, path: &str, problems: &mut Problems) {
        if self.rewrite.is_some_and(|rewrite| !is_plain_path(rewrite)) {
            problems.add(
                &format!("{path}.rewrite"),
                "must be a plain path such as /internal, without %, ?, #, ;, \\, // or dot segments",
            );
        }
        let Some(strip) = self.strip_prefix else { return };
        let path = format!("{path}.strip_prefix");
        if self.rewrite.is_some() {
            problems.add(&path, "cannot be set together with rewrite; remove one of them");
        }
        let is_leading = without_prefix(self.path_prefix.trim_end_matches('/'), strip).is_some();
        if strip.trim_end_matches('/').is_empty() || !is_plain_path(strip) || !is_leading {
            problems.add(&path, "must be path_prefix or its leading segments, such as /v1 of /v1/orders");
        }
    }
}

/// What follows a prefix of whole segments.
fn without_prefix<'p>(path: &'p str, prefix: &str) -> Option<&'p str> {
    path.strip_prefix(prefix.trim_end_matches('/')).filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(
        path_prefix: &'static str,
        strip_prefix: Option<&'static str>,
        rewrite: Option<&'static str>,
    ) -> PathRewrite<'static> {
        PathRewrite { path_prefix, strip_prefix, rewrite }
    }

    fn paths(problems: Problems) -> Vec<String> {
        problems.result(()).err().into_iter().flat_map(|errors| errors.0).map(|error| error.path).collect()
    }

    fn problems(route: PathRewrite<'_>) -> Vec<String> {
        let mut problems = Problems::default();
        route.validate("r", &mut problems);
        paths(problems)
    }

    #[test]
    fn prefix_is_stripped_or_replaced() {
        for (path_prefix, strip, rewrite, base) in [
            ("/v1", Some("/v1"), None, Some("")),
            ("/v1/", Some("/v1"), None, Some("")),
            ("/v1", Some("/v1/"), None, Some("")),
            ("/v1/orders", Some("/v1"), None, Some("/orders")),
            ("/v1/orders/", Some("/v1"), None, Some("/orders")),
            ("/v1", None, Some("/internal/"), Some("/internal")),
            ("/v1", None, Some("/"), Some("")),
            ("/", None, Some("/internal"), Some("/internal")),
            ("/v1", None, None, None),
        ] {
            let route = route(path_prefix, strip, rewrite);
            assert_eq!((problems(route), route.base()), (Vec::new(), base), "{route:?}");
        }
    }

    #[test]
    fn unusable_rewriting_is_reported() {
        for (route, path) in [
            (route("/v1", Some("/v2"), None), "r.strip_prefix"),
            (route("/v1x", Some("/v1"), None), "r.strip_prefix"),
            (route("/v1", Some("/v1/orders"), None), "r.strip_prefix"),
            (route("/v1", Some("/"), None), "r.strip_prefix"),
            (route("/v1", Some(""), None), "r.strip_prefix"),
            (route("/v1", Some("/v1"), Some("/x")), "r.strip_prefix"),
            (route("/v1", None, Some("internal")), "r.rewrite"),
            (route("/v1", None, Some("/a/../b")), "r.rewrite"),
            (route("/v1", None, Some("/a%2fb")), "r.rewrite"),
        ] {
            assert_eq!(problems(route), [path], "{route:?}");
        }
    }

    #[test]
    fn host_is_a_keyword_or_a_name() {
        for (text, is_valid) in [
            ("upstream", true),
            ("preserve", true),
            ("orders.internal", true),
            ("orders.internal:8080", true),
            ("[::1]:80", true),
            ("", false),
            ("a b", false),
            ("a/b", false),
            ("http://a", false),
            ("a:99999", false),
            ("u@a", false),
        ] {
            let mut problems = Problems::default();
            ForwardedHost::from(text.to_owned()).validate("r.host", &mut problems);
            assert_eq!(paths(problems).is_empty(), is_valid, "{text}");
        }
    }
}
