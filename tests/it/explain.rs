//! `POST /keygate/v1/explain` and `keygate explain`: the decision is that of the gateway, and nothing is charged, recorded or repeated.

use std::io::Write;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::admin::AdminResponse;
use crate::support::keygate::{Keygate, command};
use crate::support::upstream::Upstream;
use crate::support::wait::wait_for;

const EXPLAIN: &str = "POST /keygate/v1/explain";

fn serve(upstream: &Upstream) -> Keygate {
    let routes = json!([
        {"name": "orders", "path_prefix": "/orders", "upstream": "api", "scopes": ["read:orders"]},
        {"name": "plain", "path_prefix": "/plain", "upstream": "api"},
    ]);
    Keygate::serve(
        &json!({"routes": routes, "upstreams": {"api": {"endpoints": [upstream.url]}}}),
        &json!({"last_used": {"flush_interval": "50ms"}}),
    )
}

async fn explain(keygate: &Keygate, body: &Value) -> AdminResponse {
    let response = keygate.send_json(EXPLAIN, body).await;
    assert_eq!(response.status, 200, "{response:?}");
    response
}

/// The steps that failed, with their codes.
fn failures(response: &AdminResponse) -> Vec<(String, String)> {
    let steps = response.body["steps"].as_array().unwrap();
    let failed = steps.iter().filter(|step| step["outcome"] == "failed");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    failed.map(|step| (text(&step["step"]), text(&step["code"]))).collect()
}

#[tokio::test]
async fn explanation_agrees_with_the_response_of_the_gateway() {
    let upstream = Upstream::start();
    let mut keygate = serve(&upstream);
    let (_, reader) = keygate.issue(json!({"scopes": ["read:orders"]})).await;
    let (revoked_id, revoked) = keygate.issue(json!({"scopes": ["read:orders"]})).await;
    keygate.revoke(&revoked_id).await;
    let (_, limited) = keygate.issue(json!({"rate_limit_policy": {"quota": 1, "window": "3600s"}})).await;
    let (_, elsewhere) = keygate.issue(json!({"ip_restriction": {"allowed_cidrs": ["10.0.0.0/8"]}})).await;
    let (old_id, old) = keygate.issue(json!({})).await;
    let rotate = format!("POST /v2alpha1/admin/issuedApiKeys/{old_id}:rotate");
    assert_eq!(keygate.send_json(&rotate, &json!({"revoke_old_after": "1h"})).await.status, 201);
    let forged = format!("{}0", &reader[..reader.len() - 1]);
    let credentials = [&reader, &revoked, &limited, &elsewhere, &old, &forged, "sk_unknown"];
    // Twice: the second use of a key with a quota of one is rejected.
    for round in 0..2 {
        for credential in credentials {
            for path in ["/orders/1?page=2", "/plain", "/nowhere"] {
                let body = json!({"credential": credential, "url": path, "clientIp": "127.0.0.1"});
                let explained = explain(&keygate, &body).await;
                assert!(!explained.body.to_string().contains(credential), "the credential is not repeated");
                let response = keygate.call(path, credential).await;
                let status = response.status().as_u16();
                let decision = &explained.body["decision"];
                let expected = decision["status"].as_u64().unwrap_or(200);
                assert_eq!(expected, u64::from(status), "{round} {path} {explained:?}");
                assert_eq!(decision["allowed"], status == 200);
                if status != 200 {
                    let problem: Value = response.json().await.unwrap();
                    assert_eq!(decision["code"], problem["code"]);
                    let failed = failures(&explained);
                    assert!(failed.contains(&(
                        decision["step"].as_str().unwrap().into(),
                        decision["code"].as_str().unwrap().into()
                    )));
                }
            }
        }
    }
    let explained = explain(&keygate, &json!({"credential": revoked, "url": "https://api.example.com/plain"})).await;
    assert_eq!(failures(&explained), [("status".into(), "credential_revoked".into())]);
    assert_eq!(explained.text("/key/key_id"), revoked_id);
    assert_eq!((explained.text("/route"), explained.text("/credential_type")), ("plain".into(), "issued".into()));
    let explained = explain(&keygate, &json!({"key_id": old_id, "url": "/plain"})).await;
    assert_eq!(explained.body["decision"], json!({"allowed": true}));
    assert!(explained.body["key"]["replaced_by"].is_string() && explained.body["key"]["revoke_time"].is_string());
    let unknown = explain(&keygate, &json!({"key_id": "11111111-2222-4333-8444-555555555555"})).await;
    assert_eq!(
        (failures(&unknown), &unknown.body["key"]),
        (vec![("record".into(), "credential_invalid".into())], &Value::Null)
    );
    let log = keygate.whole_log();
    assert!(credentials.iter().all(|credential| !log.contains(*credential)));
}

