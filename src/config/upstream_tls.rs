//! `gateway.upstreams.N.tls`: how the endpoints with `https` are verified, and who Keygate is to them.

use std::net::IpAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::endpoint::is_host_name;
use super::listener::TlsVersion;
use super::problems::Problems;

/// TLS of the endpoints with `https`. Certificates are always verified. The files are watched: a change applies to new connections.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UpstreamTlsConfig {
    /// File with the certificates of the authorities that are trusted (PEM), and no others; if absent, those of the system.
    pub ca_file: Option<PathBuf>,
    /// File with the certificate that Keygate presents, followed by its chain (PEM); none if absent.
    pub certificate_file: Option<PathBuf>,
    /// File with the private key of the certificate (PEM).
    pub key_file: Option<PathBuf>,
    /// The name that Keygate asks for (SNI) and that the certificates of the endpoints must have; if absent, the host of the endpoint.
    pub server_name: Option<String>,
    /// The lowest version of TLS.
    pub min_version: TlsVersion,
}

impl UpstreamTlsConfig {
    pub(super) fn validate(&self, path: &str, problems: &mut Problems) {
        for (name, file) in
            [("ca_file", &self.ca_file), ("certificate_file", &self.certificate_file), ("key_file", &self.key_file)]
        {
            if file.as_ref().is_some_and(|file| file.as_os_str().is_empty()) {
                problems.add(&format!("{path}.{name}"), "must be the path of a file");
            }
        }
        match (&self.certificate_file, &self.key_file) {
            (Some(_), None) => problems.add(&format!("{path}.key_file"), "is required with certificate_file"),
            (None, Some(_)) => problems.add(&format!("{path}.certificate_file"), "is required with key_file"),
            _ => {}
        }
        // Without a name, certificates would not be verified.
        let is_name = |name: &String| name.parse::<IpAddr>().is_ok() || is_host_name(name);
        if self.server_name.as_ref().is_some_and(|name| !is_name(name)) {
            problems.add(&format!("{path}.server_name"), "must be a host name or an IP address, without a port");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let config: UpstreamTlsConfig = serde_saphyr::from_str(text).unwrap();
        let mut problems = Problems::default();
        config.validate("t", &mut problems);
        let errors = problems.result(()).err().map(|errors| errors.0).unwrap_or_default();
        errors.into_iter().map(|error| error.path).collect()
    }

    #[test]
    fn usable_settings_are_accepted() {
        for text in [
            "{}",
            "{ca_file: /ca.crt}",
            "{certificate_file: /a.crt, key_file: /a.key, server_name: orders.internal, min_version: '1.3'}",
            "{server_name: '::1'}",
        ] {
            assert_eq!(problems(text), Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn unusable_settings_are_rejected() {
        for (text, path) in [
            ("{ca_file: ''}", "t.ca_file"),
            ("{certificate_file: a}", "t.key_file"),
            ("{key_file: a}", "t.certificate_file"),
            ("{server_name: ''}", "t.server_name"),
            ("{server_name: 'a:443'}", "t.server_name"),
        ] {
            assert_eq!(problems(text), [path], "{text}");
        }
    }
}
