//! Each operation of the contract with each role and without a key, through the published SDKs of Rust, Python and Node.js: one table of
//! outcomes for all.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use ory_client::apis::api_keys_api as api;
use ory_client::apis::configuration::Configuration;
use ory_client::models;
use serde_json::{Value, json};

use crate::admin_auth::serve;
use crate::support::keygate::Keygate;

/// The operations, the role that each needs (empty for none), and the status with it.
const OPERATIONS: [(&str, &str, u16); 18] = [
    ("list_issued", "read", 200),
    ("get_issued", "read", 200),
    ("list_imported", "read", 200),
    ("get_imported", "read", 200),
    ("verify", "verify", 200),
    ("batch_verify", "verify", 200),
    ("issue", "manage", 201),
    ("update_issued", "manage", 200),
    ("import", "manage", 201),
    ("batch_import", "manage", 200),
    ("update_imported", "manage", 200),
    ("derive", "manage", 200),
    ("rotate", "manage", 201),
    ("revoke_issued", "manage", 204),
    ("revoke_imported", "manage", 204),
    ("delete_imported", "manage", 204),
    ("jwks", "", 200),
    ("self_revoke", "", 200),
];
const CALLERS: [&str; 5] = ["none", "read", "verify", "manage", "admin"];

/// The status of each operation by its name.
type Outcomes = BTreeMap<String, u16>;

/// The table of outcomes for a caller.
fn expected(role: &str) -> Outcomes {
    let outcome = |(name, needs, status): (&str, &str, u16)| {
        let status = match role {
            _ if needs.is_empty() || needs == role => status,
            "none" => 401,
            _ => 403,
        };
        (name.to_owned(), status)
    };
    OPERATIONS.into_iter().map(outcome).collect()
}

/// The keys that one run of all operations needs.
async fn keys(keygate: &Keygate, run: &str) -> Value {
    // A token lives for an hour, and its key must live longer.
    let (issued, secret) = keygate.issue(json!({"ttl": "10h"})).await;
    let (rotated, _) = keygate.issue(json!({})).await;
    let (_, own_secret) = keygate.issue(json!({})).await;
    let imported = keygate.import(json!({"raw_key": format!("raw-key-{run}-imported")})).await;
    let deleted = keygate.import(json!({"raw_key": format!("raw-key-{run}-deleted")})).await;
    json!({
        "issued": issued, "secret": secret, "rotated": rotated, "own_secret": own_secret, "imported": imported, "deleted": deleted,
        "raw_key": format!("raw-key-{run}-new"),
    })
}

/// Compares the outcomes of an SDK with the table, for each caller.
async fn assert_outcomes(sdk: &str, call: impl AsyncFn(&Keygate, &str, &Value) -> Option<Outcomes>) {
    let keygate = serve(&json!({}));
    for role in CALLERS {
        let key = match role {
            "none" => String::new(),
            role => keygate.admin_key(json!({"roles": [role]})).await.1,
        };
        let keys = keys(&keygate, &format!("{sdk}-{role}")).await;
        let Some(outcomes) = call(&keygate, &key, &keys).await else { return };
        assert_eq!(outcomes, expected(role), "{sdk}, {role}");
    }
}

/// A file below the target folder, where `deploy/ci/ensure.sh test` installs SDKs; `None` if it is not there.
fn installed(path: &str) -> Option<PathBuf> {
    let executable = std::env::current_exe().unwrap();
    let found = executable.ancestors().map(|folder| folder.join(path)).find(|path| path.exists());
    if found.is_none() {
        eprintln!("SKIPPED: {path} is not in the target folder; deploy/ci/ensure.sh test installs it");
    }
    found
}

