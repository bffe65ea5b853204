//! Keygate itself: the real binary with a configuration file and a SQLite database.

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

/// Who issues.
pub(crate) const ISSUER: &str = "https://keys.example.com";

/// So long that no record is read again in the middle of a measurement.
pub(crate) const CACHE_TTL: &str = "24h";

/// What the other gateways add to requests.
const PEERS_HEADERS: [&str; 3] = ["x-keygate-actor-id", "x-request-id", "x-forwarded-for"];

/// A node to be: its folder has the database, and gets the configuration.
pub(crate) struct Node<'a> {
    pub(crate) name: &'a str,
    pub(crate) folder: &'a Path,
    pub(crate) gateway: Value,
    /// Sections of the configuration that are not as every node has them.
    pub(crate) sections: Value,
    /// What the gateway's listener has besides its address.
    pub(crate) listener: Value,
    pub(crate) workers: usize,
}

/// A running Keygate.
pub(crate) struct Keygate {
    pub(crate) server: Server,
    admin: String,
}

/// The database of a node.
pub(crate) fn database(folder: &Path) -> PathBuf {
    folder.join("keys.db")
}

/// The `gateway` section that sends everything that has the scope to one upstream.
pub(crate) fn gateway(upstream: &str, limits: &[&str]) -> Value {
    json!({
        "routes": [{
            "name": "api", "path_prefix": "/", "upstream": "api", "scopes": [crate::keys::SCOPE], "limits": limits,
        }],
        "upstreams": upstreams(upstream),
        "limits": ample_limit(),
        "request_headers": PEERS_HEADERS,
    })
}

/// The `upstreams` of a gateway.
pub(crate) fn upstreams(upstream: &str) -> Value {
    json!({"api": {"endpoints": [format!("http://{upstream}")]}})
}

/// A limit named `ample`, by key, that no load reaches.
pub(crate) fn ample_limit() -> Value {
    json!({"ample": {"quota": 1_000_000_000, "window": "1h"}})
}

impl<'a> Node<'a> {
    /// One with one worker and a listener in clear text.
    pub(crate) fn new(name: &'a str, folder: &'a Path, gateway: Value) -> Self {
        Self { name, folder, gateway, sections: Value::Null, listener: json!({}), workers: 1 }
    }

    /// Starts its gateway.
    pub(crate) fn start(mut self, settings: &Settings) -> Keygate {
        let address = free_address();
        // As many as with the other gateways.
        let mut listener = json!({"address": address, "limits": {"requests_per_connection": 1_000_000_000}});
        merge(&mut listener, &self.listener);
        self.gateway["listeners"] = [listener].into_iter().collect();
        self.gateway["threads"] = self.workers.into();
        self.serve(settings, address)
    }

    /// Starts it with external authorization and without a proxy.
    pub(crate) fn start_authorizer(mut self, settings: &Settings) -> Keygate {
        let address = free_address();
        self.gateway["enabled"] = false.into();
        self.sections = json!({"external_auth": {"address": address, "threads": self.workers}});
        self.serve(settings, address)
    }

    /// Starts it, with one worker on the proxies' core, and without an access log unless the gateway has one.
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
        // Its log would tell of every connection that the load closes at its end.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let server = Server::start(self.name, command, address);
        Keygate { server: server.expect("Keygate starts"), admin: format!("http://127.0.0.1:{admin}") }
    }
}

impl Keygate {
    /// Tokens derived from keys, one from each.
    pub(crate) fn derive(&self, keys: &[String], algorithm: &str) -> Vec<String> {
        let (http, url) = (Client::new(), format!("{}/v2alpha1/admin/apiKeys:derive", self.admin));
        Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let mut tokens = Vec::with_capacity(keys.len());
            for key in keys {
                let wanted = json!({"credential": key, "algorithm": algorithm, "ttl": "24h"});
                let answer = http.post(&url).body(wanted.to_string()).send().await.unwrap();
                let answer: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
                tokens.push(answer["token"]["token"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned());
            }
            tokens
        })
    }
}

fn free_address() -> String {
    format!("127.0.0.1:{}", free_port())
}

/// A new key that signs JWTs, in a file; the file.
pub(crate) fn make_signing_key(settings: &Settings, folder: &Path) -> PathBuf {
    let file = folder.join("signing.json");
    let mut command = std::process::Command::new(&settings.keygate);
    let output = command.args(["jwk", "generate", "eddsa", "--jwks", "-o"]).arg(&file).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    file
}
