//! `keygate migrate`, on both databases.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use crate::support::keygate::{HMAC_SECRET, command};
use crate::support::process::Process;
use crate::support::servers::Postgres;

fn migrate(dsn: &str, arguments: &[&str]) -> (Output, String) {
    let output = command().arg("migrate").args(arguments).env("DB_DSN", dsn).output().unwrap();
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    (output, text)
}

fn assert_good(dsn: &str, arguments: &[&str]) -> String {
    let (output, text) = migrate(dsn, arguments);
    assert!(output.status.success(), "{arguments:?}: {text}");
    text
}

fn assert_refused(dsn: &str, arguments: &[&str], words: &str) {
    let (output, text) = migrate(dsn, arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {text}");
    assert!(text.contains(words), "{arguments:?}: {text}");
}

fn sqlite(folder: &Path) -> String {
    format!("sqlite://{}", folder.join("keys.db").display())
}

fn goes_up_and_down(dsn: &str, driver: &str) {
    let status = assert_good(dsn, &["status"]);
    assert!(status.contains("Database Status: Not initialized"), "{status}");
    assert!(status.contains(&format!("Database Driver: {driver}")), "{status}");
    assert!(status.contains("Current Version: 0\nLatest Available: 3 (3 pending)"), "{status}");
    assert_good(dsn, &["up"]);
    let status = assert_good(dsn, &["status", "--block"]);
    assert!(status.contains("Database Status: clean"), "{status}");
    assert!(status.contains("Current Version: 3\nLatest Available: 3 (0 pending)"), "{status}");
    assert!(assert_good(dsn, &["down"]).contains("version 2 of 3"));
    assert!(assert_good(dsn, &["status"]).contains("Current Version: 2\nLatest Available: 3 (1 pending)"));
    assert!(assert_good(dsn, &["down", "--steps", "7"]).contains("version 0 of 3"));
    assert!(assert_good(dsn, &["up"]).contains("version 3 of 3"));
    assert!(assert_good(dsn, &["force", "1"]).contains("version 1 of 3"));
    assert_refused(dsn, &["up"], "migration 2 failed");
    assert!(assert_good(dsn, &["status"]).contains("Database Status: clean"));
    assert!(assert_good(dsn, &["force", "3"]).contains("version 3 of 3"));
    assert_refused(dsn, &["force", "4"], "from 0 to 3");
    assert_refused(dsn, &["down", "--steps", "0"], "--steps");
}

#[test]
fn tables_of_sqlite_go_up_and_down() {
    let folder = tempfile::tempdir().unwrap();
    goes_up_and_down(&sqlite(folder.path()), "sqlite");
}

#[test]
fn tables_of_postgresql_go_up_and_down() {
    let server = Postgres::start();
    goes_up_and_down(&server.url("postgres"), "postgres");
}

fn many_at_once(dsn: &str) {
    let nodes: Vec<_> = (0..8)
        .map(|_| {
            let mut command = command();
            Process::start(
                command.args(["migrate", "up", "--database", dsn]).stdout(Stdio::null()).stderr(Stdio::null()),
            )
        })
        .collect();
    for mut node in nodes {
        assert!(node.wait(Duration::from_secs(60)).success());
    }
    assert!(assert_good(dsn, &["status"]).contains("Current Version: 3"));
}

#[test]
fn many_nodes_migrate_sqlite_once() {
    let folder = tempfile::tempdir().unwrap();
    many_at_once(&sqlite(folder.path()));
}

#[test]
fn many_nodes_migrate_postgresql_once() {
    let server = Postgres::start();
    many_at_once(&server.url("postgres"));
    let made = server.query("SELECT count(*), bool_and(success) FROM _sqlx_migrations");
    assert_eq!(made.as_deref(), Some("3|t"));
}

#[test]
fn tables_that_are_dirty_or_newer_are_left_alone() {
    let server = Postgres::start();
    let dsn = server.url("postgres");
    assert_good(&dsn, &["up"]);
    let row = |version: i64, success: bool| {
        let row = format!("INSERT INTO _sqlx_migrations VALUES ({version}, 'x', now(), {success}, '\\x00', 0)");
        assert!(server.query(&row).is_some());
    };
    row(4, false);
    assert!(assert_good(&dsn, &["status"]).contains("Database Status: DIRTY"));
    for command in ["up", "down"] {
        assert_refused(&dsn, &[command], "keygate migrate force");
    }
    assert_good(&dsn, &["force", "3"]);
    assert!(server.query("UPDATE _sqlx_migrations SET checksum = '' WHERE version = 1").is_some());
    assert_refused(&dsn, &["up"], "migration 1 was applied by a Keygate that is not a release of this one");
    assert_good(&dsn, &["force", "3"]);
    assert_good(&dsn, &["up"]);
    row(4, true);
    assert!(assert_good(&dsn, &["status", "--block"]).contains("Current Version: 4\nLatest Available: 3 (0 pending)"));
    for command in ["up", "down"] {
        assert_refused(&dsn, &[command], "run a newer Keygate");
    }
}

#[test]
fn a_waiting_status_ends_when_somebody_has_migrated() {
    let server = Postgres::start();
    let dsn = server.url("postgres");
    let mut waiting = command();
    let waiting = waiting.args(["migrate", "status", "--block", "--database", &dsn]);
    let mut waiting = Process::start(waiting.stdout(Stdio::null()).stderr(Stdio::null()));
    assert_good(&dsn, &["up"]);
    assert!(waiting.wait(Duration::from_secs(20)).success());
}

#[test]
fn the_database_is_named_by_flag_variable_or_file() {
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
    let made = |name: &str| path.join(name).exists();
    let config = file.display().to_string();
    assert!(run(&["--config", &config], &[]).status.success() && made("file.db"));
    assert!(run(&["--config", &config], &[("DSN", "sqlite://dsn.db")]).status.success() && made("dsn.db"));
    let both = [("DSN", "sqlite://x.db"), ("DB_DSN", "sqlite://db_dsn.db")];
    assert!(run(&[], &both).status.success() && made("db_dsn.db") && !made("x.db"));
    assert!(run(&["--database", "sqlite://flag.db"], &both).status.success() && made("flag.db"));
    let none = run(&[], &[]);
    assert_eq!(none.status.code(), Some(1));
    assert!(String::from_utf8(none.stderr).unwrap().contains("--database"));
}

#[test]
fn a_password_is_never_shown() {
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
