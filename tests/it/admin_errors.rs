//! The documented errors of each admin operation: each pair of operation and status in the contract's table has a test.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use keygate_test_servers::WAIT_TIMEOUT;
use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, SqliteConnection};
use tokio::task::JoinSet;

use crate::support::admin::AdminResponse;
use crate::support::keygate::Keygate;
use crate::support::wait::wait_for;

/// The statuses that each operation documents.
const DOCUMENTED: [(&str, &[u16]); 18] = [
    ("adminIssueApiKey", &[400, 402, 409]),
    ("adminListIssuedApiKeys", &[400]),
    ("adminGetIssuedApiKey", &[404]),
    ("adminUpdateIssuedApiKey", &[400, 404]),
    ("adminRotateIssuedApiKey", &[400, 404, 409]),
    ("adminRevokeIssuedApiKey", &[400, 404, 409]),
    ("adminImportApiKey", &[400, 402, 409]),
    ("adminListImportedApiKeys", &[400]),
    ("adminGetImportedApiKey", &[404]),
    ("adminUpdateImportedApiKey", &[400, 404]),
    ("adminDeleteImportedApiKey", &[404]),
    ("adminRevokeImportedApiKey", &[400, 404, 409]),
    ("adminBatchCreateImportedApiKeys", &[400, 402, 409, 500]),
    ("adminVerifyApiKey", &[400]),
    ("adminBatchVerifyApiKeys", &[400]),
    ("adminDeriveToken", &[400, 401, 403, 409, 500]),
    ("getJwks", &[500]),
    ("revokeApiKey", &[400, 401, 403, 404]),
];

/// The pairs that have their own tests below.
const OWN_TESTS: [(&str, u16); 3] =
    [("adminIssueApiKey", 409), ("adminDeriveToken", 409), ("adminBatchCreateImportedApiKeys", 500)];

/// The documented reasons with their HTTP status and canonical code.
const REASONS: [(&str, u16, &str); 13] = [
    ("BAD_REQUEST", 400, "INVALID_ARGUMENT"),
    ("DERIVED_TOKEN_NOT_REVOCABLE", 400, "INVALID_ARGUMENT"),
    ("UNAUTHORIZED", 401, "UNAUTHENTICATED"),
    ("API_KEY_EXPIRED", 401, "UNAUTHENTICATED"),
    ("API_KEY_QUOTA_EXCEEDED", 402, "PERMISSION_DENIED"),
    ("FORBIDDEN", 403, "PERMISSION_DENIED"),
    ("API_KEY_NOT_FOUND", 404, "NOT_FOUND"),
    ("CONFLICT", 409, "ALREADY_EXISTS"),
    ("API_KEY_EXISTS", 409, "ALREADY_EXISTS"),
    ("FAILED_PRECONDITION", 409, "FAILED_PRECONDITION"),
    ("INTERNAL_SERVER_ERROR", 500, "INTERNAL"),
    ("SERVICE_UNAVAILABLE", 503, "UNAVAILABLE"),
    ("GATEWAY_TIMEOUT", 504, "DEADLINE_EXCEEDED"),
];

/// No keys of either kind.
const NO_KEYS: [Vec<Value>; 2] = [Vec::new(), Vec::new()];

/// The server that a call goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Setup {
    /// Has keys in every state.
    Standard,
    /// Has reached its quota of keys.
    Full,
    /// Has no signing keys.
    Keyless,
}

