//! `serve.http.auth`: who may call the admin API.

use std::path::PathBuf;

use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::problems::Problems;
use super::redact;
use crate::id::KeyId;

/// The shortest bootstrap key, in characters.
pub(crate) const BOOTSTRAP_KEY_MIN: usize = 32;

/// Who may call the admin API.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AdminAuthConfig {
    /// Whether callers are authenticated. Default: `none` on a loopback address and on a Unix socket, unless `bootstrap_key`,
    /// `bootstrap_key_file` or `certificates` is set; `keys` everywhere else.
    pub mode: Option<AdminAuthMode>,
    /// A key with every role, for the first calls of an installation; 32 characters or more. A warning is logged at each start.
    #[schemars(with = "Option<String>", length(min = 32))]
    #[serde(serialize_with = "redact::secret")]
    pub bootstrap_key: Option<SecretString>,
    /// Path of a file with the bootstrap key. The file is read again when it changes.
    pub bootstrap_key_file: Option<PathBuf>,
    /// Client certificates that stand for an admin key. Needs `serve.http.tls.client_certificates`.
    pub certificates: Vec<AdminCertificateConfig>,
}

/// Whether callers of the admin API are authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AdminAuthMode {
    /// By admin keys.
    Keys,
    /// They are not. Only on a loopback address and on a Unix socket.
    None,
}

/// A client certificate that stands for an admin key.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdminCertificateConfig {
    /// A subject alternative name of the certificate with its type, for example `DNS:deploy.example.com` or `URI:spiffe://example/deploy`.
    pub san: String,
    /// The id of the admin key, which may be revoked and expires as always.
    pub key_id: String,
}

impl AdminCertificateConfig {
    /// The id of the admin key; `None` if it is not one.
    pub fn key(&self) -> Option<KeyId> {
        KeyId::parse_issued(&self.key_id)
    }
}

impl AdminAuthConfig {
    /// Whether a bootstrap key is configured.
    pub fn has_bootstrap_key(&self) -> bool {
        self.bootstrap_key.is_some() || self.bootstrap_key_file.is_some()
    }

    /// The mode of a listener; `is_local` is whether it is a loopback address or a Unix socket.
    pub(super) fn effective_mode(&self, is_local: bool) -> AdminAuthMode {
        let is_configured = self.has_bootstrap_key() || !self.certificates.is_empty();
        let default = if is_local && !is_configured { AdminAuthMode::None } else { AdminAuthMode::Keys };
        self.mode.unwrap_or(default)
    }

    pub(super) fn validate(&self, has_client_certificates: bool, problems: &mut Problems) {
        if self.bootstrap_key.is_some() && self.bootstrap_key_file.is_some() {
            problems
                .add("serve.http.auth.bootstrap_key_file", "must not be set with bootstrap_key; remove one of them");
        }
        if self.bootstrap_key.as_ref().is_some_and(|key| key.expose_secret().chars().count() < BOOTSTRAP_KEY_MIN) {
            problems.add(
                "serve.http.auth.bootstrap_key",
                "must have 32 characters or more; `openssl rand -hex 32` makes a good one",
            );
        }
        if self.mode == Some(AdminAuthMode::None) && (self.has_bootstrap_key() || !self.certificates.is_empty()) {
            problems.add("serve.http.auth.mode", "must not be none with a bootstrap key or certificates; use keys");
        }
        if !self.certificates.is_empty() && !has_client_certificates {
            problems.add("serve.http.auth.certificates", "needs serve.http.tls.client_certificates");
        }
        for (index, certificate) in self.certificates.iter().enumerate() {
            let path = format!("serve.http.auth.certificates.{index}");
            if certificate.key().is_none() {
                problems.add(&format!("{path}.key_id"), "must be the id of an admin key, a UUID in lower case");
            }
            if !["DNS:", "URI:", "EMAIL:", "IP:"].iter().any(|kind| certificate.san.starts_with(kind)) {
                problems.add(&format!("{path}.san"), "must begin with DNS:, URI:, EMAIL: or IP:");
            }
        }
        problems.unique("serve.http.auth.certificates", self.certificates.iter().map(|certificate| &certificate.san));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::problems::problem_paths;

    const ID: &str = "11111111-2222-4333-8444-555555555555";

    fn problems(text: &str, has_client_certificates: bool) -> Vec<String> {
        problem_paths(text, |config: &AdminAuthConfig, problems| config.validate(has_client_certificates, problems))
    }

    #[test]
    fn mode_is_keys_unless_the_listener_is_local_and_no_key_is_configured() {
        let mode =
            |text: &str, is_local| serde_saphyr::from_str::<AdminAuthConfig>(text).unwrap().effective_mode(is_local);
        let key = format!("bootstrap_key: {}", "k".repeat(32));
        for (text, is_local, expected) in [
            ("{}", true, AdminAuthMode::None),
            ("{}", false, AdminAuthMode::Keys),
            (&*key, true, AdminAuthMode::Keys),
            ("bootstrap_key_file: /run/key", true, AdminAuthMode::Keys),
            ("mode: keys", true, AdminAuthMode::Keys),
            ("mode: none", true, AdminAuthMode::None),
        ] {
            assert_eq!(mode(text, is_local), expected, "{text}");
        }
    }

    #[test]
    fn unusable_settings_are_rejected() {
        let certificate = |san: &str, id: &str| format!("certificates: [{{ san: '{san}', key_id: '{id}' }}]");
        for (text, path) in [
            ("bootstrap_key: short".to_owned(), "serve.http.auth.bootstrap_key"),
            (format!("{{ mode: none, bootstrap_key: {} }}", "k".repeat(32)), "serve.http.auth.mode"),
            (
                format!("{{ bootstrap_key: {}, bootstrap_key_file: a }}", "k".repeat(32)),
                "serve.http.auth.bootstrap_key_file",
            ),
            (certificate("deploy", ID), "serve.http.auth.certificates.0.san"),
            (certificate("DNS:deploy", "1"), "serve.http.auth.certificates.0.key_id"),
        ] {
            assert_eq!(problems(&text, true), [path], "{text}");
        }
        assert_eq!(problems(&certificate("DNS:deploy", ID), true), Vec::<String>::new());
        assert_eq!(problems(&certificate("DNS:deploy", ID), false), ["serve.http.auth.certificates"]);
    }
}
