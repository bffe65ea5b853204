//! What is done with a credential: verify, derive, revoke.

use serde_json::json;

use super::{cli, end, end_with, fail, issue, json, rows};
use crate::support::keygate::Keygate;

#[test]
fn a_verdict_is_said_on_stderr_and_by_the_exit_code() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let (id, secret) = issue(&keygate, "n");
    for arguments in [&["verify", &secret][..], &["validate", &secret], &["verify", &secret, "--no-cache"]] {
        let good = end(cli(&keygate, &["keys"]).args(arguments));
        assert_eq!((good.code, good.stderr.as_str()), (Some(0), "API key is VALID\n"));
        let expected = [
            ("KEY ID", id.as_str()),
            ("IS VALID", "true"),
            ("STATUS", "KEY_STATUS_ACTIVE"),
            ("ACTOR ID", "ada"),
            ("SCOPES", "read,write"),
        ];
        assert_eq!(rows(&good.stdout), expected);
    }
    assert_eq!(end_with(&mut cli(&keygate, &["keys", "verify", "-"]), &format!("{secret}\n")).code, Some(0));

    json(&keygate, &["keys", "issued", "revoke", &id]);
    let bad = end(&mut cli(&keygate, &["keys", "verify", &secret]));
    assert_eq!(bad.code, Some(1));
    assert!(bad.stderr.starts_with("API key is INVALID\n"), "{}", bad.stderr);
    assert_eq!(rows(&bad.stdout)[1], ("IS VALID", "false"));
    assert_eq!(json(&keygate, &["keys", "verify", &secret])["error_code"], "VERIFICATION_ERROR_REVOKED");
    let empty = fail(&mut cli(&keygate, &["keys", "verify", ""]));
    assert!(empty.starts_with("Error: verify API key: "), "{empty}");
}

#[test]
fn many_credentials_are_verified_at_once() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let (id, secret) = issue(&keygate, "n");
    let ended = end(&mut cli(&keygate, &["keys", "batch-verify", &secret, "nonsense", "--no-cache"]));
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    let lines: Vec<Vec<&str>> =
        ended.stdout.lines().map(|line| line.split('\t').filter(|cell| !cell.is_empty()).collect()).collect();
    assert_eq!(lines[0], ["KEY ID", "IS VALID", "STATUS", "ACTOR ID", "SCOPES", "ERROR"]);
    assert_eq!(lines[1], [id.as_str(), "true", "KEY_STATUS_ACTIVE", "ada", "read,write"]);
    assert_eq!(lines[2], ["false", "KEY_STATUS_UNSPECIFIED", "API key not found"]);

    // More than the API takes in one call.
    let credentials = format!("{secret}\nnonsense\n\n").repeat(125);
    let ended = end_with(&mut cli(&keygate, &["keys", "batch-verify", "-", "--format", "json"]), &credentials);
    let answer: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    let verdicts: Vec<_> =
        answer["results"].as_array().unwrap().iter().map(|verdict| verdict["is_valid"] == true).collect();
    assert_eq!(verdicts, [true, false].repeat(125));
}

#[test]
fn tokens_of_both_kinds_are_derived_and_good() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let (id, secret) = issue(&keygate, "n");
    for (algorithm, beginning) in [("jwt", "eyJ"), ("macaroon", "mc_v1_")] {
        let arguments = ["keys", "derive-token", &secret, "--algorithm", algorithm, "--ttl", "1h30m"];
        let ended = end(cli(&keygate, &arguments).args(["--claims", r#"{"order":7}"#]));
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
        let rows = rows(&ended.stdout);
        assert_eq!(rows.iter().map(|row| row.0).collect::<Vec<_>>(), ["TOKEN", "EXPIRE TIME"]);
        assert!(rows[0].1.starts_with(beginning), "{}", rows[0].1);
        let verdict = json(&keygate, &["keys", "verify", rows[0].1]);
        assert_eq!((&verdict["is_valid"], &verdict["key_id"]), (&json!(true), &json!(id)));
        assert_eq!((&verdict["expire_time"], &verdict["metadata"]["order"]), (&json!(rows[1].1), &json!(7)));
    }
    let token = json(&keygate, &["keys", "derive", &secret]);
    assert_eq!(end(cli(&keygate, &["keys", "verify"]).arg(token["token"]["token"].as_str().unwrap())).code, Some(0));
    for (arguments, words) in [
        (&["--ttl", "2d"][..], "Error: derive token: "),
        (&["--claims", "[]"], "--claims must be a JSON object"),
        (&["--algorithm", "paseto"], "jwt, macaroon"),
    ] {
        let error = fail(cli(&keygate, &["keys", "derive-token", &secret]).args(arguments));
        assert!(error.contains(words), "{arguments:?}: {error}");
    }
}

#[test]
fn whoever_has_a_key_can_end_it() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let (id, secret) = issue(&keygate, "n");
    let withdrawn = fail(&mut cli(&keygate, &["keys", "self-revoke", &secret, "--reason", "privilege_withdrawn"]));
    assert_eq!(withdrawn, "Error: revoke API key: PRIVILEGE_WITHDRAWN is not allowed for self-revocation\n");
    let ended = end_with(
        &mut cli(&keygate, &["keys", "self-revoke", "-", "--reason", "key_compromise"]),
        &format!("{secret}\n"),
    );
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), ""));
    assert_eq!(ended.stderr, "API key is revoked\n");
    let key = json(&keygate, &["keys", "issued", "get", &id]);
    assert_eq!(key["revocation_reason"], "REVOCATION_REASON_KEY_COMPROMISE");
    assert_eq!(json(&keygate, &["keys", "self-revoke", &secret]), json!({}), "a second time changes nothing");
    let unknown = fail(&mut cli(&keygate, &["keys", "self-revoke", "nonsense"]));
    assert!(unknown.starts_with("Error: revoke API key: "), "{unknown}");
}
