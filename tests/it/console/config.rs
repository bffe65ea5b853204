//! `GET /keygate/v1/config` and `keygate config show`: effective values, sources, no secrets.

use serde_json::{Value, json};

use crate::admin_auth::serve;
use crate::support::keygate::{HMAC_SECRET, Keygate, command};

/// A secret that must not be shown.
const SECRET: &str = "hunter2-hunter2-hunter2-hunter2";

fn server() -> Keygate {
    serve(&json!({
        "cache": {"ttl": "7s", "redis": {"addrs": ["127.0.0.1:1"], "password": SECRET}},
        "gateway": {"routes": [{
            "name": "all", "path_prefix": "/", "upstream": "none", "request_headers": {"set": {"x-token": SECRET}}
        }]},
    }))
}

fn setting<'a>(settings: &'a Value, path: &str) -> &'a Value {
    settings.as_array().unwrap().iter().find(|setting| setting["path"] == path).unwrap_or_else(|| panic!("{path}"))
}

fn assert_settings(settings: &Value) {
    assert_eq!(setting(settings, "cache.ttl")["value"], "7s");
    assert_eq!(setting(settings, "cache.ttl")["source"], "file");
    assert!(setting(settings, "cache.ttl")["source_name"].as_str().unwrap().ends_with("keygate.json"));
    assert_eq!(setting(settings, "log.level"), &json!({"path": "log.level", "value": "info", "source": "default"}));
    for path in ["secrets.hmac.current", "cache.redis.password", "serve.http.auth.bootstrap_key"] {
        assert_eq!(setting(settings, path)["value"], "[REDACTED]", "{path}");
    }
    let headers = &setting(settings, "gateway.routes")["value"][0]["request_headers"]["set"];
    assert_eq!(headers, &json!({"x-token": "[REDACTED]"}));
    let text = settings.to_string();
    for secret in [HMAC_SECRET, SECRET, "a-bootstrap-key-for-tests"] {
        assert!(!text.contains(secret), "{secret} is shown");
    }
}

#[tokio::test]
async fn effective_settings_have_sources_and_no_secrets() {
    let keygate = server();
    let response = keygate.send("GET /keygate/v1/config", "").await;
    assert_eq!(response.status, 200);
    assert_settings(&response.body["settings"]);
    let version = keygate.send("GET /version", "").await;
    assert_eq!(response.body["config_hash"], version.body["config_hash"]);
    let (_, manager) = keygate.admin_key(json!({"roles": ["manage", "verify", "admin"]})).await;
    assert_eq!(keygate.send_as(&manager, "GET /keygate/v1/config", "").await.status, 403);
}

#[tokio::test]
async fn command_line_shows_the_same_settings() {
    let keygate = server();
    let file = keygate.path().join("keygate.json");
    let show = |format: &str, variables: &[(&str, &str)]| {
        let mut command = command();
        command.args(["config", "show", "--format", format, "--config"]).arg(&file);
        let output = command.envs(variables.iter().copied()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let shown: Value = serde_json::from_str(&show("json", &[])).unwrap();
    assert_settings(&shown);
    let mut served = keygate.send("GET /keygate/v1/config", "").await.body["settings"].clone();
    assert_eq!(shown, served.take());
    let variable = [("KEYGATE_CACHE_TTL", "9s"), ("KEYGATE_DB_DSN", "postgres://u:hunter2@db/keys")];
    let table = show("table", &variable);
    let line =
        |path: &str| table.lines().find(|line| line.starts_with(path)).unwrap().split_whitespace().collect::<Vec<_>>();
    assert_eq!(line("cache.ttl"), ["cache.ttl", "environment", "KEYGATE_CACHE_TTL", "9s"]);
    assert_eq!(line("db.dsn"), ["db.dsn", "environment", "KEYGATE_DB_DSN", "postgres://[REDACTED]@db/keys"]);
}
