//! `gateway.routes.N.redirect` and `respond`: responses that the route makes itself.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::problems::Problems;
use super::template::{Template, TemplatePart, Variable};

/// The statuses of a redirect.
const REDIRECTS: [u16; 5] = [301, 302, 303, 307, 308];
/// The statuses of responses without a body.
const BODILESS: [u16; 3] = [204, 205, 304];
/// The longest body in bytes.
const BODY_MAX: usize = 64 * 1024;

/// A redirect.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RedirectConfig {
    /// The URL, with variables such as `${request.path}` and `${request.query}`. It begins with `https://`, `http://`, `/` or
    /// `${request.path}`.
    #[schemars(length(min = 1, max = 8192))]
    pub to: String,
    /// The status: 301, 302, 303, 307 or 308. With 307 and 308 the client repeats the method and the body.
    #[serde(default = "permanent")]
    pub status: u16,
}

/// A fixed response.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RespondConfig {
    /// The status.
    #[serde(default = "ok")]
    #[schemars(range(min = 200, max = 599))]
    pub status: u16,
    /// The body.
    #[serde(default)]
    pub body: String,
    /// The type of the body.
    #[serde(default = "plain_text")]
    pub content_type: String,
}

fn permanent() -> u16 {
    308
}

fn ok() -> u16 {
    200
}

fn plain_text() -> String {
    "text/plain; charset=utf-8".into()
}

impl RedirectConfig {
    pub(super) fn validate(&self, path: &str, problems: &mut Problems) {
        if !REDIRECTS.contains(&self.status) {
            problems.add(&format!("{path}.status"), "must be 301, 302, 303, 307 or 308");
        }
        let to = format!("{path}.to");
        let template = match Template::parse(&self.to) {
            Ok(template) => template,
            Err(error) => return problems.add(&to, &error.to_string()),
        };
        if !begins_at_a_known_place(&template) {
            problems.add(
                &to,
                "must begin with https:// or http:// and a host, with one /, or with ${request.path}: a client must not choose the host",
            );
        }
        let is_url = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte));
        if !template.texts().all(is_url) {
            problems.add_first(&to, "must be a URL; percent-encode other characters");
        }
    }
}

/// Whether the beginning of a URL leaves no doubt about where it leads: `//` in front of a name would be another host.
fn begins_at_a_known_place(template: &Template) -> bool {
    let [first, rest @ ..] = template.parts() else { return false };
    match (first, rest.first()) {
        (TemplatePart::Variable(Variable::RequestPath), _) => true,
        (TemplatePart::Text(text), next) => match (text.strip_prefix('/'), next) {
            (Some(""), Some(TemplatePart::Variable(Variable::RequestPath))) => false,
            (Some(path), _) => !path.starts_with(['/', '\\']),
            (None, next) => {
                let host = ["https://", "http://"].iter().find_map(|scheme| text.strip_prefix(scheme));
                let is_host = |host: &str| !host.is_empty() && !host.starts_with(['/', '?', '#', '\\', ':', '@']);
                let is_named = matches!(next, Some(TemplatePart::Variable(Variable::RequestHost)));
                host.is_some_and(|host| is_host(host) || (host.is_empty() && is_named))
            }
        },
        _ => false,
    }
}

impl RespondConfig {
    pub(super) fn validate(&self, path: &str, problems: &mut Problems) {
        if BODILESS.contains(&self.status) && !self.body.is_empty() {
            problems.add(&format!("{path}.body"), "must be empty: a response with this status has no body");
        }
        if self.body.len() > BODY_MAX {
            problems.add(&format!("{path}.body"), "must have 65536 bytes or fewer; serve larger ones by an upstream");
        }
        if self.content_type.is_empty() || !self.content_type.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            problems.add(&format!("{path}.content_type"), "must be a media type such as text/plain");
        }
    }

    /// Whether a response with this status has a body.
    pub fn has_body(&self) -> bool {
        !BODILESS.contains(&self.status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::problems::problem_paths;

    fn problems(to: &str, status: u16) -> Vec<String> {
        let redirect = serde_json::json!({ "to": to, "status": status }).to_string();
        problem_paths(&redirect, |redirect: &RedirectConfig, problems| redirect.validate("r", problems))
    }

    #[test]
    fn redirects_to_known_places_are_allowed() {
        for to in [
            "https://new.example.com${request.path}${request.query}",
            "http://new.example.com:8080/",
            "https://${request.host}${request.path}",
            "/new",
            "/",
            "/${key.actor}",
            "${request.path}/",
        ] {
            assert_eq!(problems(to, 308), [""; 0], "{to}");
        }
    }

    #[test]
    fn redirects_to_places_that_a_client_chooses_are_rejected() {
        for to in [
            "",
            "//evil",
            "/\\evil",
            "/${request.path}",
            "${request.host}",
            "${key.actor}/x",
            "https://",
            "https:///x",
            "https://${request.path}",
            "https://${key.actor}",
            "ftp://x",
            "javascript:alert(1)",
            "new.example.com",
            "https://a b",
            "https://ä",
            "https://a/${nope}",
        ] {
            assert_eq!(problems(to, 301), ["r.to"], "{to}");
        }
        assert_eq!(problems("/a", 304), ["r.status"]);
    }
}
