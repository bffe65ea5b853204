//! Configurations without a file: from environment variables alone, and from a directory of files.

use std::path::Path;
use std::process::Stdio;

use keygate_test_servers::{Process, free_port};
use reqwest::Client;
use serde_json::{Value, json};

use crate::support::keygate::{HMAC_SECRET, command, write_private};
use crate::support::upstream::Upstream;
use crate::support::wait::wait_for;

/// A running `keygate serve` and its listeners.
struct Running {
    process: Process,
    gateway: String,
    metrics: String,
    http: Client,
}

/// The ports of gateway, admin API and metrics.
fn ports() -> [u16; 3] {
    std::array::from_fn(|_| free_port())
}

impl Running {
    async fn start(arguments: &[&str], variables: &[(&str, &str)], ports: [u16; 3]) -> Self {
        let mut command = command();
        command.arg("serve").args(arguments).envs(variables.iter().copied());
        let process = Process::start(command.stdout(Stdio::null()).stderr(Stdio::null()));
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let running = Self { process, gateway: url(ports[0]), metrics: url(ports[2]), http: Client::new() };
        wait_for(async || running.status(&format!("{}/health/ready", running.metrics), 200).await).await;
        running
    }

    /// Whether a request is answered with a status.
    async fn status(&self, url: &str, expected: u16) -> Result<(), String> {
        let status = self.http.get(url).send().await.map_err(|error| error.to_string())?.status().as_u16();
        if status == expected { Ok(()) } else { Err(status.to_string()) }
    }

    async fn is_served(&self, path: &str, expected: u16) {
        wait_for(async || self.status(&format!("{}{path}", self.gateway), expected).await).await;
    }
}

#[tokio::test]
async fn environment_alone_is_a_configuration() {
    let upstream = Upstream::start();
    let ports = ports();
    let address = format!("127.0.0.1:{}", ports[0]);
    let (admin, metrics) = (ports[1].to_string(), ports[2].to_string());
    let yaml = "- name: open\n  path_prefix: /open\n  upstream: api\n  auth: none\n";
    let json = r#"[{"name":"open","path_prefix":"/open","upstream":"api","auth":"none"}]"#;
    let upstreams = format!("api:\n  endpoints:\n    - {}\n", upstream.url);
    for routes in [yaml, json] {
        let variables = [
            ("KEYGATE_CREDENTIALS_ISSUER", "https://keys.example.com"),
            ("KEYGATE_SECRETS_HMAC_CURRENT", HMAC_SECRET),
            ("KEYGATE_DB_DSN", ":memory:"),
            ("KEYGATE_SERVE_HTTP_PORT", &*admin),
            ("KEYGATE_SERVE_METRICS_PORT", &*metrics),
            ("KEYGATE_GATEWAY_ADDRESS", &*address),
            ("KEYGATE_GATEWAY_ROUTES", routes),
            ("KEYGATE_GATEWAY_UPSTREAMS", &*upstreams),
        ];
        let running = Running::start(&[], &variables, ports).await;
        running.is_served("/open/1", 200).await;
        running.is_served("/other", 404).await;
    }
}

#[test]
fn environment_without_the_required_settings_is_an_error_that_names_them() {
    let output = command().arg("serve").output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    for variable in ["KEYGATE_CREDENTIALS_ISSUER", "KEYGATE_SECRETS_HMAC_CURRENT", "KEYGATE_DB_DSN"] {
        assert!(text.contains(variable), "{text}");
    }
}

fn base(ports: [u16; 3]) -> Value {
    json!({
        "serve": {"http": {"port": ports[1]}, "metrics": {"host": "127.0.0.1", "port": ports[2]}},
        "credentials": {"issuer": "https://keys.example.com"},
        "secrets": {"hmac": {"current": HMAC_SECRET}},
        "db": {"dsn": ":memory:"},
        "gateway": {"address": format!("127.0.0.1:{}", ports[0])}
    })
}

fn team(name: &str, upstream: &Upstream) -> Value {
    let route = json!({"name": name, "path_prefix": format!("/{name}"), "upstream": name, "auth": "none"});
    json!({"gateway": {"routes": [route], "upstreams": {name: {"endpoints": [upstream.url]}}}})
}

fn write(folder: &Path, name: &str, content: &Value) {
    write_private(&folder.join(name), &content.to_string());
}

#[tokio::test]
async fn files_of_a_directory_are_merged_and_watched() {
    let upstream = Upstream::start();
    let (folder, ports) = (tempfile::tempdir().unwrap(), ports());
    let directory = folder.path().to_str().unwrap();
    write(folder.path(), "00-base.yaml", &base(ports));
    write(folder.path(), "10-orders.json", &team("orders", &upstream));
    let running = Running::start(&["--config-dir", directory], &[], ports).await;
    running.is_served("/orders", 200).await;
    running.is_served("/users", 404).await;
    write(folder.path(), "20-users.yml", &team("users", &upstream));
    running.is_served("/users", 200).await;
    running.is_served("/orders", 200).await;
    std::fs::remove_file(folder.path().join("10-orders.json")).unwrap();
    running.is_served("/orders", 404).await;
    drop(running.process);
}

#[test]
fn sources_of_settings_name_the_file_in_the_directory() {
    let (folder, ports) = (tempfile::tempdir().unwrap(), ports());
    write(folder.path(), "00-base.yaml", &base(ports));
    write(folder.path(), "10-log.yaml", &json!({"log": {"level": "warn"}}));
    let directory = folder.path().to_str().unwrap();
    let show = |variables: &[(&str, &str)], arguments: &[&str]| {
        let mut command = command();
        command.args(["config", "show", "--format", "json"]).args(arguments).envs(variables.iter().copied());
        let output = command.output().unwrap();
        serde_json::from_slice::<Value>(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
    };
    for settings in [show(&[], &["--config-dir", directory]), show(&[("KEYGATE_CONFIG_DIR", directory)], &[])] {
        let level = settings.as_array().unwrap().iter().find(|setting| setting["path"] == "log.level").unwrap();
        assert_eq!(level["value"], "warn");
        assert!(level["source_name"].as_str().unwrap().ends_with("10-log.yaml"), "{level}");
    }
}

#[test]
fn directory_without_files_and_broken_files_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().to_str().unwrap();
    let check = || {
        let output = command().args(["config", "check", "--config-dir", directory]).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(check().contains("has no file *.yaml, *.yml or *.json"));
    write(folder.path(), "00-base.yaml", &base(ports()));
    write_private(&folder.path().join("10-broken.yaml"), "a: [");
    let text = check();
    assert!(text.contains("10-broken.yaml: is not valid YAML at line 1"), "{text}");
    let both = command().args(["serve", "--config-dir", directory, "--config", "x"]).output().unwrap();
    assert!(String::from_utf8(both.stderr).unwrap().contains("cannot be used with"));
}
