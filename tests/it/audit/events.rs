//! The rows of calls, through the admin API and the command line.

use serde_json::{Value, json};

use super::{run, verify, wait_until_sealed};
use crate::support::keygate::{Keygate, command};
use crate::support::wait::wait_for;

/// The events that a query returns.
async fn events(keygate: &Keygate, query: &str) -> Vec<Value> {
    let response = keygate.send(&format!("GET /keygate/v1/auditEvents?{query}"), "").await;
    assert_eq!(response.status, 200, "{query}: {response:?}");
    response.body["audit_events"].as_array().unwrap().clone()
}

fn names(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["event"].as_str().unwrap()).collect()
}

/// Runs a command of `keygate audit` against a server.
fn audit(keygate: &Keygate, arguments: &[&str]) -> super::Finished {
    run(command().env("KEYGATE_ENDPOINT", &keygate.admin).arg("audit").args(arguments))
}

#[tokio::test]
async fn every_change_of_a_key_is_in_the_trail_without_its_credential() {
    let keygate = Keygate::serve_admin(&json!({}));
    let (id, secret) = keygate.issue(json!({"metadata": {"team": "blue"}})).await;
    let path = format!("/v2alpha1/admin/issuedApiKeys/{id}");
    keygate.send_json(&format!("PATCH {path}?update_mask=name"), &json!({"name": "renamed"})).await;
    let derive = json!({"credential": secret, "algorithm": "TOKEN_ALGORITHM_MACAROON", "scopes": []});
    let token = keygate.send_json("POST /v2alpha1/admin/apiKeys:derive", &derive).await.text("/token/token");
    let rotated = keygate.send_json(&format!("POST {path}:rotate"), &json!({})).await;
    let (new_id, new_secret) = (rotated.text("/issued_api_key/key_id"), rotated.text("/secret"));
    let own = json!({"credential": new_secret, "reason": "REVOCATION_REASON_KEY_COMPROMISE"});
    assert_eq!(keygate.send_json("POST /v2alpha1/apiKeys:selfRevoke", &own).await.status, 200);
    let raw_key = "sk_live_raw-key-of-the-audit-test";
    let imported = keygate.import(json!({"raw_key": raw_key})).await;
    let items = json!({"requests": [{"name": "n", "actor_id": "a", "raw_key": raw_key}]});
    keygate.send_json("POST /v2alpha1/admin/importedApiKeys:batchCreate", &items).await;
    keygate.send(&format!("DELETE /v2alpha1/admin/importedApiKeys/{imported}"), "").await;

    let all = events(&keygate, "order=asc").await;
    let mut found = names(&all);
    // The two rows of a rotation have no order among them.
    found[3..5].sort_unstable();
    assert_eq!(
        found,
        [
            "IssuedAPIKeyCreated",
            "IssuedAPIKeyUpdated",
            "APIKeyDerivedToken",
            "IssuedAPIKeyRevoked",
            "IssuedAPIKeyRotated",
            "IssuedAPIKeyRevoked",
            "ImportedAPIKeyCreated",
            "APIKeyImportFailed",
            "ImportedAPIKeyDeleted"
        ]
    );
    assert_eq!((&all[1]["before"], &all[1]["after"]), (&json!({"name": "test"}), &json!({"name": "renamed"})));
    assert_eq!(all[0]["after"]["metadata"], json!({"team": "blue"}));
    assert_eq!(all[2]["details"]["algorithm"], "macaroon");
    assert_eq!(all[5]["principal"], format!("key:{new_id}"));
    assert_eq!(all[5]["details"]["reason"], "REVOCATION_REASON_KEY_COMPROMISE");
    assert!(all.iter().all(|event| event["client_ip"] == "127.0.0.1"), "{all:?}");
    let text = Value::from(all).to_string();
    for credential in [&secret, &new_secret, &token, &raw_key.to_owned()] {
        assert!(!text.contains(credential.as_str()), "{credential} in {text}");
        assert!(!text.contains(&credential[credential.len() - 20..]), "a part of {credential} in {text}");
    }
}

