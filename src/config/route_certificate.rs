//! `gateway.routes[].client_certificate`: what the certificate of a client must be.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::problems::Problems;

/// What the certificate of a client must be: one of the subjects, or one with one of the alternative names; any verified certificate if
/// both are empty. Other requests are answered with 403.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RouteCertificateConfig {
    /// Subjects (RFC 4514), as `openssl x509 -subject -nameopt RFC2253` prints them, for example `CN=reports,O=Example`. Compared exactly.
    #[schemars(inner(length(min = 1)))]
    pub subjects: Vec<String>,
    /// Alternative names, each with its type: `DNS:` in lower case, `URI:`, `EMAIL:` or `IP:`. Compared exactly.
    pub sans: Vec<String>,
}

impl RouteCertificateConfig {
    pub(super) fn validate(&self, path: &str, problems: &mut Problems) {
        for (index, name) in self.sans.iter().enumerate() {
            let is_usable = match name.split_once(':') {
                Some(("DNS", name)) => !name.is_empty() && !name.bytes().any(|byte| byte.is_ascii_uppercase()),
                Some(("IP", address)) => address.parse::<IpAddr>().is_ok_and(|ip| ip.to_string() == address),
                Some(("URI" | "EMAIL", name)) => !name.is_empty(),
                _ => false,
            };
            if !is_usable {
                problems.add(
                    &format!("{path}.sans.{index}"),
                    "must be DNS: and a name in lower case, URI: and a URI, EMAIL: and an address, or IP: and an address in its shortest form",
                );
            }
        }
        problems.unique(&format!("{path}.subjects"), self.subjects.iter());
        problems.unique(&format!("{path}.sans"), self.sans.iter());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::problems::problem_paths;

    fn problems(text: &str) -> Vec<String> {
        problem_paths(text, |config: &RouteCertificateConfig, problems| config.validate("c", problems))
    }

    #[test]
    fn usable_names_are_accepted() {
        for text in [
            "{}",
            "{ subjects: ['CN=reports,O=Example'] }",
            "{ sans: ['DNS:a.example.com', 'URI:spiffe://Example/a', 'EMAIL:Ana@example.com', 'IP:192.0.2.1', 'IP:2001:db8::1'] }",
        ] {
            assert_eq!(problems(text), Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn names_that_no_certificate_can_have_are_rejected() {
        for name in ["a.example.com", "DNS:A.example.com", "DNS:", "dns:a", "IP:192.0.2", "IP:2001:0db8::1", "UPN:ana"]
        {
            assert_eq!(problems(&format!("{{ sans: ['URI:a', '{name}'] }}")), ["c.sans.1"], "{name}");
        }
        assert_eq!(problems("{ subjects: [CN=a, CN=a] }"), ["c.subjects.1"]);
    }
}
