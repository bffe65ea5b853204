//! The cached proof of a credential, on its connection or in its process, is not used when the credential has become invalid.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;

use chrono::TimeDelta;
use keygate::clock::{Clock, SystemClock};
use keygate_test_servers::{WAIT_TIMEOUT, eventually};
use serde_json::{Value, json};

use crate::support::keygate::{HMAC_SECRET, Keygate, command, merge};
use crate::support::upstream::{Upstream, header};

const OTHER_SECRET: &str = "another-hmac-secret-for-tests-0123456789";

/// One connection to the gateway.
struct Connection(TcpStream);

impl Connection {
    fn to(keygate: &Keygate) -> Self {
        let stream = TcpStream::connect(keygate.gateway.trim_start_matches("http://")).unwrap();
        stream.set_read_timeout(Some(WAIT_TIMEOUT)).unwrap();
        Self(stream)
    }

    /// The status of the response, and the code of a problem.
    fn call(&mut self, path: &str, credential: &str) -> (u16, String) {
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {credential}\r\n\r\n");
        self.0.write_all(request.as_bytes()).unwrap();
        let mut reader = BufReader::new(&mut self.0);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(reader.read_line(&mut head).unwrap() > 0, "the connection was closed after {head:?}");
        }
        let mut body = vec![0; header(&head, "content-length").map_or(0, |text| text.parse().unwrap())];
        reader.read_exact(&mut body).unwrap();
        let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
        let code = problem["code"].as_str().unwrap_or_default().to_owned();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), code)
    }
}

/// A credential whose proof is cached, and a connection that has used it.
struct InUse<'a> {
    keygate: &'a Keygate,
    credential: String,
    connection: Connection,
}

impl<'a> InUse<'a> {
    fn new(keygate: &'a Keygate, credential: String) -> Self {
        let mut connection = Connection::to(keygate);
        for _ in 0..2 {
            assert_eq!(connection.call("/scoped", &credential), (200, String::new()));
        }
        Self { keygate, credential, connection }
    }

    /// The outcome of the next request, on the connection and on a new one.
    fn next(&mut self) -> [(u16, String); 2] {
        [&mut self.connection, &mut Connection::to(self.keygate)].map(|on| on.call("/scoped", &self.credential))
    }

    fn is_answered(&mut self, status: u16, code: &str) {
        assert_eq!(self.next(), [(); 2].map(|()| (status, code.to_owned())));
    }
}

fn start(upstream: &Upstream, more: &Value) -> Keygate {
    let gateway = json!({
        "routes": [{"name": "scoped", "path_prefix": "/scoped", "upstream": "api", "scopes": ["read"]}],
        "upstreams": {"api": {"endpoints": [upstream.url]}},
    });
    Keygate::serve(&gateway, more)
}

async fn issue(keygate: &Keygate) -> (String, String) {
    keygate.issue(json!({"scopes": ["read", "write"]})).await
}

async fn change(keygate: &Keygate, id: &str, field: &str, change: Value) {
    let url = format!("{}/v2alpha1/admin/issuedApiKeys/{id}?update_mask={field}", keygate.admin);
    assert_eq!(keygate.http.patch(url).body(change.to_string()).send().await.unwrap().status(), 200);
}

async fn derive(keygate: &Keygate, credential: &str, algorithm: &str) -> String {
    let body = json!({"credential": credential, "algorithm": algorithm});
    let response: Value = keygate.post("apiKeys:derive", &body).await.json().await.unwrap();
    response["token"]["token"].as_str().unwrap_or_else(|| panic!("{response}")).to_owned()
}