/// Runs a program that prints its outcomes.
fn run(command: &mut Command, keygate: &Keygate, key: &str, keys: &Value) -> Outcomes {
    command.env("ENDPOINT", &keygate.admin).env("ADMIN_KEY", key).env("KEYS", keys.to_string());
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn script(name: &str) -> String {
    format!("{}/tests/it/sdk_languages/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[tokio::test]
async fn python_sdk_has_the_outcomes_of_the_table() {
    let Some(python) = installed("sdk-python/bin/python3") else { return };
    assert_outcomes("python", async |keygate, key, keys| {
        let mut command = Command::new(&python);
        Some(run(command.arg(script("outcomes.py")).env("PYTHONDONTWRITEBYTECODE", "1"), keygate, key, keys))
    })
    .await;
}

#[tokio::test]
async fn node_sdk_has_the_outcomes_of_the_table() {
    let Some(modules) = installed("sdk-node/node_modules") else { return };
    assert_outcomes("node", async |keygate, key, keys| {
        let mut command = Command::new("node");
        Some(run(command.arg(script("outcomes.cjs")).env("NODE_PATH", &modules), keygate, key, keys))
    })
    .await;
}

#[tokio::test]
async fn rust_sdk_has_the_outcomes_of_the_table() {
    assert_outcomes("rust", async |keygate, key, keys| Some(rust_outcomes(keygate, key, keys).await)).await;
}

/// Status of an error of the SDK; `success` for success, which the SDK does not report.
fn status<T, E>(result: Result<T, ory_client::apis::Error<E>>, success: u16) -> u16 {
    match result {
        Ok(_) => success,
        Err(ory_client::apis::Error::ResponseError(response)) => response.status.as_u16(),
        Err(error) => panic!("{error}"),
    }
}

async fn rust_outcomes(keygate: &Keygate, key: &str, keys: &Value) -> Outcomes {
    let sdk = &Configuration {
        base_path: keygate.admin.clone(),
        bearer_access_token: (!key.is_empty()).then(|| key.to_owned()),
        ..Configuration::default()
    };
    let text = |name: &str| keys[name].as_str().unwrap();
    let (issued, imported) = (text("issued"), text("imported"));
    let verify = models::VerifyApiKeyRequest { credential: Some(text("secret").into()), ..Default::default() };
    let import = |number: u32| models::ImportApiKeyRequest {
        name: Some("n".into()),
        actor_id: Some("a".into()),
        raw_key: Some(format!("{}-{number}", text("raw_key"))),
        ..Default::default()
    };
    let issue = models::IssueApiKeyRequest { name: Some("n".into()), actor_id: Some("a".into()), ..Default::default() };
    let batch_verify = models::BatchVerifyApiKeysRequest { requests: Some(vec![verify.clone()]) };
    let batch_import = models::BatchCreateImportedApiKeysRequest { requests: Some(vec![import(2)]) };
    let derive = models::DeriveTokenRequest { credential: Some(text("secret").into()), ..Default::default() };
    let update_issued = models::AdminUpdateIssuedApiKeyRequest { name: Some("new".into()), ..Default::default() };
    let update_imported = models::AdminUpdateImportedApiKeyRequest { name: Some("new".into()), ..Default::default() };
    let own = models::SelfRevokeApiKeyRequest { credential: Some(text("own_secret").into()), ..Default::default() };
    let outcomes = [
        ("list_issued", status(api::admin_list_issued_api_keys(sdk, None, None, None).await, 200)),
        ("get_issued", status(api::admin_get_issued_api_key(sdk, issued).await, 200)),
        ("list_imported", status(api::admin_list_imported_api_keys(sdk, Some(1), None, None).await, 200)),
        ("get_imported", status(api::admin_get_imported_api_key(sdk, imported).await, 200)),
        ("verify", status(api::admin_verify_api_key(sdk, verify, None, None).await, 200)),
        ("batch_verify", status(api::admin_batch_verify_api_keys(sdk, batch_verify, None, None).await, 200)),
        ("issue", status(api::admin_issue_api_key(sdk, issue).await, 201)),
        (
            "update_issued",
            status(api::admin_update_issued_api_key(sdk, issued, update_issued, Some("name")).await, 200),
        ),
        ("import", status(api::admin_import_api_key(sdk, import(1)).await, 201)),
        ("batch_import", status(api::admin_batch_create_imported_api_keys(sdk, batch_import).await, 200)),
        (
            "update_imported",
            status(api::admin_update_imported_api_key(sdk, imported, update_imported, Some("name")).await, 200),
        ),
        ("derive", status(api::admin_derive_token(sdk, derive).await, 200)),
        (
            "rotate",
            status(
                api::admin_rotate_issued_api_key(sdk, text("rotated"), models::AdminRotateIssuedApiKeyBody::default())
                    .await,
                201,
            ),
        ),
        (
            "revoke_issued",
            status(
                api::admin_revoke_issued_api_key(sdk, issued, models::AdminRevokeIssuedApiKeyBody::default()).await,
                204,
            ),
        ),
        (
            "revoke_imported",
            status(
                api::admin_revoke_imported_api_key(sdk, imported, models::AdminRevokeImportedApiKeyBody::default())
                    .await,
                204,
            ),
        ),
        ("delete_imported", status(api::admin_delete_imported_api_key(sdk, text("deleted")).await, 204)),
        ("jwks", status(api::get_jwks(sdk).await, 200)),
        ("self_revoke", status(api::revoke_api_key(sdk, own).await, 200)),
    ];
    outcomes.into_iter().map(|(name, status)| (name.to_owned(), status)).collect()
}
