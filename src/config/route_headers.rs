//! `gateway.routes[].request_headers` and `response_headers`: rules that change fields of forwarded messages.

use std::collections::BTreeMap;

use http::HeaderName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::problems::Problems;
use super::redact;
use super::template::Template;

/// Fields that frame a message, belong to one connection, or select the upstream's resource. No rule can name them.
const PROTECTED: [&str; 13] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// The prefix of the fields that carry the identity of the caller.
const IDENTITY_PREFIX: &str = "x-keygate-";

/// Changes to the fields of forwarded messages, after Keygate's own: first `remove` and `set`, then `add`. Values may have variables such as
/// `${key.id}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HeaderRulesConfig {
    /// Fields that replace all fields of their name. Without a value, because a variable has none, the fields of the name are removed.
    #[serde(serialize_with = "redact::values")]
    pub set: BTreeMap<String, String>,
    /// Fields that are added to those of their name. Without a value, none is added.
    #[serde(serialize_with = "redact::values")]
    pub add: BTreeMap<String, String>,
    /// Names of fields that are removed.
    pub remove: Vec<String>,
}

impl HeaderRulesConfig {
    /// Whether there are no rules.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }

    pub(super) fn validate(&self, path: &str, problems: &mut Problems) {
        for (rules, kind) in [(&self.set, "set"), (&self.add, "add")] {
            for (name, value) in rules {
                let path = format!("{path}.{kind}.{name}");
                check_name(&path, name, problems);
                check_value(&path, value, problems);
            }
        }
        for (index, name) in self.remove.iter().enumerate() {
            let path = format!("{path}.remove.{index}");
            check_name(&path, name, problems);
            if self.set.keys().any(|set| set.eq_ignore_ascii_case(name)) {
                problems.add(&path, "is set as well, which replaces all fields of the name; remove it here");
            }
        }
        let lower = |name: &String| name.to_ascii_lowercase();
        problems.unique(&format!("{path}.remove"), self.remove.iter().map(lower));
        problems.unique(&format!("{path}.set"), self.set.keys().map(lower));
        problems.unique(&format!("{path}.add"), self.add.keys().map(lower));
    }
}

fn check_name(path: &str, name: &str, problems: &mut Problems) {
    if HeaderName::from_bytes(name.as_bytes()).is_err() {
        return problems.add(path, "must be the name of a header");
    }
    // As servers read it that do not distinguish punctuation.
    let folded = name.to_ascii_lowercase().replace(['_', '.'], "-");
    if folded == "host" {
        problems.add(path, "cannot be changed by a rule; use the setting host of the route");
    } else if PROTECTED.contains(&&*folded) {
        problems.add(path, "cannot be changed by a rule: it frames the message or belongs to the connection");
    } else if folded.starts_with(IDENTITY_PREFIX) {
        problems.add(
            path,
            "cannot be changed by a rule: it identifies the caller; use gateway.request_headers, or another name",
        );
    }
}

fn check_value(path: &str, value: &str, problems: &mut Problems) {
    match Template::parse(value) {
        Err(error) => problems.add(path, &error.to_string()),
        Ok(template) => {
            let is_visible = |text: &str| text.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~'));
            if !template.texts().all(is_visible) {
                problems.add(path, "must have visible ASCII characters only; percent-encode others");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::problems::problem_paths;

    fn problems(rules: &serde_json::Value) -> Vec<String> {
        problem_paths(&rules.to_string(), |rules: &HeaderRulesConfig, problems| rules.validate("r", problems))
    }

    #[test]
    fn names_that_frame_a_message_or_tell_the_caller_are_rejected() {
        for name in
            PROTECTED.iter().chain(&["Content_Length", "X-Keygate-Key-Id", "x_keygate.scopes", "a b", "", ":path"])
        {
            assert_eq!(problems(&serde_json::json!({"set": {*name: "x"}})), [format!("r.set.{name}")]);
            assert_eq!(problems(&serde_json::json!({"add": {*name: "x"}})), [format!("r.add.{name}")]);
            assert_eq!(problems(&serde_json::json!({"remove": [name]})), ["r.remove.0"]);
        }
    }

    #[test]
    fn values_are_templates_of_visible_characters() {
        for (value, is_valid) in [
            ("", true),
            ("a b\t${key.id} $${x}", true),
            ("${key.metadata.a b}", true),
            ("${nope}", false),
            ("${", false),
            ("a\r\nb: c", false),
            ("ä", false),
        ] {
            assert_eq!(problems(&serde_json::json!({"set": {"X-A": value}})).is_empty(), is_valid, "{value}");
        }
    }

    #[test]
    fn duplicate_names_are_rejected() {
        let rules =
            serde_json::json!({"set": {"X-A": "1", "x-a": "2"}, "add": {"x-a": "3"}, "remove": ["X-a", "b", "B"]});
        assert_eq!(problems(&rules), ["r.remove.0", "r.remove.2", "r.set.1"]);
    }
}