/// Writes new signing keys into a file.
fn write_signing_keys(file: &Path, kid: &str) {
    let made = command().args(["jwk", "generate", "eddsa", "--kid", kid, "--jwks"]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    std::fs::write(file, made.stdout).unwrap();
}

fn with_signing_keys(file: &Path) -> Value {
    let url = format!("file://{}", file.display());
    json!({"credentials": {"derived_tokens": {"jwt": {"signing_keys": {"urls": [url]}}}}})
}

/// Restarts with a changed configuration.
fn reconfigure(keygate: &mut Keygate, change: &Value) {
    let file = keygate.path().join("keygate.json");
    let mut config: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    merge(&mut config, change);
    std::fs::write(&file, config.to_string()).unwrap();
    keygate.restart();
}

#[tokio::test]
async fn proof_of_every_credential_type_is_cached() {
    let upstream = Upstream::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json");
    write_signing_keys(&file, "one");
    let keygate = start(&upstream, &with_signing_keys(&file));
    let (_, key) = issue(&keygate).await;
    keygate.import(json!({"raw_key": "sk_live_1", "scopes": ["read"]})).await;
    let jwt = derive(&keygate, &key, "TOKEN_ALGORITHM_JWT").await;
    let macaroon = derive(&keygate, &key, "TOKEN_ALGORITHM_MACAROON").await;
    for credential in [key, "sk_live_1".into(), jwt, macaroon] {
        InUse::new(&keygate, credential).is_answered(200, "");
    }
    let known_to = async |level: &str| {
        keygate
            .metric(&format!("keygate_credential_checks_total{{known_to=\"{level}\"}}"))
            .await
            .unwrap_or_default()
            .to_string()
    };
    // Each credential is used three times: twice on a connection that has its proof and once on another. The first derivation has
    // cached the proof of the key, which the second derivation and the first connection then use.
    assert_eq!([known_to("connection").await, known_to("process").await], ["8", "6"]);
}

#[tokio::test]
async fn cached_proof_of_a_key_does_not_outlive_the_key() {
    let upstream = Upstream::start();
    let keygate = start(&upstream, &json!({}));

    let (id, key) = issue(&keygate).await;
    let mut used = InUse::new(&keygate, key);
    keygate.revoke(&id).await;
    used.is_answered(401, "credential_revoked");

    let (id, key) = issue(&keygate).await;
    let mut used = InUse::new(&keygate, key);
    change(&keygate, &id, "scopes", json!({"scopes": ["write"]})).await;
    used.is_answered(403, "scope_insufficient");
    change(&keygate, &id, "scopes", json!({"scopes": ["read"]})).await;
    used.is_answered(200, "");
    change(&keygate, &id, "ip_restriction", json!({"ip_restriction": {"allowed_cidrs": ["10.0.0.0/8"]}})).await;
    used.is_answered(403, "address_not_allowed");

    let (id, key) = issue(&keygate).await;
    let mut used = InUse::new(&keygate, key);
    assert_eq!(keygate.post(&format!("issuedApiKeys/{id}:rotate"), &json!({})).await.status(), 201);
    used.is_answered(401, "credential_revoked");

    let (_, key) = keygate.issue(json!({"scopes": ["read"], "ttl": "10s"})).await;
    let mut used = InUse::new(&keygate, key);
    eventually("the key has expired", || used.next()[0].0 == 401);
    used.is_answered(401, "credential_expired");
}

#[tokio::test]
async fn cached_proof_of_a_token_does_not_outlive_its_signing_key_or_parent() {
    let upstream = Upstream::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json");
    write_signing_keys(&file, "one");
    let keygate = start(&upstream, &with_signing_keys(&file));
    let (id, key) = issue(&keygate).await;
    let mut jwt = InUse::new(&keygate, derive(&keygate, &key, "TOKEN_ALGORITHM_JWT").await);
    let mut macaroon = InUse::new(&keygate, derive(&keygate, &key, "TOKEN_ALGORITHM_MACAROON").await);
    write_signing_keys(&file, "two");
    eventually("the signing key was replaced", || jwt.next()[0].0 == 401);
    jwt.is_answered(401, "credential_invalid");
    macaroon.is_answered(200, "");

    let mut jwt = InUse::new(&keygate, derive(&keygate, &key, "TOKEN_ALGORITHM_JWT").await);
    keygate.revoke(&id).await;
    jwt.is_answered(401, "credential_revoked");
    macaroon.is_answered(401, "credential_revoked");
}

#[tokio::test]
async fn cached_proof_does_not_outlive_a_configuration_change() {
    let upstream = Upstream::start();
    let mut keygate = start(&upstream, &json!({"credentials": {"api_keys": {"prefix": {"current": "old"}}}}));
    let (_, key) = issue(&keygate).await;
    InUse::new(&keygate, key.clone());
    let prefix =
        |retired: &[&str]| json!({"credentials": {"api_keys": {"prefix": {"current": "new", "retired": retired}}}});
    reconfigure(&mut keygate, &prefix(&["old"]));
    InUse::new(&keygate, key.clone());
    reconfigure(&mut keygate, &prefix(&[]));
    assert_eq!(Connection::to(&keygate).call("/scoped", &key), (401, "credential_invalid".into()));
    reconfigure(&mut keygate, &prefix(&["old"]));
    InUse::new(&keygate, key.clone());

    // A retired secret expires while the process runs.
    let expiry = (SystemClock.now() + TimeDelta::seconds(15)).to_rfc3339();
    let retired = json!([{"value": HMAC_SECRET, "expires_at": expiry}]);
    reconfigure(&mut keygate, &json!({"secrets": {"hmac": {"current": OTHER_SECRET, "retired": retired}}}));
    let mut used = InUse::new(&keygate, key);
    eventually("the secret is retired", || used.next()[0].0 == 401);
    used.is_answered(401, "credential_invalid");
}

#[tokio::test]
async fn evicted_key_with_a_cached_proof_is_looked_up_again() {
    let upstream = Upstream::start();
    let tiny = json!({"cache": {"memory": {"max_size": 1_048_576}}});
    let keygate = start(&upstream, &tiny);
    let (_, key) = issue(&keygate).await;
    let mut used = InUse::new(&keygate, key);
    // More keys than fit into the cache, all of them used more often.
    for _ in 0..60 {
        let metadata = json!({"text": "x".repeat(50_000)});
        let (_, other) = keygate.issue(json!({"scopes": ["read"], "metadata": metadata})).await;
        for _ in 0..10 {
            assert_eq!(keygate.call("/scoped", &other).await.status(), 200);
        }
    }
    let database = "keygate_lookups_total{level=\"database\"}";
    let before = keygate.metric(database).await.unwrap();
    used.is_answered(200, "");
    assert!(keygate.metric(database).await.unwrap() > before, "the key was looked up");
}
