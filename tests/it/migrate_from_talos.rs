//! `keygate migrate from-talos`: the keys of another server are copied, and their secrets are verified as there.

mod fixture;

use std::path::Path;
use std::process::{Command, Stdio};

use keygate_test_servers::{Postgres, Process, WAIT_TIMEOUT, eventually};
use serde_json::{Value, json};
use tempfile::TempDir;

use self::fixture::{add_keys, migrate, outcomes, serve};
use crate::admin_auth;
use crate::support::keygate::{Keygate, command};

/// The exit code, the report and stderr of a command.
fn run(mut command: Command) -> (i32, Value, String) {
    let output = command.output().unwrap();
    let (stdout, stderr) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    let report = if stdout.is_empty() { Value::Null } else { serde_json::from_str(&stdout).unwrap() };
    (output.status.code().unwrap(), report, stderr)
}

/// Sums a count of both kinds.
fn sum(report: &Value, name: &str) -> u64 {
    report["kinds"].as_array().unwrap().iter().map(|kind| kind[name].as_u64().unwrap()).sum()
}

/// The number of keys in the SQLite file of a folder, which another process may use.
fn stored(folder: &Path) -> u64 {
    let file = folder.join("keys.db");
    let query = "SELECT count(*) FROM keys";
    let output = Command::new("sqlite3").arg("-readonly").arg(file).arg(query).output();
    output.ok().and_then(|output| String::from_utf8(output.stdout).ok()?.trim().parse().ok()).unwrap_or_default()
}

#[tokio::test]
async fn ten_thousand_keys_are_copied_in_two_runs_and_verified_as_before() {
    const KEYS: u32 = 10_000;
    let [old, new] = [(); 2].map(|()| TempDir::new().unwrap());
    let secrets = add_keys(old.path(), KEYS).await;
    let source = serve(old.path());
    let listed = [source.list("issued", "page_size=1000").await, source.list("imported", "page_size=1000").await];
    assert_eq!(listed.iter().map(Vec::len).sum::<usize>(), secrets.len());

    // The first run is killed in the middle.
    let mut first = migrate(&source, new.path(), &json!({}), &["--page-size", "20"]);
    let mut first = Process::start(first.stdout(Stdio::null()).stderr(Stdio::null()));
    eventually("a page is stored", || stored(new.path()) > 0);
    first.kill();
    let before = stored(new.path());
    assert!((1..u64::from(KEYS)).contains(&before), "{before}");

    let (code, report, errors) = run(migrate(&source, new.path(), &json!({}), &[]));
    assert_eq!(code, 0, "{errors}");
    assert_eq!((sum(&report, "already_present"), sum(&report, "migrated")), (before, u64::from(KEYS) - before));
    let states = ["active", "revoked", "expired"].map(|name| sum(&report, name));
    assert_eq!(states, [7000, 2000, 1000], "{report}");
    assert_eq!(report["not_migrated"], json!([]));
    let warnings = report["warnings"].as_array().unwrap();
    assert!(
        warnings.len() == 1 && warnings[0].as_str().unwrap().contains("max_ttl"),
        "of keys without an expiry: {report}"
    );

    let target = serve(new.path());
    let copied = [target.list("issued", "page_size=1000").await, target.list("imported", "page_size=1000").await];
    assert!(copied == listed, "the lists are not equal");
    let (expected, found) = (outcomes(&source, &secrets).await, outcomes(&target, &secrets).await);
    for ((secret, expected), found) in secrets.iter().zip(&expected).zip(&found) {
        assert_eq!(found, expected, "{secret}");
    }
    let count = |code: &str| expected.iter().filter(|outcome| outcome["error_code"] == code).count();
    assert_eq!(count("VERIFICATION_ERROR_REVOKED"), 2000);
    assert_eq!(count("VERIFICATION_ERROR_EXPIRED"), 1000);
    assert_eq!(count("VERIFICATION_ERROR_IP_NOT_ALLOWED"), 1000);
    assert_eq!(expected.iter().filter(|outcome| outcome["is_valid"] == true).count(), 6000);
    assert_audited(&target, new.path(), KEYS);
}

/// Every key has one row in the audit trail, and the trail is authentic.
fn assert_audited(target: &Keygate, folder: &Path, keys: u32) {
    let config = target.path().join("keygate.json");
    let (code, _, errors) = run({
        let mut verify = command();
        verify.args(["audit", "verify", "--config"]).arg(config);
        verify
    });
    assert_eq!(code, 0, "{errors}");
    let query =
        "SELECT count(DISTINCT key_id), count(*) FROM audit_events WHERE request_id LIKE 'migrate-from-talos-%'";
    let rows = Command::new("sqlite3").arg("-readonly").arg(folder.join("keys.db")).arg(query).output().unwrap();
    assert_eq!(String::from_utf8(rows.stdout).unwrap().trim(), format!("{keys}|{keys}"));
}

