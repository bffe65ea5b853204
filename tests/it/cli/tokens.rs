//! `verify`, `batch-verify`, `derive-token` and `self-revoke`.

use serde_json::json;

use super::{cli, failure, issue, json, rows, run, run_with_stdin};
use crate::support::keygate::Keygate;

#[test]
fn verify_reports_the_result_on_stderr_and_by_exit_code() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let (id, secret) = issue(&keygate, "n");
    for arguments in [&["verify", &secret][..], &["validate", &secret], &["verify", &secret, "--no-cache"]] {
        let valid = run(cli(&keygate, &["keys"]).args(arguments));
        assert_eq!((valid.code, valid.stderr.as_str()), (Some(0), "API key is VALID\n"));
        let expected = [
            ("KEY ID", id.as_str()),
            ("IS VALID", "true"),
            ("STATUS", "KEY_STATUS_ACTIVE"),
            ("ACTOR ID", "ada"),
            ("SCOPES", "read,write"),
        ];
        assert_eq!(rows(&valid.stdout), expected);
    }
    assert_eq!(run_with_stdin(&mut cli(&keygate, &["keys", "verify", "-"]), &format!("{secret}\n")).code, Some(0));

    json(&keygate, &["keys", "issued", "revoke", &id]);
    let invalid = run(&mut cli(&keygate, &["keys", "verify", &secret]));
    assert_eq!(invalid.code, Some(1));
    assert!(invalid.stderr.starts_with("API key is INVALID\n"), "{}", invalid.stderr);
    assert_eq!(rows(&invalid.stdout)[1], ("IS VALID", "false"));
    assert_eq!(json(&keygate, &["keys", "verify", &secret])["error_code"], "VERIFICATION_ERROR_REVOKED");
    let empty = failure(&mut cli(&keygate, &["keys", "verify", ""]));
    assert!(empty.starts_with("Error: verify API key: "), "{empty}");
}

#[test]
fn batch_verify_accepts_any_number_of_credentials() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let (id, secret) = issue(&keygate, "n");
    let finished = run(&mut cli(&keygate, &["keys", "batch-verify", &secret, "nonsense", "--no-cache"]));
    assert_eq!((finished.code, finished.stderr.as_str()), (Some(0), ""));
    let lines: Vec<Vec<&str>> =
        finished.stdout.lines().map(|line| line.split('\t').filter(|cell| !cell.is_empty()).collect()).collect();
    assert_eq!(lines[0], ["KEY ID", "IS VALID", "STATUS", "ACTOR ID", "SCOPES", "ERROR"]);
    assert_eq!(lines[1], [id.as_str(), "true", "KEY_STATUS_ACTIVE", "ada", "read,write"]);
    assert_eq!(lines[2], ["false", "KEY_STATUS_UNSPECIFIED", "API key not found"]);

    // More than the maximum of one API call.
    let credentials = format!("{secret}\nnonsense\n\n").repeat(125);
    let finished = run_with_stdin(&mut cli(&keygate, &["keys", "batch-verify", "-", "--format", "json"]), &credentials);
    let response: serde_json::Value = serde_json::from_str(&finished.stdout).unwrap();
    let verdicts: Vec<_> =
        response["results"].as_array().unwrap().iter().map(|verdict| verdict["is_valid"] == true).collect();
    assert_eq!(verdicts, [true, false].repeat(125));
}

#[test]
fn derived_jwt_and_macaroon_are_valid() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let (id, secret) = issue(&keygate, "n");
    for (algorithm, prefix) in [("jwt", "eyJ"), ("macaroon", "mc_v1_")] {
        let arguments = ["keys", "derive-token", &secret, "--algorithm", algorithm, "--ttl", "1h30m"];
        let finished = run(cli(&keygate, &arguments).args(["--claims", r#"{"order":7}"#]));
        assert_eq!((finished.code, finished.stderr.as_str()), (Some(0), ""));
        let rows = rows(&finished.stdout);
        assert_eq!(rows.iter().map(|row| row.0).collect::<Vec<_>>(), ["TOKEN", "EXPIRE TIME"]);
        assert!(rows[0].1.starts_with(prefix), "{}", rows[0].1);
        let verdict = json(&keygate, &["keys", "verify", rows[0].1]);
        assert_eq!((&verdict["is_valid"], &verdict["key_id"]), (&json!(true), &json!(id)));
        assert_eq!((&verdict["expire_time"], &verdict["metadata"]["order"]), (&json!(rows[1].1), &json!(7)));
    }
    let token = json(&keygate, &["keys", "derive", &secret]);
    assert_eq!(run(cli(&keygate, &["keys", "verify"]).arg(token["token"]["token"].as_str().unwrap())).code, Some(0));
    for (arguments, words) in [
        (&["--ttl", "2d"][..], "Error: derive token: "),
        (&["--claims", "[]"], "--claims must be a JSON object"),
        (&["--algorithm", "paseto"], "jwt, macaroon"),
    ] {
        let error = failure(cli(&keygate, &["keys", "derive-token", &secret]).args(arguments));
        assert!(error.contains(words), "{arguments:?}: {error}");
    }
}

#[test]
fn key_can_be_revoked_with_its_own_secret() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let (id, secret) = issue(&keygate, "n");
    let withdrawn = failure(&mut cli(&keygate, &["keys", "self-revoke", &secret, "--reason", "privilege_withdrawn"]));
    assert_eq!(withdrawn, "Error: revoke API key: PRIVILEGE_WITHDRAWN is not allowed for self-revocation\n");
    let finished = run_with_stdin(
        &mut cli(&keygate, &["keys", "self-revoke", "-", "--reason", "key_compromise"]),
        &format!("{secret}\n"),
    );
    assert_eq!((finished.code, finished.stdout.as_str()), (Some(0), ""));
    assert_eq!(finished.stderr, "API key is revoked\n");
    let key = json(&keygate, &["keys", "issued", "get", &id]);
    assert_eq!(key["revocation_reason"], "REVOCATION_REASON_KEY_COMPROMISE");
    assert_eq!(json(&keygate, &["keys", "self-revoke", &secret]), json!({}), "self-revocation is idempotent");
    let unknown = failure(&mut cli(&keygate, &["keys", "self-revoke", "nonsense"]));
    assert!(unknown.starts_with("Error: revoke API key: "), "{unknown}");
}