#[tokio::test]
async fn filters_and_pages_select_events() {
    let keygate = Keygate::serve_admin(&json!({}));
    let mut ids = Vec::new();
    for number in 0..5 {
        ids.push(keygate.issue(json!({"actor_id": format!("actor-{}", number % 2)})).await.0);
    }
    keygate.revoke(&ids[0]).await;
    for (query, count) in [
        (String::new(), 6),
        ("operation=revoke".into(), 1),
        ("operation=IssuedAPIKeyCreated".into(), 5),
        (format!("key_id={}", ids[0]), 2),
        ("actor_id=actor-1".into(), 2),
        ("actor_id=actor-0".into(), 4),
        ("principal=anonymous".into(), 6),
        ("principal=admin:root".into(), 0),
        ("from=2020-01-01T00:00:00Z".into(), 6),
        ("from=2999-01-01T00:00:00%2B02:00".into(), 0),
        ("to=2020-01-01T00:00:00Z".into(), 0),
        ("page_size=2".into(), 2),
    ] {
        assert_eq!(events(&keygate, &query).await.len(), count, "{query}");
    }
    let (mut token, mut listed) = (String::new(), Vec::new());
    loop {
        let page = keygate.send(&format!("GET /keygate/v1/auditEvents?page_size=4&page_token={token}"), "").await.body;
        listed.extend(page["audit_events"].as_array().unwrap().iter().map(|event| event["id"].clone()));
        token = page["next_page_token"].as_str().unwrap().to_owned();
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(listed.len(), 6);
    assert!(listed.is_sorted_by(|a, b| a.as_str() > b.as_str()), "the latest first: {listed:?}");
    for invalid in [
        "page_size=1001",
        "page_size=x",
        "page_token=x",
        "order=up",
        "operation=nothing",
        "from=yesterday",
        "to=1960-01-01T00:00:00Z",
        "actor_id=%00",
        "key_id=a&keyId=b",
    ] {
        let response = keygate.send(&format!("GET /keygate/v1/auditEvents?{invalid}"), "").await;
        assert_eq!((response.status, response.reason()), (400, "BAD_REQUEST"), "{invalid}");
    }
    assert_eq!(keygate.send("POST /keygate/v1/auditEvents", "").await.status, 404);
}

#[tokio::test]
async fn refused_calls_are_gathered_into_one_row() {
    let mut keygate = Keygate::serve_admin(&json!({}));
    let (_, public) = keygate.issue(json!({"visibility": "KEY_VISIBILITY_PUBLIC"})).await;
    let own = json!({"credential": public});
    for _ in 0..25 {
        assert_eq!(keygate.send_json("POST /v2alpha1/apiKeys:selfRevoke", &own).await.status, 403);
    }
    let derive = json!({"credential": "unknown"});
    assert_eq!(keygate.send_json("POST /v2alpha1/admin/apiKeys:derive", &derive).await.status, 401);
    write_what_was_counted(&mut keygate).await;
    let refused = events(&keygate, "operation=refuse").await;
    let counts: Vec<_> = refused.iter().map(|event| event["details"]["count"].as_u64().unwrap()).collect();
    assert!(counts.len() <= 2 && counts.iter().sum::<u64>() == 26, "{refused:?}");
    assert_eq!(refused[0]["client_ip"], "127.0.0.1");
    if let [only] = &refused[..] {
        assert_eq!(only["details"]["statuses"], json!({"401": 1, "403": 25}));
        let routes = json!(["POST /v2alpha1/apiKeys:selfRevoke", "POST /v2alpha1/admin/apiKeys:derive"]);
        assert_eq!(only["details"]["routes"], routes);
    }
}

/// Stops the process, which writes what was counted since the last full minute, and starts the next one.
async fn write_what_was_counted(keygate: &mut Keygate) {
    // Before the line, a stop signal kills the process.
    wait_for(async || if keygate.log().contains("is serving") { Ok(()) } else { Err("not serving yet".into()) }).await;
    keygate.restart();
}

#[tokio::test]
async fn failed_verifications_are_gathered_by_reason_and_key() {
    let mut keygate = Keygate::serve_admin(&json!({}));
    let (id, secret) = keygate.issue(json!({})).await;
    keygate.revoke(&id).await;
    let verify = json!({"credential": secret});
    for _ in 0..5 {
        keygate.send_json("POST /v2alpha1/admin/apiKeys:verify", &verify).await;
    }
    let unknown = "an-unknown-credential-of-a-stranger";
    let batch = json!({"requests": [{"credential": secret}, {"credential": unknown}, {"credential": unknown}]});
    keygate.send_json("POST /v2alpha1/admin/apiKeys:batchVerify", &batch).await;
    write_what_was_counted(&mut keygate).await;
    let failed = events(&keygate, "operation=APIKeyVerificationFailed").await;
    let count = |key: &Value, reason: &str, kind: &str| -> u64 {
        let is_same = |event: &&Value| {
            let details = &event["details"];
            event["key_id"] == *key && details["reason"] == reason && details["credential_type"] == kind
        };
        failed.iter().filter(is_same).map(|event| event["details"]["count"].as_u64().unwrap()).sum()
    };
    assert_eq!(count(&json!(id), "The API key has been revoked.", "issued"), 6, "{failed:?}");
    assert_eq!(count(&Value::Null, "API key not found", "imported"), 2, "{failed:?}");
    assert!(failed.len() <= 4 && failed[0]["client_ip"] == "127.0.0.1", "{failed:?}");
    assert!(!Value::from(failed).to_string().contains(unknown));
}

#[tokio::test]
async fn commands_list_follow_export_and_verify() {
    let output = tempfile::tempdir().unwrap();
    let file = output.path().join("audit.jsonl");
    let keygate = Keygate::serve_admin(&json!({"audit": {"output": file}}));
    let (id, _) = keygate.issue(json!({})).await;
    keygate.revoke(&id).await;
    wait_until_sealed(&keygate).await;
    let listed = audit(&keygate, &["list", "--key", &id]);
    assert!(listed.code == Some(0) && listed.stdout.contains("IssuedAPIKeyRevoked"), "{listed:?}");
    let json = audit(&keygate, &["list", "--operation", "revoke", "--format", "json"]);
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(names(json["audit_events"].as_array().unwrap()), ["IssuedAPIKeyRevoked"]);
    let tail = audit(&keygate, &["tail", "--no-follow", "-n", "1", "--format", "jsonpath=$.event"]);
    assert_eq!((tail.code, &*tail.stdout), (Some(0), "IssuedAPIKeyRevoked\n"));
    let exported = audit(&keygate, &["export"]);
    let lines: Vec<Value> = exported.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(names(&lines), ["IssuedAPIKeyCreated", "IssuedAPIKeyRevoked"]);
    let copy = output.path().join("export.jsonl");
    let exported = audit(&keygate, &["export", "-o", copy.to_str().unwrap()]);
    assert_eq!(exported.code, Some(0), "{exported:?}");
    let log = std::fs::read_to_string(&file).unwrap();
    assert!(log.lines().count() >= 2 && lines.iter().all(|line| log.contains(&line.to_string())), "{log}");
    for against in [&file, &copy] {
        let verified = verify(&keygate, &["--against", against.to_str().unwrap()]);
        assert_eq!(verified.code, Some(0), "{verified:?}");
    }
    let gone = lines[0].to_string().replace("\"seq\":1", "\"seq\":99");
    std::fs::write(&copy, format!("{gone}\n")).unwrap();
    let verified = verify(&keygate, &["--against", copy.to_str().unwrap()]);
    assert!(verified.code == Some(1) && verified.stdout.contains("to 99 of chain"), "{verified:?}");
}
