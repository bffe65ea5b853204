//! `external_auth`: the listener for checks of other proxies.

use std::net::SocketAddr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::listener::validate_ranges;
use super::problems::Problems;
use crate::cidr::CidrSet;
use crate::duration::ConfigDuration;

/// External authorization for other proxies, such as nginx and Envoy. Routes, scopes, limits and the selection of headers are those of
/// `gateway`.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ExternalAuthConfig {
    /// `ip:port` to listen on; `null` for none.
    pub address: Option<String>,
    /// Path of a Unix socket to listen on, with mode 0660. Its peers are always trusted. A socket that an earlier process left is replaced.
    pub socket: Option<String>,
    /// Address ranges of the proxies that may send checks. Their description of a request is trusted; other peers get 403.
    pub trusted_peers: Vec<String>,
    /// Number of worker threads; 0 for one per core.
    #[schemars(range(max = 1024))]
    pub threads: usize,
    /// How long active requests may run after a stop signal.
    pub shutdown_grace: ConfigDuration,
}

impl Default for ExternalAuthConfig {
    fn default() -> Self {
        Self {
            address: Some("127.0.0.1:8081".into()),
            socket: None,
            trusted_peers: vec!["127.0.0.0/8".into(), "::1/128".into()],
            threads: 0,
            shutdown_grace: ConfigDuration(Duration::from_secs(30)),
        }
    }
}

impl ExternalAuthConfig {
    /// The ranges of trusted peers. Ranges that are not valid contain no address.
    pub fn trusted(&self) -> CidrSet {
        CidrSet::parse(&self.trusted_peers).unwrap_or_default()
    }

    pub(super) fn validate(&self, has_routes: bool, problems: &mut Problems) {
        if !has_routes {
            problems.add(
                "external_auth",
                "needs the section gateway, whose routes it checks; `gateway.enabled: false` starts no proxy",
            );
        }
        match &self.address {
            Some(address) if address.parse::<SocketAddr>().is_err() => problems
                .add("external_auth.address", "must be an IP address and a port, for example 127.0.0.1:8081, or null"),
            None if self.socket.is_none() => {
                problems.add("external_auth.address", "must be set, or external_auth.socket, or both");
            }
            _ => {}
        }
        if self.socket.as_ref().is_some_and(String::is_empty) {
            problems.add("external_auth.socket", "must be the path of a socket, for example /run/keygate/auth.sock");
        }
        if self.address.is_some() && self.trusted_peers.is_empty() {
            problems.add("external_auth.trusted_peers", "must have at least one entry, because an address is set");
        }
        validate_ranges("external_auth.trusted_peers", &self.trusted_peers, problems);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::problems::problem_paths;

    fn problems(text: &str, has_routes: bool) -> Vec<String> {
        problem_paths(text, |config: &ExternalAuthConfig, problems| config.validate(has_routes, problems))
    }

    #[test]
    fn loopback_is_trusted_by_default() {
        let trusted = ExternalAuthConfig::default().trusted();
        for (peer, is_trusted) in
            [("127.0.0.1", true), ("::1", true), ("::ffff:127.0.0.1", true), ("10.0.0.1", false), ("::2", false)]
        {
            assert_eq!(trusted.contains(peer.parse().unwrap()), is_trusted, "{peer}");
        }
    }

    #[test]
    fn unusable_settings_are_rejected() {
        for (text, path) in [
            ("address: localhost:8081", "external_auth.address"),
            ("address: null", "external_auth.address"),
            ("socket: ''", "external_auth.socket"),
            ("trusted_peers: []", "external_auth.trusted_peers"),
            ("trusted_peers: [10.0.0.1]", "external_auth.trusted_peers.0"),
            ("trusted_peers: [10.0.0.0/8, 10.0.0.0/8]", "external_auth.trusted_peers.1"),
        ] {
            assert_eq!(problems(text, true), [path], "{text}");
        }
        assert_eq!(problems("threads: 1", false), ["external_auth"]);
        for text in ["threads: 1", "{ address: null, socket: /run/a.sock, trusted_peers: [] }"] {
            assert_eq!(problems(text, true), Vec::<String>::new(), "{text}");
        }
    }
}