#[tokio::test]
async fn dry_run_reports_and_writes_nothing_and_differing_keys_are_conflicts() {
    let [old, new] = [(); 2].map(|()| TempDir::new().unwrap());
    add_keys(old.path(), 40).await;
    let source = serve(old.path());
    let (code, _, errors) = run(migrate(&source, new.path(), &json!({}), &["--dry-run"]));
    assert!(code == 1 && !new.path().join("keys.db").exists(), "{errors}");
    let mut up = command();
    up.args(["migrate", "up", "--database", &fixture::dsn(new.path())]);
    assert_eq!(run(up).0, 0);
    let (code, report, errors) = run(migrate(&source, new.path(), &json!({}), &["--dry-run"]));
    assert_eq!((code, sum(&report, "migrated"), stored(new.path())), (0, 40, 0), "{errors}");
    assert!(report["dry_run"] == true && errors.contains("Nothing was written"), "{errors}");

    assert_eq!(run(migrate(&source, new.path(), &json!({}), &[])).0, 0);
    let active = source.list("issued", "filter=status=KEY_STATUS_ACTIVE").await;
    let changed = active[0]["key_id"].as_str().unwrap();
    source.revoke(changed).await;
    let (code, report, errors) = run(migrate(&source, new.path(), &json!({}), &[]));
    assert_eq!((code, sum(&report, "already_present"), sum(&report, "conflicts")), (1, 39, 1), "{errors}");
    assert_eq!(report["not_migrated"][0]["key_id"], changed);
    let reason = report["not_migrated"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("status") && errors.contains(changed), "{reason}");

    let target = serve(new.path());
    let (code, _, errors) = run(migrate(&source, new.path(), &json!({}), &[]));
    assert!(code == 1 && errors.contains(&format!("in use by process {}", target.process.id())), "{errors}");
}

#[tokio::test]
async fn keys_are_not_copied_if_their_secrets_would_not_be_accepted() {
    let [old, new] = [(); 2].map(|()| TempDir::new().unwrap());
    let secrets = add_keys(old.path(), 40).await;
    let source = serve(old.path());
    let credential = |index: usize| {
        let file = old.path().join(format!("credential-{index}"));
        std::fs::write(&file, &secrets[index]).unwrap();
        file.display().to_string()
    };
    let (issued, imported, revoked) = (credential(8), credential(9), credential(10));
    let other = json!({"secrets": {"hmac": {"current": "another secret of more than thirty-two characters"}}});
    let prefix = json!({"credentials": {"api_keys": {"prefix": {"current": "other"}}}});
    let age = json!({"credentials": {"api_keys": {"max_ttl": "24h", "default_ttl": "1h"}}});
    for (settings, arguments, words) in [
        (&other, vec![], "it is not proven"),
        (&other, vec!["--credential-file", &*imported], "it is not proven"),
        (&other, vec!["--credential-file", &*issued], "invalid API key checksum"),
        (&prefix, vec!["--credential-file", &*issued], "prefix not allowed"),
        (&age, vec!["--credential-file", &*issued], "timestamp out of range"),
        (&json!({}), vec!["--credential-file", &*revoked], "VERIFICATION_ERROR_REVOKED"),
    ] {
        let (code, report, errors) = run(migrate(&source, new.path(), settings, &arguments));
        assert!(code == 1 && report.is_null() && errors.contains(words), "{words}: {errors}");
        assert!(secrets.iter().all(|secret| !errors.contains(secret)));
        assert_eq!(stored(new.path()), 0, "{words}");
    }
    let (code, report, errors) = run(migrate(&source, new.path(), &other, &["--unproven-secret"]));
    assert!(code == 0 && sum(&report, "migrated") == 40 && errors.contains("not proven"), "{errors}");
}

#[tokio::test]
async fn settings_under_which_keys_would_end_early_are_warnings() {
    let [old, new] = [(); 2].map(|()| TempDir::new().unwrap());
    add_keys(old.path(), 40).await;
    let source = serve(old.path());
    let settings = json!({"credentials": {"issuer": "x", "api_keys": {"max_ttl": "24h", "default_ttl": "1h",
        "prefix": {"public_current": null}}}});
    let (code, report, errors) = run(migrate(&source, new.path(), &settings, &[]));
    let warnings = report["warnings"].to_string();
    assert!(code == 0 && warnings.contains("public_current") && warnings.contains("max_ttl"), "{warnings} {errors}");
    assert!(errors.contains("Warning: "), "{errors}");
}

#[tokio::test]
async fn postgresql_receives_keys_while_servers_use_it() {
    let old = TempDir::new().unwrap();
    let secrets = add_keys(old.path(), 20).await;
    let (source, postgres) = (serve(old.path()), Postgres::start());
    let db = json!({"db": {"dsn": postgres.url("postgres"), "auto_migrate": true}});
    let target = admin_auth::serve(&db);
    // The server has cached that there are no such keys.
    let unknown = outcomes(&target, &secrets).await;
    assert!(unknown.iter().all(|outcome| outcome["error_code"] == "VERIFICATION_ERROR_NOT_FOUND"));
    let mut copy = migrate(&source, old.path(), &db, &[]);
    let mut copy = Process::start(copy.stdout(Stdio::null()).stderr(Stdio::null()));
    assert!(copy.wait(WAIT_TIMEOUT).success());
    let expected = outcomes(&source, &secrets).await;
    crate::support::wait::wait_for(async || {
        let found = outcomes(&target, &secrets).await;
        if found == expected { Ok(()) } else { Err("the outcomes differ".into()) }
    })
    .await;
}