/// A failing call: server, operation id, status, call, body, reason, and the message if it is fixed.
type Case = (Setup, &'static str, u16, &'static str, &'static str, &'static str, &'static str);

const EMPTY: &str = "";
const JWT_SHAPE: &str = r#"{"name":"n","actor_id":"a","raw_key":"eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.c2ln"}"#;
const JWT_BATCH: &str =
    r#"{"requests":[{"name":"n","actor_id":"a","raw_key":"eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.c2ln"}]}"#;
const DESCRIBED_REASON: &str = r#"{"reason":"REVOCATION_REASON_SUPERSEDED","description":"d"}"#;
const DESCRIPTION_NOT_ALLOWED: &str = "description is only allowed when reason is PRIVILEGE_WITHDRAWN";
const QUOTA_REACHED: &str = "The API key quota for the current plan has been reached.";
const BAD_MASK: &str =
    "unknown update_mask path: \"*\" (allowed: name, scopes, metadata, rate_limit_policy, ip_restriction)";
const NO_EXPIRY: &str = "ttl must be greater than 0; non-expiring API keys are not supported";
const TTL_OVER_MAX: &str = "ttl 8784h0m0s exceeds the project maximum of 8760h0m0s";
const UNKNOWN: &str = "API key not found";
const UNKNOWN_IMPORTED: &str = "imported key not found";

#[rustfmt::skip]
const CASES: [Case; 63] = [
    (Setup::Standard, "adminIssueApiKey", 400, "POST issuedApiKeys", r#"{"actor_id":"a"}"#, "BAD_REQUEST", ""),
    (Setup::Standard, "adminIssueApiKey", 400, "POST issuedApiKeys", r#"{"name":"n"}"#, "BAD_REQUEST", ""),
    (Setup::Standard, "adminIssueApiKey", 400, "POST issuedApiKeys", r#"{"name":"n","actor_id":"a","ttl":"0s"}"#, "BAD_REQUEST", NO_EXPIRY),
    (Setup::Standard, "adminIssueApiKey", 400, "POST issuedApiKeys", r#"{"name":"n","actor_id":"a","ttl":"366d"}"#, "BAD_REQUEST", TTL_OVER_MAX),
    (Setup::Keyless, "adminIssueApiKey", 400, "POST issuedApiKeys", r#"{"name":"n","actor_id":"a","visibility":"KEY_VISIBILITY_PUBLIC"}"#, "BAD_REQUEST", "public key prefix not configured: set credentials.api_keys.prefix.public_current"),
    (Setup::Full, "adminIssueApiKey", 402, "POST issuedApiKeys", r#"{"name":"n","actor_id":"a"}"#, "API_KEY_QUOTA_EXCEEDED", QUOTA_REACHED),
    (Setup::Standard, "adminListIssuedApiKeys", 400, "GET issuedApiKeys?page_size=1001", EMPTY, "BAD_REQUEST", ""),
    (Setup::Standard, "adminListIssuedApiKeys", 400, "GET issuedApiKeys?filter=name%3Dx", EMPTY, "BAD_REQUEST", ""),
    (Setup::Standard, "adminListIssuedApiKeys", 400, "GET issuedApiKeys?page_token=x", EMPTY, "BAD_REQUEST", "invalid page token"),
    (Setup::Standard, "adminGetIssuedApiKey", 404, "GET issuedApiKeys/{unknown}", EMPTY, "API_KEY_NOT_FOUND", UNKNOWN),
    (Setup::Standard, "adminGetIssuedApiKey", 404, "GET issuedApiKeys/{imported}", EMPTY, "API_KEY_NOT_FOUND", UNKNOWN),
    (Setup::Standard, "adminUpdateIssuedApiKey", 400, "PATCH issuedApiKeys/{active}?update_mask=*", "{}", "BAD_REQUEST", BAD_MASK),
    (Setup::Standard, "adminUpdateIssuedApiKey", 400, "PATCH issuedApiKeys/{unknown}?update_mask=*", "{}", "BAD_REQUEST", BAD_MASK),
    (Setup::Standard, "adminUpdateIssuedApiKey", 404, "PATCH issuedApiKeys/{unknown}", r#"{"name":"n"}"#, "API_KEY_NOT_FOUND", UNKNOWN),
    (Setup::Standard, "adminRotateIssuedApiKey", 400, "POST issuedApiKeys/{active}:rotate", r#"{"scopes":[""]}"#, "BAD_REQUEST", ""),
    (Setup::Standard, "adminRotateIssuedApiKey", 404, "POST issuedApiKeys/{unknown}:rotate", EMPTY, "API_KEY_NOT_FOUND", UNKNOWN),
    (Setup::Standard, "adminRotateIssuedApiKey", 409, "POST issuedApiKeys/{revoked}:rotate", EMPTY, "FAILED_PRECONDITION", "cannot rotate a non-active key"),
    (Setup::Standard, "adminRotateIssuedApiKey", 409, "POST issuedApiKeys/{expired}:rotate", EMPTY, "FAILED_PRECONDITION", "cannot rotate a non-active key"),
    (Setup::Standard, "adminRevokeIssuedApiKey", 400, "POST issuedApiKeys/{active}:revoke", DESCRIBED_REASON, "BAD_REQUEST", DESCRIPTION_NOT_ALLOWED),
    (Setup::Standard, "adminRevokeIssuedApiKey", 404, "POST issuedApiKeys/{unknown}:revoke", EMPTY, "API_KEY_NOT_FOUND", UNKNOWN),
    (Setup::Standard, "adminRevokeIssuedApiKey", 404, "POST issuedApiKeys/{imported}:revoke", EMPTY, "API_KEY_NOT_FOUND", UNKNOWN),
    (Setup::Standard, "adminRevokeIssuedApiKey", 409, "POST issuedApiKeys/{revoked}:revoke", EMPTY, "CONFLICT", "key is already revoked"),
    (Setup::Standard, "adminImportApiKey", 400, "POST importedApiKeys", r#"{"name":"n","actor_id":"a"}"#, "BAD_REQUEST", ""),
    (Setup::Standard, "adminImportApiKey", 400, "POST importedApiKeys", r#"{"name":"n","actor_id":"a","raw_key":"r","ttl":"0s"}"#, "BAD_REQUEST", NO_EXPIRY),
    (Setup::Full, "adminImportApiKey", 402, "POST importedApiKeys", r#"{"name":"n","actor_id":"a","raw_key":"r"}"#, "API_KEY_QUOTA_EXCEEDED", QUOTA_REACHED),
    (Setup::Standard, "adminImportApiKey", 409, "POST importedApiKeys", r#"{"name":"n","actor_id":"a","raw_key":"{active_secret}"}"#, "CONFLICT", "cannot import key: format conflicts with issued api key pattern"),
    (Setup::Standard, "adminImportApiKey", 409, "POST importedApiKeys", JWT_SHAPE, "FAILED_PRECONDITION", "cannot import key: format conflicts with derived token pattern"),
    (Setup::Standard, "adminImportApiKey", 409, "POST importedApiKeys", r#"{"name":"n","actor_id":"a","raw_key":"mc_v1_x"}"#, "FAILED_PRECONDITION", "cannot import key: format conflicts with derived token pattern"),
    (Setup::Standard, "adminImportApiKey", 409, "POST importedApiKeys", r#"{"name":"n","actor_id":"a","raw_key":"raw-key"}"#, "API_KEY_EXISTS", "key already imported (duplicate detected)"),
    (Setup::Standard, "adminImportApiKey", 409, "POST importedApiKeys", r#"{"name":"n","actor_id":"a","raw_key":"revoked-raw-key"}"#, "API_KEY_EXISTS", "key already imported (duplicate detected)"),
    (Setup::Standard, "adminListImportedApiKeys", 400, "GET importedApiKeys?page_size=x", EMPTY, "BAD_REQUEST", ""),
    (Setup::Standard, "adminListImportedApiKeys", 400, "GET importedApiKeys?page_token=x", EMPTY, "BAD_REQUEST", "invalid page token"),
    (Setup::Standard, "adminGetImportedApiKey", 404, "GET importedApiKeys/{unknown_imported}", EMPTY, "API_KEY_NOT_FOUND", UNKNOWN_IMPORTED),
    (Setup::Standard, "adminGetImportedApiKey", 404, "GET importedApiKeys/{active}", EMPTY, "API_KEY_NOT_FOUND", UNKNOWN_IMPORTED),
    (Setup::Standard, "adminUpdateImportedApiKey", 400, "PATCH importedApiKeys/{imported}?updateMask=*", "{}", "BAD_REQUEST", BAD_MASK),
    (Setup::Standard, "adminUpdateImportedApiKey", 404, "PATCH importedApiKeys/{unknown_imported}", r#"{"name":"n"}"#, "API_KEY_NOT_FOUND", UNKNOWN_IMPORTED),
    (Setup::Standard, "adminDeleteImportedApiKey", 404, "DELETE importedApiKeys/{unknown_imported}", EMPTY, "API_KEY_NOT_FOUND", UNKNOWN_IMPORTED),
    (Setup::Standard, "adminDeleteImportedApiKey", 404, "DELETE importedApiKeys/{active}", EMPTY, "API_KEY_NOT_FOUND", UNKNOWN_IMPORTED),
    (Setup::Standard, "adminRevokeImportedApiKey", 400, "POST importedApiKeys/{imported}:revoke", DESCRIBED_REASON, "BAD_REQUEST", DESCRIPTION_NOT_ALLOWED),
    (Setup::Standard, "adminRevokeImportedApiKey", 404, "POST importedApiKeys/{unknown_imported}:revoke", EMPTY, "API_KEY_NOT_FOUND", UNKNOWN_IMPORTED),
    (Setup::Standard, "adminRevokeImportedApiKey", 409, "POST importedApiKeys/{revoked_imported}:revoke", EMPTY, "CONFLICT", "key is already revoked"),
    (Setup::Standard, "adminBatchCreateImportedApiKeys", 400, "POST importedApiKeys:batchCreate", r#"{"requests":[]}"#, "BAD_REQUEST", "keys must contain at least one item"),
    (Setup::Standard, "adminBatchCreateImportedApiKeys", 400, "POST importedApiKeys:batchCreate", r#"{"requests":[null]}"#, "BAD_REQUEST", "all keys in batch failed validation"),
    (Setup::Full, "adminBatchCreateImportedApiKeys", 402, "POST importedApiKeys:batchCreate", r#"{"requests":[{"name":"n","actor_id":"a","raw_key":"r"}]}"#, "API_KEY_QUOTA_EXCEEDED", "all keys in batch exceeded the tenant quota"),
    (Setup::Standard, "adminBatchCreateImportedApiKeys", 409, "POST importedApiKeys:batchCreate", r#"{"requests":[{"name":"n","actor_id":"a","raw_key":"raw-key"}]}"#, "API_KEY_EXISTS", "all keys in batch already exist"),
    (Setup::Standard, "adminBatchCreateImportedApiKeys", 409, "POST importedApiKeys:batchCreate", JWT_BATCH, "FAILED_PRECONDITION", "all keys in batch failed precondition checks"),
    (Setup::Standard, "adminVerifyApiKey", 400, "POST apiKeys:verify", "{}", "BAD_REQUEST", ""),
    (Setup::Standard, "adminBatchVerifyApiKeys", 400, "POST apiKeys:batchVerify", "{}", "BAD_REQUEST", ""),
    (Setup::Standard, "adminBatchVerifyApiKeys", 400, "POST apiKeys:batchVerify", r#"{"requests":[{"credential":"raw-key"},{}]}"#, "BAD_REQUEST", ""),
    (Setup::Standard, "adminDeriveToken", 400, "POST apiKeys:derive", "{}", "BAD_REQUEST", ""),
    (Setup::Standard, "adminDeriveToken", 400, "POST apiKeys:derive", r#"{"credential":"{token}"}"#, "BAD_REQUEST", ""),
    (Setup::Standard, "adminDeriveToken", 400, "POST apiKeys:derive", r#"{"credential":"{active_secret}","ttl":"364d"}"#, "BAD_REQUEST", ""),
    (Setup::Standard, "adminDeriveToken", 401, "POST apiKeys:derive", r#"{"credential":"unknown"}"#, "UNAUTHORIZED", "verify API key"),
    (Setup::Standard, "adminDeriveToken", 401, "POST apiKeys:derive", r#"{"credential":"{expired_secret}"}"#, "UNAUTHORIZED", "verify API key"),
    (Setup::Standard, "adminDeriveToken", 403, "POST apiKeys:derive", r#"{"credential":"{revoked_secret}"}"#, "FORBIDDEN", "key is revoked"),
    (Setup::Standard, "adminDeriveToken", 403, "POST apiKeys:derive", r#"{"credential":"{active_secret}","scopes":["other"]}"#, "FORBIDDEN", "scope \"other\" is not granted to the key"),
    (Setup::Keyless, "adminDeriveToken", 500, "POST apiKeys:derive", r#"{"credential":"{active_secret}"}"#, "INTERNAL_SERVER_ERROR", ""),
    (Setup::Keyless, "getJwks", 500, "GET /v2alpha1/derivedKeys/jwks.json", EMPTY, "INTERNAL_SERVER_ERROR", ""),
    (Setup::Standard, "revokeApiKey", 400, "POST /v2alpha1/apiKeys:selfRevoke", r#"{"credential":"{token}"}"#, "DERIVED_TOKEN_NOT_REVOCABLE", "Derived tokens cannot be revoked."),
    (Setup::Standard, "revokeApiKey", 400, "POST /v2alpha1/apiKeys:selfRevoke", r#"{"credential":"{active_secret}","reason":4}"#, "BAD_REQUEST", "PRIVILEGE_WITHDRAWN is not allowed for self-revocation"),
    (Setup::Standard, "revokeApiKey", 401, "POST /v2alpha1/apiKeys:selfRevoke", r#"{"credential":"{expired_secret}"}"#, "API_KEY_EXPIRED", "The API key has expired."),
    (Setup::Standard, "revokeApiKey", 403, "POST /v2alpha1/apiKeys:selfRevoke", r#"{"credential":"{public_secret}"}"#, "FORBIDDEN", ""),
    (Setup::Standard, "revokeApiKey", 404, "POST /v2alpha1/apiKeys:selfRevoke", r#"{"credential":"unknown"}"#, "API_KEY_NOT_FOUND", "The API key was not found."),
];

/// A server, and the values of the placeholders in its calls.
struct Server {
    setup: Setup,
    keygate: Keygate,
    names: Vec<(&'static str, String)>,
}

impl Server {
    async fn start(setup: Setup) -> Self {
        let keygate = match setup {
            Setup::Standard => Keygate::serve_admin(&json!({})),
            Setup::Full => Keygate::serve_admin(&json!({"quota": {"api_keys_max": 1}})),
            Setup::Keyless => {
                let none = json!({
                    "api_keys": {"prefix": {"public_current": null}},
                    "derived_tokens": {"jwt": {"signing_keys": {"urls": []}}}
                });
                Keygate::serve_admin(&json!({ "credentials": none }))
            }
        };
        let (active, secret) = keygate.issue(json!({"scopes": ["read"]})).await;
        let mut names = vec![
            ("{active}", active),
            ("{active_secret}", secret),
            ("{unknown}", "11111111-2222-4333-8444-555555555555".into()),
            ("{unknown_imported}", "0".repeat(64)),
        ];
        if setup == Setup::Standard {
            names.extend(keys_in_every_state(&keygate, &names[1].1).await);
        }
        Self { setup, keygate, names }
    }

    fn fill(&self, text: &str) -> String {
        self.names.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
    }

    async fn call(&self, line: &str, body: &str) -> AdminResponse {
        let (method, path) = line.split_once(' ').unwrap();
        let root = if path.starts_with('/') { "" } else { "/v2alpha1/admin/" };
        self.keygate.send(&self.fill(&format!("{method} {root}{path}")), self.fill(body)).await
    }
}

async fn keys_in_every_state(keygate: &Keygate, secret: &str) -> Vec<(&'static str, String)> {
    let (revoked, revoked_secret) = keygate.issue(json!({})).await;
    keygate.revoke(&revoked).await;
    let (expired, expired_secret) = keygate.issue(json!({"ttl": "1s"})).await;
    let (_, public_secret) = keygate.issue(json!({"visibility": "KEY_VISIBILITY_PUBLIC"})).await;
    let imported = keygate.import(json!({"raw_key": "raw-key"})).await;
    let revoked_imported = keygate.import(json!({"raw_key": "revoked-raw-key"})).await;
    let revocation = format!("POST /v2alpha1/admin/importedApiKeys/{revoked_imported}:revoke");
    assert_eq!(keygate.send(&revocation, "").await.status, 204);
    let token = keygate.send_json("POST /v2alpha1/admin/apiKeys:derive", &json!({ "credential": secret })).await;
    keygate.wait_until_expired(&expired).await;
    vec![
        ("{revoked}", revoked),
        ("{revoked_secret}", revoked_secret),
        ("{expired}", expired),
        ("{expired_secret}", expired_secret),
        ("{public_secret}", public_secret),
        ("{imported}", imported),
        ("{revoked_imported}", revoked_imported),
        ("{token}", token.text("/token/token")),
    ]
}

/// The difference between a response and the expected error, if any. An empty `message` matches every non-empty one.
fn mismatch(response: &AdminResponse, status: u16, reason: &str, message: &str) -> Option<String> {
    let (_, http, canonical) = REASONS.into_iter().find(|(name, ..)| *name == reason).unwrap();
    let actual = response.message();
    let message = if message.is_empty() { actual } else { message };
    let details = json!([{
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": reason,
        "domain": "www.ory.com/talos",
    }]);
    let expected = json!({
        "code": http, "message": message, "details": details,
        "error": { "code": http, "message": message, "status": canonical, "details": details },
    });
    let is_expected = response.status == status && status == http && !actual.is_empty() && response.body == expected;
    (!is_expected).then(|| format!("{} {} instead of {status} {expected}", response.status, response.body))
}

#[track_caller]
fn assert_error(response: &AdminResponse, status: u16, reason: &str, message: &str) {
    assert_eq!(mismatch(response, status, reason, message), None);
}

async fn stored(keygate: &Keygate) -> [Vec<Value>; 2] {
    [keygate.list("issued", "").await, keygate.list("imported", "").await]
}

/// Another connection to the database of a running server.
async fn database(file: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(file);
    options.busy_timeout(WAIT_TIMEOUT).connect().await.unwrap()
}

async fn execute(database: &mut SqliteConnection, statement: &str) {
    database.execute(AssertSqlSafe(statement.to_owned())).await.unwrap();
}

#[test]
fn every_documented_error_has_a_test() {
    let documented: BTreeSet<(&str, u16)> =
        DOCUMENTED.iter().flat_map(|(name, statuses)| statuses.iter().map(move |status| (*name, *status))).collect();
    let tested: BTreeSet<(&str, u16)> = CASES.iter().map(|case| (case.1, case.2)).chain(OWN_TESTS).collect();
    assert_eq!(documented, tested);
}

#[tokio::test]
async fn each_documented_error_has_the_status_and_body_of_the_contract() {
    let mut mismatches = Vec::new();
    for setup in [Setup::Standard, Setup::Full, Setup::Keyless] {
        let server = Server::start(setup).await;
        let before = stored(&server.keygate).await;
        for (_, operation, status, line, body, reason, message) in CASES.iter().filter(|case| case.0 == setup) {
            let response = server.call(line, body).await;
            if let Some(mismatch) = mismatch(&response, *status, reason, message) {
                mismatches.push(format!("{operation} {status}, {line} {body} at {:?}: {mismatch}", server.setup));
            }
        }
        assert_eq!(stored(&server.keygate).await, before, "a failed call changes nothing");
    }
    assert!(mismatches.is_empty(), "{}", mismatches.join("\n"));
}

/// Issue, 409: the generated id is taken, which has a chance of 1 in 2^122. A trigger that drops the row has the same effect.
#[tokio::test]
async fn issuing_a_key_with_a_taken_id_is_a_conflict() {
    let keygate = Keygate::serve_admin(&json!({}));
    let trigger = "CREATE TRIGGER taken BEFORE INSERT ON keys BEGIN SELECT RAISE(IGNORE); END";
    execute(&mut database(&keygate.path().join("keys.db")).await, trigger).await;
    let response = keygate.send("POST /v2alpha1/admin/issuedApiKeys", r#"{"name":"n","actor_id":"a"}"#).await;
    assert_error(&response, 409, "API_KEY_EXISTS", "An API key with this identifier already exists.");
    assert_eq!(stored(&keygate).await, NO_KEYS);
}

/// Derive, 409: the key expires between its verification and the signature. The only connection waits for another writer, so
/// that the lookup of the key waits for the connection until the key has expired.
#[tokio::test]
async fn key_that_expires_while_a_token_is_derived_is_a_conflict() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("one.db");
    let dsn = format!("sqlite://{}?max_conns=1", file.display());
    let keygate = Keygate::serve_admin(&json!({ "db": { "dsn": dsn } }));
    // On a busy machine the call may be late, which is another error; then it is repeated.
    for _ in 0..5 {
        let response = derive_from_an_expiring_key(&keygate, &file).await;
        if response.status == 409 {
            return assert_error(&response, 409, "FAILED_PRECONDITION", "the key has ended");
        }
        assert!([401, 504].contains(&response.status), "{response:?}");
    }
    panic!("the call never arrived in time");
}

/// Waits until one call of the admin API is under way.
async fn wait_for_one_call(keygate: &Keygate) {
    wait_for(async || match keygate.metric("http_requests_in_flight").await {
        Some(1.0) => Ok(()),
        count => Err(format!("{count:?} calls are under way")),
    })
    .await;
}

async fn derive_from_an_expiring_key(keygate: &Keygate, file: &Path) -> AdminResponse {
    let mut other = database(file).await;
    let (_, secret) = keygate.issue(json!({"ttl": "6s"})).await;
    let issued = Instant::now();
    execute(&mut other, "BEGIN IMMEDIATE").await;
    // It may be late itself, which does not matter.
    let other_key = json!({"name": "waiting", "actor_id": "a"});
    let waiting = keygate.send_json("POST /v2alpha1/admin/issuedApiKeys", &other_key);
    let derived = async {
        wait_for_one_call(keygate).await;
        // The other call has the connection by then, and a call waits for a connection at most 3 seconds.
        tokio::time::sleep_until((issued + Duration::from_millis(4500)).into()).await;
        let request = json!({"credential": secret, "ttl": "1s"});
        keygate.send_json("POST /v2alpha1/admin/apiKeys:derive", &request).await
    };
    let release = async {
        tokio::time::sleep_until((issued + Duration::from_millis(6200)).into()).await;
        execute(&mut other, "ROLLBACK").await;
    };
    tokio::join!(waiting, derived, release).1
}

/// If one key of a batch cannot be stored, the batch fails and none of its keys is stored.
#[tokio::test]
async fn failed_batch_stores_nothing() {
    let keygate = Keygate::serve_admin(&json!({}));
    let trigger =
        "CREATE TRIGGER failing BEFORE INSERT ON keys WHEN NEW.name = 'last' BEGIN SELECT RAISE(ABORT, 'x'); END";
    execute(&mut database(&keygate.path().join("keys.db")).await, trigger).await;
    let item = |name: &str| json!({"name": name, "actor_id": "a", "raw_key": name});
    let batch = json!({"requests": [item("first"), item("second"), item("last")]});
    let response = keygate.send_json("POST /v2alpha1/admin/importedApiKeys:batchCreate", &batch).await;
    assert_error(&response, 500, "INTERNAL_SERVER_ERROR", "an internal error occurred");
    assert_eq!(stored(&keygate).await, NO_KEYS);
}

/// Valid calls of every operation that uses the database.
#[rustfmt::skip]
const STORED: [(&str, &str); 15] = [
    ("POST issuedApiKeys", r#"{"name":"n","actor_id":"a"}"#),
    ("GET issuedApiKeys", EMPTY),
    ("GET issuedApiKeys/{active}", EMPTY),
    ("PATCH issuedApiKeys/{active}", r#"{"name":"m"}"#),
    ("POST issuedApiKeys/{active}:rotate", EMPTY),
    ("POST issuedApiKeys/{active}:revoke", EMPTY),
    ("POST importedApiKeys", r#"{"name":"n","actor_id":"a","raw_key":"r"}"#),
    ("GET importedApiKeys", EMPTY),
    ("GET importedApiKeys/{unknown_imported}", EMPTY),
    ("PATCH importedApiKeys/{unknown_imported}", r#"{"name":"m"}"#),
    ("DELETE importedApiKeys/{unknown_imported}", EMPTY),
    ("POST importedApiKeys/{unknown_imported}:revoke", EMPTY),
    ("POST importedApiKeys:batchCreate", r#"{"requests":[{"name":"n","actor_id":"a","raw_key":"r"}]}"#),
    ("POST apiKeys:derive", r#"{"credential":"{active_secret}"}"#),
    ("POST /v2alpha1/apiKeys:selfRevoke", r#"{"credential":"{active_secret}"}"#),
];

/// Every operation fails alike, verification reports it in its result, and all works when the database works again.
#[tokio::test]
async fn database_error_is_an_internal_error_in_every_operation() {
    let server = Server::start(Setup::Standard).await;
    let file = server.keygate.path().join("keys.db");
    let before = stored(&server.keygate).await;
    execute(&mut database(&file).await, "ALTER TABLE keys RENAME TO renamed").await;
    for (line, body) in STORED {
        let response = server.call(line, body).await;
        assert_eq!(mismatch(&response, 500, "INTERNAL_SERVER_ERROR", "an internal error occurred"), None, "{line}");
    }
    let verify = r#"{"credential":"not cached"}"#;
    let response = server.call("POST apiKeys:verify", verify).await;
    let result = (response.status, response.text("/error_code"), response.text("/error_message"));
    assert_eq!(result, (200, "VERIFICATION_ERROR_INTERNAL".into(), "database error".into()));
    let response = server.call("POST apiKeys:batchVerify", &format!(r#"{{"requests":[{verify}]}}"#)).await;
    assert_error(&response, 500, "INTERNAL_SERVER_ERROR", "an internal error occurred");
    assert_eq!(server.call("GET /v2alpha1/derivedKeys/jwks.json", "").await.status, 200);
    execute(&mut database(&file).await, "ALTER TABLE renamed RENAME TO keys").await;
    assert_eq!(stored(&server.keygate).await, before);
}

/// Operations that wait too long for the database are 504. The only connection waits for another writer meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn slow_database_is_a_timeout_in_every_operation() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("one.db");
    let dsn = format!("sqlite://{}?max_conns=1", file.display());
    let keygate = Keygate::serve_admin(&json!({ "db": { "dsn": dsn } }));
    let (active, secret) = keygate.issue(json!({})).await;
    let names = vec![("{active}", active), ("{active_secret}", secret), ("{unknown_imported}", "0".repeat(64))];
    let server = Arc::new(Server { setup: Setup::Standard, keygate, names });
    let mut other = database(&file).await;
    execute(&mut other, "BEGIN IMMEDIATE").await;
    let waiting = server.keygate.issue(json!({}));
    let timed_out = async {
        wait_for_one_call(&server.keygate).await;
        // Time for that call to take the connection.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let mut calls = JoinSet::new();
        for (line, body) in STORED {
            let server = Arc::clone(&server);
            calls.spawn(async move { (line, server.call(line, body).await) });
        }
        for (line, response) in calls.join_all().await {
            assert_eq!(mismatch(&response, 504, "GATEWAY_TIMEOUT", "database operation timed out"), None, "{line}");
        }
        execute(&mut other, "ROLLBACK").await;
    };
    tokio::join!(waiting, timed_out);
    assert_eq!(server.keygate.list("issued", "").await.len(), 2);
}

/// Paths of the first published clients act like the operations that replaced them, with the older error codes of items.
#[tokio::test]
async fn deprecated_paths_act_like_their_replacements() {
    let mut server = Server::start(Setup::Standard).await;
    let items = [
        (r#"{"name":"n","actor_id":"a","raw_key":"new"}"#, None),
        ("null", Some("INVALID_ARGUMENT")),
        (r#"{"name":"n","actor_id":"a","raw_key":"b","ttl":"0s"}"#, Some("INVALID_ARGUMENT")),
        (r#"{"name":"n","actor_id":"a","raw_key":"{active_secret}"}"#, Some("FAILED_PRECONDITION")),
        (r#"{"name":"n","actor_id":"a","raw_key":"{token}"}"#, Some("FAILED_PRECONDITION")),
        (r#"{"name":"n","actor_id":"a","raw_key":"new"}"#, Some("ALREADY_EXISTS")),
        (r#"{"name":"n","actor_id":"a","raw_key":"raw-key"}"#, Some("ALREADY_EXISTS")),
    ];
    let texts: Vec<&str> = items.iter().map(|(item, _)| *item).collect();
    for (verb, prefix, fresh) in [
        ("batchImport", "BATCH_IMPORT_ERROR_", "new"),
        ("batchCreate", "BATCH_CREATE_IMPORTED_API_KEYS_ERROR_", "newer"),
    ] {
        let body = format!("{{\"requests\":[{}]}}", texts.join(",")).replace("\"new\"", &format!("\"{fresh}\""));
        let response = server.call(&format!("POST importedApiKeys:{verb}"), &body).await;
        assert_eq!(
            (response.status, &response.body["success_count"], &response.body["failure_count"]),
            (200, &json!(1), &json!(6))
        );
        for (index, (item, code)) in items.iter().enumerate() {
            let result = &response.body["results"][index];
            assert_eq!(result["index"], index);
            let expected = code.map_or(Value::Null, |code| format!("{prefix}{code}").into());
            assert_eq!(result["error_code"], expected, "{verb} {item}");
            assert_eq!(result["imported_api_key"].is_null(), code.is_some(), "{verb} {item}");
        }
        assert!(response.text("/results/5/error_message").contains("index 0"), "{response:?}");
    }
    for id in ["{active}", "{imported}"] {
        let line = format!("POST apiKeys/{id}:revoke");
        let revoked = server.call(&line, EMPTY).await;
        assert_eq!((revoked.status, revoked.body), (200, json!({})), "{id}");
        assert_error(&server.call(&line, EMPTY).await, 409, "CONFLICT", "key is already revoked");
    }
    assert_error(&server.call("POST apiKeys/{unknown}:revoke", EMPTY).await, 404, "API_KEY_NOT_FOUND", UNKNOWN);
    let jwks = server.call("GET derivedKeys/jwks.json", EMPTY).await;
    assert_eq!(jwks, server.call("GET /v2alpha1/derivedKeys/jwks.json", EMPTY).await);
    assert_eq!(jwks.text("/jwks/keys/0/kid"), "test-1");
    assert_eq!(jwks.body["keys"], jwks.body["jwks"]["keys"]);
    let texts = server.keygate.whole_log() + &jwks.body.to_string();
    assert!(!texts.contains("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"), "the private key is not exposed");
}
