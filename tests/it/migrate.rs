//! `keygate migrate` on SQLite and PostgreSQL.

use std::path::Path;
use std::process::{Output, Stdio};

use keygate_test_servers::{Postgres, Process, WAIT_TIMEOUT};

use crate::support::keygate::{HMAC_SECRET, command};

fn migrate(dsn: &str, arguments: &[&str]) -> (Output, String) {
    let output = command().arg("migrate").args(arguments).env("DB_DSN", dsn).output().unwrap();
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    (output, text)
}

fn assert_succeeds(dsn: &str, arguments: &[&str]) -> String {
    let (output, text) = migrate(dsn, arguments);
    assert!(output.status.success(), "{arguments:?}: {text}");
    text
}

fn assert_fails(dsn: &str, arguments: &[&str], words: &str) {
    let (output, text) = migrate(dsn, arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {text}");
    assert!(text.contains(words), "{arguments:?}: {text}");
}

fn sqlite(folder: &Path) -> String {
    format!("sqlite://{}", folder.join("keys.db").display())
}

fn assert_up_and_down(dsn: &str, driver: &str) {
    let status = assert_succeeds(dsn, &["status"]);
    assert!(status.contains("Database Status: Not initialized"), "{status}");
    assert!(status.contains(&format!("Database Driver: {driver}")), "{status}");
    assert!(status.contains("Current Version: 0\nLatest Available: 7 (7 pending)"), "{status}");
    assert_succeeds(dsn, &["up"]);
    let status = assert_succeeds(dsn, &["status", "--block"]);
    assert!(status.contains("Database Status: clean"), "{status}");
    assert!(status.contains("Current Version: 7\nLatest Available: 7 (0 pending)"), "{status}");
    assert!(assert_succeeds(dsn, &["down"]).contains("version 6 of 7"));
    assert!(assert_succeeds(dsn, &["status"]).contains("Current Version: 6\nLatest Available: 7 (1 pending)"));
    assert!(assert_succeeds(dsn, &["down", "--steps", "9"]).contains("version 0 of 7"));
    assert!(assert_succeeds(dsn, &["up"]).contains("version 7 of 7"));
    assert!(assert_succeeds(dsn, &["force", "1"]).contains("version 1 of 7"));
    assert_fails(dsn, &["up"], "migration 2 failed");
    assert!(assert_succeeds(dsn, &["status"]).contains("Database Status: clean"));
    assert!(assert_succeeds(dsn, &["force", "7"]).contains("version 7 of 7"));
    assert_fails(dsn, &["force", "8"], "from 0 to 7");
    assert_fails(dsn, &["down", "--steps", "0"], "--steps");
}

#[test]
fn sqlite_migrates_up_and_down() {
    let folder = tempfile::tempdir().unwrap();
    assert_up_and_down(&sqlite(folder.path()), "sqlite");
}

#[test]
fn postgresql_migrates_up_and_down() {
    let server = Postgres::start();
    assert_up_and_down(&server.url("postgres"), "postgres");
}

fn assert_concurrent_migrations(dsn: &str) {
    let nodes: Vec<_> = (0..8)
        .map(|_| {
            let mut command = command();
            Process::start(
                command.args(["migrate", "up", "--database", dsn]).stdout(Stdio::null()).stderr(Stdio::null()),
            )
        })
        .collect();
    for mut node in nodes {
        assert!(node.wait(WAIT_TIMEOUT).success());
    }
    assert!(assert_succeeds(dsn, &["status"]).contains("Current Version: 7"));
}

#[test]
fn concurrent_migrations_of_sqlite_run_once() {
    let folder = tempfile::tempdir().unwrap();
    assert_concurrent_migrations(&sqlite(folder.path()));
}

#[test]
fn concurrent_migrations_of_postgresql_run_once() {
    let server = Postgres::start();
    assert_concurrent_migrations(&server.url("postgres"));
    let exists = server.query("SELECT count(*), bool_and(success) FROM _sqlx_migrations");
    assert_eq!(exists.as_deref(), Some("7|t"));
}

#[test]
fn dirty_or_newer_schema_is_not_migrated() {
    let server = Postgres::start();
    let dsn = server.url("postgres");
    assert_succeeds(&dsn, &["up"]);
    let row = |version: i64, success: bool| {
        let row = format!("INSERT INTO _sqlx_migrations VALUES ({version}, 'x', now(), {success}, '\\x00', 0)");
        assert!(server.query(&row).is_some());
    };
    row(8, false);
    assert!(assert_succeeds(&dsn, &["status"]).contains("Database Status: DIRTY"));
    for command in ["up", "down"] {
        assert_fails(&dsn, &[command], "keygate migrate force");
    }
    assert_succeeds(&dsn, &["force", "7"]);
    assert!(server.query("UPDATE _sqlx_migrations SET checksum = '' WHERE version = 1").is_some());
    assert_fails(&dsn, &["up"], "migration 1 was applied by a Keygate that is not a release of this one");
    assert_succeeds(&dsn, &["force", "7"]);
    assert_succeeds(&dsn, &["up"]);
    row(8, true);
    assert!(
        assert_succeeds(&dsn, &["status", "--block"]).contains("Current Version: 8\nLatest Available: 7 (0 pending)")
    );
    for command in ["up", "down"] {
        assert_fails(&dsn, &[command], "run a newer Keygate");
    }
}

#[test]
fn blocking_status_returns_after_the_migration() {
    let server = Postgres::start();
    let dsn = server.url("postgres");
    let mut waiting = command();
    let waiting = waiting.args(["migrate", "status", "--block", "--database", &dsn]);
    let mut waiting = Process::start(waiting.stdout(Stdio::null()).stderr(Stdio::null()));
    assert_succeeds(&dsn, &["up"]);
    assert!(waiting.wait(WAIT_TIMEOUT).success());
}

#[test]
fn database_is_set_by_flag_variable_or_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let file = path.join("keygate.yaml");
    let text = "credentials: { issuer: x }\ndb: { dsn: 'sqlite://file.db' }";
    std::fs::write(&file, format!("{text}\nsecrets: {{ hmac: {{ current: {HMAC_SECRET} }} }}")).unwrap();
    let run = |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut command = command();
        for name in ["DB_DSN", "DSN"] {
            command.env_remove(name);
        }
        command.args(["migrate", "up"]).args(arguments).envs(variables.iter().copied()).current_dir(path);
        command.output().unwrap()
    };
    let exists = |name: &str| path.join(name).exists();
    let config = file.display().to_string();
    assert!(run(&["--config", &config], &[]).status.success() && exists("file.db"));
    assert!(run(&["--config", &config], &[("DSN", "sqlite://dsn.db")]).status.success() && exists("dsn.db"));
    let both = [("DSN", "sqlite://x.db"), ("DB_DSN", "sqlite://db_dsn.db")];
    assert!(run(&[], &both).status.success() && exists("db_dsn.db") && !exists("x.db"));
    assert!(run(&["--database", "sqlite://flag.db"], &both).status.success() && exists("flag.db"));
    let none = run(&[], &[]);
    assert_eq!(none.status.code(), Some(1));
    assert!(String::from_utf8(none.stderr).unwrap().contains("--database"));
}

#[test]
fn database_password_is_not_printed() {
    for dsn in [
        "postgres://keygate:hunter2@127.0.0.1:1/x",
        "postgres://keygate:hunter2@127.0.0.1:hunter2/x",
        "mysql://hunter2",
    ] {
        let (output, text) = migrate(dsn, &["status"]);
        assert_eq!(output.status.code(), Some(1));
        assert!(!text.contains("hunter2") && text.to_lowercase().contains("dsn"), "{text}");
    }
}
