//! `keygate keys imported`, one key at a time.

use serde_json::json;

use super::{UNKNOWN, cli, failure, json, rows, run, run_with_stdin, success, text};
use crate::support::keygate::Keygate;

const RAW: &str = "sk_live_a-secret-of-another-system";

#[test]
fn imported_key_is_created_updated_revoked_and_deleted() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let arguments = ["keys", "imported", "import", "Payments", "--actor", "ada", "--ttl", "30d", "--scopes", "pay"];
    let imported = run_with_stdin(cli(&keygate, &arguments).args(["--raw-key", "-"]), &format!("{RAW}\n"));
    assert_eq!((imported.code, imported.stderr.as_str()), (Some(0), ""));
    let id = rows(&imported.stdout)[0].1.to_owned();
    let expected = [
        ("KEY ID", id.as_str()),
        ("NAME", "Payments"),
        ("ACTOR ID", "ada"),
        ("STATUS", "KEY_STATUS_ACTIVE"),
        ("SCOPES", "pay"),
    ];
    assert_eq!(rows(&imported.stdout), expected);
    assert_eq!(success(&keygate, &["keys", "imported", "get", &id]), imported.stdout);
    assert_eq!(success(&keygate, &["keys", "imported", "list", "-q"]), format!("{id}\n"));
    assert_eq!(run(&mut cli(&keygate, &["keys", "verify", RAW])).code, Some(0));

    let key = json(&keygate, &["keys", "imported", "update", &id, "--name", "Billing", "--scopes", ""]);
    assert_eq!((&key["name"], &key["scopes"]), (&json!("Billing"), &json!([])));
    let key = json(&keygate, &["keys", "imported", "revoke", &id, "--reason", "superseded"]);
    assert_eq!(key["status"], "KEY_STATUS_REVOKED");
    let duplicate = failure(cli(&keygate, &arguments).args(["--raw-key", RAW]));
    assert_eq!(duplicate, "Error: import API key: key already imported (duplicate detected)\n");

    assert_eq!(success(&keygate, &["keys", "imported", "delete", &id]), format!("ID\t{id}\nDeleted\ttrue\n"));
    let error = failure(&mut cli(&keygate, &["keys", "imported", "delete", &id]));
    assert_eq!(error, "Error: delete imported API key: imported key not found\n");
    let key = json(&keygate, &[&arguments[..], &["--raw-key", RAW]].concat());
    assert_eq!(text(&key["key_id"]), id, "a deleted key can be imported again");
    assert_eq!(json(&keygate, &["keys", "imported", "delete", &id]), json!({"id": id, "deleted": true}));
}

#[test]
fn raw_key_is_never_printed() {
    let keygate = Keygate::dev(&["--ephemeral"]);
    let import = ["keys", "imported", "import", "n", "--actor", "ada", "--raw-key", RAW];
    let id = text(&json(&keygate, &import)["key_id"]);
    for arguments in [
        &import[..],
        &["keys", "imported", "get", &id],
        &["keys", "imported", "list"],
        &["keys", "imported", "revoke", &id],
        &["keys", "verify", RAW],
        &["keys", "batch-verify", RAW],
        &["keys", "imported", "import", "n", "--raw-key", RAW],
        &["keys", "imported", "import", "n", "--actor", "ada", "--ttl", "nonsense", "--raw-key", RAW],
    ] {
        for format in ["json", "table"] {
            let finished = run(cli(&keygate, arguments).args(["--format", format]));
            assert!(!format!("{finished:?}").contains(RAW), "{arguments:?}: {finished:?}");
        }
    }
    let error = failure(&mut cli(&keygate, &["keys", "imported", "get", UNKNOWN]));
    assert_eq!(error, "Error: get imported API key: imported key not found\n");
}
