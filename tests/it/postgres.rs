//! Keygate on PostgreSQL.

use std::time::{Duration, Instant};

use keygate_test_servers::Postgres;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::authority::Authority;
use crate::support::keygate::{HMAC_SECRET, Keygate, command, write_private};
use crate::support::upstream::Upstream;

fn gateway(upstream: &Upstream) -> Value {
    json!({
        "routes": [{"name": "api", "upstream": "api"}],
        "upstreams": {"api": {"endpoints": [upstream.url]}},
    })
}

/// A connection URL with a password, which the server ignores and which must not be logged.
fn dsn(server: &Postgres, options: &str) -> String {
    format!("{}?{options}", server.url("postgres").replace("postgres@", "postgres:hunter2@"))
}

#[tokio::test]
async fn key_is_issued_used_and_revoked_on_postgresql() {
    let (server, upstream) = (Postgres::start(), Upstream::start());
    let db = json!({"db": {"dsn": dsn(&server, "max_conns=4"), "auto_migrate": true}, "log": {"level": "debug"}});
    let mut keygate = Keygate::serve(&gateway(&upstream), &db);
    let (id, secret) = keygate.issue(json!({"metadata": {"b": 1, "a": "é\u{0}"}})).await;
    assert_eq!(keygate.call("/hello", &secret).await.status(), StatusCode::OK);
    keygate.restart();
    assert_eq!(keygate.call("/hello", &secret).await.status(), StatusCode::OK);
    let url = format!("{}/v2alpha1/admin/issuedApiKeys/{id}", keygate.admin);
    let key: Value = keygate.http.get(url).send().await.unwrap().json().await.unwrap();
    assert_eq!(key["metadata"].to_string(), r#"{"b":1,"a":"é\u0000"}"#);
    keygate.revoke(&id).await;
    assert_eq!(keygate.call("/hello", &secret).await.status(), StatusCode::UNAUTHORIZED);
    let changes = server
        .query("SELECT string_agg(change, ' ' ORDER BY seq) FROM changes WHERE key_id = (SELECT key_id FROM keys)");
    assert_eq!(changes.as_deref(), Some("issue revoke"));
    let log = keygate.whole_log();
    assert!(!log.contains("hunter2") && !log.contains(&secret));
}

#[tokio::test]
async fn database_outage_is_503_until_it_ends() {
    let (server, upstream) = (Postgres::start(), Upstream::start());
    let db = json!({
        "db": {"dsn": dsn(&server, "acquire_timeout=5s"), "auto_migrate": true},
        "cache": {"type": "noop"},
    });
    let keygate = Keygate::serve(&gateway(&upstream), &db);
    let (_, secret) = keygate.issue(json!({})).await;
    assert_eq!(keygate.call("/hello", &secret).await.status(), StatusCode::OK);
    let stopped = server.stop();
    let start = Instant::now();
    let rejected = keygate.call("/hello", &secret).await;
    assert_eq!(rejected.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(rejected.headers().contains_key("retry-after"));
    let rejected = keygate.post("issuedApiKeys", &json!({"name": "x", "actor_id": "y"})).await;
    assert_eq!(rejected.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(start.elapsed() < Duration::from_secs(30));
    let server = stopped.start_again();
    assert_eq!(keygate.call("/hello", &secret).await.status(), StatusCode::OK);
    // Terminated idle connections are replaced without an error.
    for _ in 0..3 {
        let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'keygate'";
        assert_ne!(server.query(end).as_deref(), Some("0"));
        assert_eq!(keygate.call("/hello", &secret).await.status(), StatusCode::OK);
        keygate.issue(json!({})).await;
    }
}

#[test]
fn node_does_not_start_with_an_unsupported_schema() {
    let server = Postgres::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keygate.json");
    let config = json!({
        "serve": {"http": {"port": 1}, "metrics": {"host": "127.0.0.1", "port": 1}},
        "credentials": {"issuer": "https://keys.example.com"},
        "secrets": {"hmac": {"current": HMAC_SECRET}},
        "db": {"dsn": dsn(&server, "max_conns=2")},
    });
    let rejected = |config: &Value, words: &str| {
        // New free ports, because others may take the earlier ones.
        let mut config = config.clone();
        for name in ["http", "metrics"] {
            config["serve"][name]["port"] = keygate_test_servers::free_port().into();
        }
        write_private(&file, &config.to_string());
        let output = command().arg("serve").arg("--config").arg(&file).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(words) && !text.contains("hunter2"), "{text}");
    };
    rejected(&config, "at version 0, and this Keygate needs 7; run `keygate migrate up`");
    let migrated = command().args(["migrate", "up", "--database", &server.url("postgres")]).output().unwrap();
    assert!(migrated.status.success());
    let newer = "INSERT INTO _sqlx_migrations VALUES (8, 'x', now(), true, '\\x00', 0)";
    assert!(server.query(newer).is_some());
    rejected(&config, "at version 8, and this Keygate knows at most 7");
    let mut automatic = config;
    automatic["db"]["auto_migrate"] = true.into();
    rejected(&automatic, "at version 8, and this Keygate knows at most 7");
    drop(server);
    rejected(&automatic, "check db.dsn");
}

#[tokio::test]
async fn serving_needs_no_role_that_may_change_the_schema() {
    let (server, upstream) = (Postgres::start(), Upstream::start());
    let migrated = command().args(["migrate", "up", "--database", &server.url("postgres")]).output().unwrap();
    assert!(migrated.status.success());
    let role = "CREATE ROLE serving LOGIN; \
                GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO serving";
    assert!(server.query(role).is_some());
    let dsn = format!("{}?application_name=node-7", server.url("postgres").replace("postgres@", "serving@"));
    let db = json!({"db": {"dsn": dsn, "auto_migrate": true}, "cache": {"type": "noop"}});
    let keygate = Keygate::serve(&gateway(&upstream), &db);
    let (id, secret) = keygate.issue(json!({})).await;
    assert_eq!(keygate.call("/hello", &secret).await.status(), StatusCode::OK);
    keygate.revoke(&id).await;
    let named = "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'node-7' AND usename = 'serving'";
    assert_eq!(server.query(named).as_deref(), Some("t"));
}

#[tokio::test]
async fn several_nodes_start_at_once_on_an_empty_database() {
    let (server, upstream) = (Postgres::start(), Upstream::start());
    let db = json!({"db": {"dsn": dsn(&server, "max_conns=2"), "auto_migrate": true}});
    let nodes: Vec<_> = std::thread::scope(|scope| {
        let start = || Keygate::serve(&gateway(&upstream), &db);
        let starting: Vec<_> = (0..4).map(|_| scope.spawn(start)).collect();
        starting.into_iter().map(|node| node.join().unwrap()).collect()
    });
    let (_, secret) = nodes[0].issue(json!({})).await;
    for node in &nodes {
        assert_eq!(node.call("/hello", &secret).await.status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn database_connection_uses_verified_tls() {
    let (server, upstream, folder) = (Postgres::start(), Upstream::start(), tempfile::tempdir().unwrap());
    let authority = Authority::new(folder.path());
    server.enable_tls(&authority.certificate, &authority.key);

    let known = format!("sslmode=verify-full&sslrootcert={}", authority.file.display());
    let at = |host: &str, options: &str| dsn(&server, options).replace("127.0.0.1", host);
    for (dsn, words) in [
        (at("localhost", "sslmode=verify-full"), "UnknownIssuer"),
        (at("127.0.0.1", &known), "certificate not valid for name"),
    ] {
        let status = command().args(["migrate", "status", "--database", &dsn]).output().unwrap();
        let text = String::from_utf8(status.stderr).unwrap();
        assert!(!status.status.success() && text.contains(words), "{text}");
    }
    let db = json!({"db": {"dsn": at("localhost", &known), "auto_migrate": true}});
    let keygate = Keygate::serve(&gateway(&upstream), &db);
    let (_, secret) = keygate.issue(json!({})).await;
    assert_eq!(keygate.call("/hello", &secret).await.status(), StatusCode::OK);
    let encrypted =
        "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'keygate'";
    assert_eq!(server.query(encrypted).as_deref(), Some("t"));
}
