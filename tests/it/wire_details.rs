//! Details of the wire and of the process: encoded colons, wrapped updates, file modes, environment variables without a prefix.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::json;

use crate::support::keygate::{HMAC_SECRET, Keygate, merge};

#[tokio::test]
async fn encoded_colon_of_a_custom_verb_is_the_colon() {
    let keygate = Keygate::serve_admin(&json!({}));
    let (id, secret) = keygate.issue(json!({})).await;
    let credential = json!({ "credential": secret });
    let batch = |raw: &str| json!({"requests": [{"name": "n", "actor_id": "a", "raw_key": raw}]});
    let imported = keygate.import(json!({"raw_key": "r"})).await;
    let other = keygate.import(json!({"raw_key": "s"})).await;
    for (colon, old) in [("%3A", "o"), ("%3a", "p")] {
        for (path, body, status) in [
            ("admin/apiKeys:verify", credential.clone(), 200),
            ("admin/apiKeys:batchVerify", json!({"requests": [credential]}), 200),
            ("admin/apiKeys:derive", credential.clone(), 200),
            ("admin/importedApiKeys:batchCreate", batch(&format!("{old}1")), 200),
            ("admin/importedApiKeys:batchImport", batch(&format!("{old}2")), 200),
        ] {
            let response = keygate.send_json(&format!("POST /v2alpha1/{}", path.replace(':', colon)), &body).await;
            assert_eq!(response.status, status, "{path}: {response:?}");
        }
    }
    let encoded_twice = keygate.send_json("POST /v2alpha1/admin/apiKeys%253Averify", &credential).await;
    assert_eq!((encoded_twice.status, encoded_twice.reason()), (404, "NOT_FOUND"));
    let rotated = keygate.send(&format!("POST /v2alpha1/admin/issuedApiKeys/{id}%3Arotate"), "").await;
    assert_eq!(rotated.status, 201, "{rotated:?}");
    let id = rotated.text("/issued_api_key/key_id");
    for (line, status) in [
        (format!("POST /v2alpha1/admin/issuedApiKeys/{id}%3arevoke"), 204),
        (format!("POST /v2alpha1/admin/importedApiKeys/{imported}%3Arevoke"), 204),
        (format!("POST /v2alpha1/admin/apiKeys/{other}%3Arevoke"), 200),
    ] {
        assert_eq!(keygate.send(&line, "").await.status, status, "{line}");
    }
    let (_, own) = keygate.issue(json!({})).await;
    let revoked = keygate.send_json("POST /v2alpha1/apiKeys%3AselfRevoke", &json!({ "credential": own })).await;
    assert_eq!((revoked.status, revoked.body), (200, json!({})));
}

#[tokio::test]
async fn wrapped_update_never_removes_a_restriction_silently() {
    let keygate = Keygate::serve_admin(&json!({}));
    let restriction = json!({"allowed_cidrs": ["10.0.0.0/8"]});
    for (kind, wrapper, id) in [
        ("issuedApiKeys", "issued_api_key", keygate.issue(json!({"ip_restriction": restriction})).await.0),
        (
            "importedApiKeys",
            "importedApiKey",
            keygate.import(json!({"raw_key": "r", "ip_restriction": restriction})).await,
        ),
    ] {
        let line = format!("PATCH /v2alpha1/admin/{kind}/{id}?update_mask=ip_restriction");
        let narrower = json!({"allowed_cidrs": ["10.1.0.0/16"]});
        let wrapped = json!({"key_id": id, wrapper: {"key_id": id, "ip_restriction": narrower}});
        let updated = keygate.send_json(&line, &wrapped).await;
        assert_eq!((updated.status, &updated.body["ip_restriction"]), (200, &narrower), "{updated:?}");
        let mixed = json!({"name": "n", wrapper: {"ip_restriction": restriction}});
        let refused = keygate.send_json(&line, &mixed).await;
        assert_eq!((refused.status, refused.reason()), (400, "BAD_REQUEST"), "{refused:?}");
        let stored = keygate.send(&format!("GET /v2alpha1/admin/{kind}/{id}"), "").await;
        assert_eq!(stored.body["ip_restriction"], narrower);
        let removed = keygate.send_json(&line, &json!({ wrapper: {} })).await;
        assert!(removed.status == 200 && removed.body.get("ip_restriction").is_none(), "{removed:?}");
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[tokio::test]
async fn database_files_are_private_in_an_open_folder_and_shared_secrets_are_a_warning() {
    let mut keygate = Keygate::serve_admin(&json!({}));
    set_mode(keygate.path(), 0o755);
    keygate.issue(json!({})).await;
    let files = ["keys.db", "keys.db-wal", "keys.db-shm"].map(|name| keygate.path().join(name));
    assert_eq!(files.each_ref().map(|path| mode(path)), [0o600; 3]);
    // As an earlier version left them.
    for path in &files {
        set_mode(path, 0o644);
    }
    set_mode(&keygate.path().join("keygate.json"), 0o640);
    keygate.process.signal("KILL");
    keygate.process.wait(keygate_test_servers::WAIT_TIMEOUT);
    keygate.start_again();
    keygate.issue(json!({})).await;
    assert_eq!(files.each_ref().map(|path| mode(path)), [0o600; 3]);
    let log = keygate.whole_log();
    assert!(log.contains("keygate.json has mode 0640, so that other users can read the secrets in it"), "{log}");
}

#[tokio::test]
async fn variables_of_the_contract_are_read_by_serve() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("from-variable.db");
    let mut settings = json!({"secrets": {"hmac": {"current": null}}});
    merge(&mut settings, &json!({"db": {"dsn": null}}));
    let dsn = format!("sqlite://{}", database.display());
    let keygate =
        Keygate::serve_with(&json!({}), &settings, &[("DB_DSN", &dsn), ("SECRETS_HMAC_CURRENT", HMAC_SECRET)]);
    keygate.issue(json!({})).await;
    assert!(database.exists());
    assert!(!keygate.log().contains("has mode"), "the secret is not in the file: {}", keygate.log());
}
