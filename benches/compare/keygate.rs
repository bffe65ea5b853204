//! Starts Keygate: the `keygate` binary with a configuration file and a SQLite database.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use reqwest::Client;
use serde_json::{Value, json};
use tokio::runtime::Builder;

use crate::machine::Cores;
use crate::server::Server;
use crate::settings::Settings;
use crate::support::keygate::{HMAC_SECRET, merge};
use keygate_test_servers::free_port;

/// The `credentials.issuer` setting.
pub(crate) const ISSUER: &str = "https://keys.example.com";

/// The lifetime of cached keys: long enough that none expires during a measurement.
pub(crate) const CACHE_TTL: &str = "24h";

/// The request headers that are set for the upstream, equivalent to those of the other gateways.
const PEER_HEADERS: [&str; 3] = ["x-keygate-actor-id", "x-request-id", "x-forwarded-for"];

/// The configuration of a Keygate node.
pub(crate) struct NodeConfig<'a> {
    pub(crate) name: &'a str,
    /// The folder that contains the database, and to which the configuration file is written.
    pub(crate) folder: &'a Path,
    /// The `gateway` section.
    pub(crate) gateway: Value,
    /// Sections that replace those of the default configuration or are added to it.
    pub(crate) sections: Value,
    /// Settings of the gateway's listener besides its address.
    pub(crate) listener: Value,
    pub(crate) workers: usize,
}

/// A running Keygate.
pub(crate) struct Keygate {
    pub(crate) server: Server,
    /// The base URL of the admin API.
    admin: String,
}

/// The path of a node's database in its folder.
pub(crate) fn database(folder: &Path) -> PathBuf {
    folder.join("keys.db")
}

/// A `gateway` section with one route, which requires the scope, to one upstream. `limits` are names of limits.
pub(crate) fn gateway(upstream: &str, limits: &[&str]) -> Value {
    json!({
        "routes": [{
            "name": "api", "path_prefix": "/", "upstream": "api", "scopes": [crate::keys::SCOPE], "limits": limits,
        }],
        "upstreams": upstreams(upstream),
        "limits": ample_limit(),
        "request_headers": PEER_HEADERS,
    })
}

/// The `gateway.upstreams` setting with one endpoint.
pub(crate) fn upstreams(upstream: &str) -> Value {
    json!({"api": {"endpoints": [format!("http://{upstream}")]}})
}

/// The `gateway.limits` setting with one limit per key named `ample`, which no load reaches.
pub(crate) fn ample_limit() -> Value {
    json!({"ample": {"quota": 1_000_000_000, "window": "1h"}})
}

impl<'a> NodeConfig<'a> {
    /// A node with one worker and a listener in clear text.
    pub(crate) fn new(name: &'a str, folder: &'a Path, gateway: Value) -> Self {
        Self { name, folder, gateway, sections: Value::Null, listener: json!({}), workers: 1 }
    }

    /// Starts the node with its gateway.
    pub(crate) fn start(mut self, settings: &Settings) -> Keygate {
        let address = free_address();
        // As in the other gateways, no connection reaches its limit of requests.
        let mut listener = json!({"address": address, "limits": {"requests_per_connection": 1_000_000_000}});
        merge(&mut listener, &self.listener);
        self.gateway["listeners"] = [listener].into_iter().collect();
        self.gateway["threads"] = self.workers.into();
        self.serve(settings, address)
    }

    /// Starts the node with external authorization and without the gateway.
    pub(crate) fn start_authorizer(mut self, settings: &Settings) -> Keygate {
        let address = free_address();
        self.gateway["enabled"] = false.into();
        self.sections = json!({"external_auth": {"address": address, "threads": self.workers}});
        self.serve(settings, address)
    }

    /// Writes the configuration file and starts the process: on the proxy core with one worker, otherwise on all cores. The access log is
    /// disabled unless the `gateway` section configures it.
    fn serve(mut self, settings: &Settings, address: String) -> Keygate {
        if self.gateway.get("access_log").is_none() {
            self.gateway["access_log"] = json!({"enabled": false});
        }
        let [admin, metrics] = [(); 2].map(|()| free_port());
        let mut config = json!({
            "serve": {"http": {"port": admin}, "metrics": {"host": "127.0.0.1", "port": metrics}},
            "credentials": {"issuer": ISSUER},
            "secrets": {"hmac": {"current": HMAC_SECRET}},
            "db": {"dsn": format!("sqlite://{}", database(self.folder).display())},
            "cache": {"ttl": CACHE_TTL},
            "log": {"level": "warn"},
            "gateway": self.gateway,
        });
        for (name, section) in self.sections.as_object().into_iter().flatten() {
            config[name] = section.clone();
        }
        let file = self.folder.join("keygate.json");
        std::fs::write(&file, config.to_string()).unwrap();
        let mut command = Cores::of_proxy(self.workers).command(&settings.keygate);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("KEYGATE_") || name.starts_with("TALOS_"))
        {
            command.env_remove(name);
        }
        command.arg("serve").arg("--config").arg(file);
        // Keygate logs each connection that the load generator closes at its end.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let server = Server::start(self.name, command, address);
        Keygate { server: server.expect("Keygate should start"), admin: format!("http://127.0.0.1:{admin}") }
    }
}

impl Keygate {
    /// Derives a token from each key over the admin API. The tokens are valid for 24 hours.
    pub(crate) fn derive(&self, keys: &[String], algorithm: &str) -> Vec<String> {
        let (http, url) = (Client::new(), format!("{}/v2alpha1/admin/apiKeys:derive", self.admin));
        Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let mut tokens = Vec::with_capacity(keys.len());
            for key in keys {
                let request = json!({"credential": key, "algorithm": algorithm, "ttl": "24h"});
                let response = http.post(&url).body(request.to_string()).send().await.unwrap();
                let response: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
                tokens.push(response["token"]["token"].as_str().unwrap_or_else(|| panic!("{response}")).to_owned());
            }
            tokens
        })
    }
}

/// A free `ip:port` on loopback.
fn free_address() -> String {
    format!("127.0.0.1:{}", free_port())
}

/// Generates a key for signing JWTs and returns the path of its JWKS file.
pub(crate) fn generate_signing_key(settings: &Settings, folder: &Path) -> PathBuf {
    let file = folder.join("signing.json");
    let mut command = std::process::Command::new(&settings.keygate);
    let output = command.args(["jwk", "generate", "eddsa", "--jwks", "-o"]).arg(&file).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    file
}