#[tokio::test]
async fn explaining_records_no_use_and_charges_nothing() {
    let upstream = Upstream::start();
    let keygate = serve(&upstream);
    let policy = json!({"rate_limit_policy": {"quota": 1, "window": "3600s"}});
    let (id, key) = keygate.issue(policy).await;
    let (used_id, used) = keygate.issue(json!({})).await;
    for _ in 0..10 {
        let explained = explain(&keygate, &json!({"credential": key, "url": "/plain"})).await;
        assert_eq!(explained.body["decision"]["allowed"], true, "{explained:?}");
    }
    assert_eq!(keygate.call("/plain", &used).await.status(), 200);
    let last_used = async |id: &str| {
        keygate.send(&format!("GET /v2alpha1/admin/issuedApiKeys/{id}"), "").await.body["last_used_time"].clone()
    };
    wait_for(async || match last_used(&used_id).await {
        Value::Null => Err("the use is not recorded".to_owned()),
        _ => Ok(()),
    })
    .await;
    assert_eq!(last_used(&id).await, Value::Null);
    assert_eq!(keygate.call("/plain", &key).await.status(), 200);
    // An absent key is not remembered as absent.
    let import = "sk_live_later";
    let explained = explain(&keygate, &json!({"credential": import, "url": "/plain"})).await;
    assert_eq!(failures(&explained), [("record".into(), "credential_invalid".into())]);
    keygate.import(json!({"raw_key": import})).await;
    assert_eq!(keygate.call("/plain", import).await.status(), 200);
}

#[tokio::test]
async fn invalid_questions_are_rejected_without_the_credential() {
    let upstream = Upstream::start();
    let keygate = serve(&upstream);
    for body in [
        json!({}),
        json!({"credential": ""}),
        json!({"credential": "sk_secret", "key_id": "11111111-2222-4333-8444-555555555555"}),
        json!({"credential": "x".repeat(8193)}),
        json!({"key_id": "sk_secret"}),
        json!({"credential": "sk_secret", "method": "GET"}),
        json!({"credential": "sk_secret", "url": "sk_secret"}),
        json!({"credential": "sk_secret", "url": "/a", "method": "G T"}),
        json!({"credential": "sk_secret", "client_ip": "10.0.0.1:80"}),
        json!({"credential": ["sk_secret"]}),
    ] {
        let response = keygate.send_json(EXPLAIN, &body).await;
        assert_eq!((response.status, response.reason()), (400, "BAD_REQUEST"), "{body}");
        assert!(!response.body.to_string().contains("sk_secret"), "{response:?}");
    }
    assert_eq!(keygate.send("GET /keygate/v1/explain", "").await.status, 404);
}

#[tokio::test]
async fn one_command_says_why_a_key_is_rejected() {
    let upstream = Upstream::start();
    let keygate = serve(&upstream);
    let (id, key) = keygate.issue(json!({"scopes": ["read:orders"]})).await;
    let run = |arguments: &[&str], stdin: &str| {
        let mut process = command()
            .arg("explain")
            .args(arguments)
            .args(["--endpoint", &keygate.admin])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        process.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
        let output = process.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, steps, verdict) = run(&["-", "--url", "/orders/1", "--client-ip", "127.0.0.1"], &key);
    assert_eq!((code, &*verdict), (Some(0), "The request is ACCEPTED\n"), "{steps}");
    let names: Vec<_> = steps.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names, ["format", "secret", "record", "status", "address", "audience", "route", "scopes", "limits"]);
    keygate.revoke(&id).await;
    for arguments in [&[&*key, "--url", "/orders/1"][..], &["--key-id", &id, "--url", "/orders/1", "--method", "POST"]]
    {
        let (code, steps, verdict) = run(arguments, "");
        assert_eq!((code, &*verdict), (Some(1), "The request is REJECTED: 401 credential_revoked, by status\n"));
        assert!(steps.contains("credential_revoked") && !steps.contains(&key), "{steps}");
    }
    let (_, json, _) = run(&["--key-id", &id, "--format", "jsonpath=$.decision.code"], "");
    assert_eq!(json, "credential_revoked\n");
}
