//! An attacker with write access to the database, but without the HMAC secret, cannot change the trail without detection.

use keygate_test_servers::Postgres;
use serde_json::json;
use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;

use super::{Finished, verify, wait_until_sealed};
use crate::support::keygate::Keygate;
use crate::support::wait::wait_for;

/// The chain of the first process; it has six rows and one or two checkpoints.
const FIRST: &str = "(SELECT chain FROM audit_events WHERE key_id = 'FIRST-KEY' LIMIT 1)";

/// What is done to the database, and what the verification says: a word, and the row by its position.
const CASES: &[(&str, &str, &str)] = &[
    ("UPDATE audit_events SET principal = 'admin:other' WHERE ROW(3)", "edited", "row 3"),
    ("UPDATE audit_events SET roles = 'read' WHERE ROW(3)", "edited", "row 3"),
    ("UPDATE audit_events SET after = '{}' WHERE ROW(3)", "edited", "row 3"),
    ("UPDATE audit_events SET key_id = NULL WHERE ROW(3)", "edited", "row 3"),
    ("UPDATE audit_events SET seal = mac WHERE ROW(3)", "edited", "row 3"),
    ("UPDATE audit_events SET event = 'AuditCheckpoint' WHERE ROW(2)", "edited", "row 2"),
    (
        "UPDATE audit_events SET principal = 'admin:other', mac = (SELECT mac FROM audit_events WHERE ROW(2)) WHERE ROW(3)",
        "inserted",
        "row 3",
    ),
    ("DELETE FROM audit_events WHERE ROW(3)", "removed", "row 3"),
    ("DELETE FROM audit_events WHERE chain = CHAIN AND seq <= 2", "removed", "rows 1 to 2"),
    // The end of the chain of a process that has ended, with its record: another chain names it.
    (
        "UPDATE audit_chains SET seq = 4, seal = (SELECT seal FROM audit_events WHERE ROW(4)) WHERE chain = CHAIN; \
         DELETE FROM audit_events WHERE chain = CHAIN AND seq > 4",
        "removed",
        "rows 5 to ",
    ),
    (
        "DELETE FROM audit_chains WHERE chain = CHAIN; DELETE FROM audit_events WHERE chain = CHAIN",
        "removed",
        "rows 1 to ",
    ),
    // An anchor that retention did not write.
    (
        "UPDATE audit_chains SET anchor_seq = 2, anchor_mac = seal, \
         anchor_seal = (SELECT seal FROM audit_events WHERE ROW(2)) WHERE chain = CHAIN; \
         DELETE FROM audit_events WHERE chain = CHAIN AND seq <= 2",
        "removed",
        "rows 1 to 2",
    ),
    // A copy of a row at the end of the chain, and one that waits to be sealed.
    (
        "INSERT INTO audit_events SELECT '01900000-0000-7000-8000-000000000001', tenant, time, writer, event, principal, roles, \
         client_ip, request_id, key_id, actor_id, before, after, details, mac, chain, 99, seal FROM audit_events WHERE ROW(3)",
        "inserted",
        "01900000-0000-7000-8000-000000000001",
    ),
    (
        "INSERT INTO audit_events SELECT '01900000-0000-7000-8000-000000000001', tenant, time, writer, event, principal, roles, \
         client_ip, request_id, key_id, actor_id, before, after, details, mac, NULL, NULL, NULL \
         FROM audit_events WHERE ROW(3)",
        "inserted",
        "01900000-0000-7000-8000-000000000001",
    ),
    // Two rows change places.
    (
        "UPDATE audit_events SET seq = 1000 WHERE ROW(3); UPDATE audit_events SET seq = 3 WHERE ROW(4); \
         UPDATE audit_events SET seq = 4 WHERE ROW(1000)",
        "edited",
        "row 3",
    ),
    ("UPDATE audit_chains SET secret = 'other' WHERE chain = CHAIN", "cannot verify", "secrets.hmac.retired"),
];

/// Starts a process, lets it write rows, ends it, and lets another one write.
async fn write_two_chains(keygate: &mut Keygate) -> String {
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(keygate.issue(json!({})).await.0);
    }
    keygate.revoke(&ids[0]).await;
    keygate.revoke(&ids[1]).await;
    stop_and_start(keygate, 1).await;
    keygate.issue(json!({})).await;
    stop_and_start(keygate, 2).await;
    wait_until_sealed(keygate).await;
    keygate.process.kill();
    ids.swap_remove(0)
}

/// Stops the process, which is the `number`th one of its folder, so that it seals all rows, and starts the next one.
async fn stop_and_start(keygate: &mut Keygate, number: usize) {
    // Before that, a stop signal kills the process.
    wait_for(async || match keygate.log().matches("is serving").count() {
        count if count == number => Ok(()),
        count => Err(format!("{count} processes have been serving")),
    })
    .await;
    keygate.restart();
}

/// The statements of a case.
fn statements(case: &str, first_key: &str) -> String {
    let mut text = case.to_owned();
    for seq in [1, 2, 3, 4, 1000] {
        text = text.replace(&format!("ROW({seq})"), &format!("chain = CHAIN AND seq = {seq}"));
    }
    text.replace("CHAIN", FIRST).replace("FIRST-KEY", first_key)
}

fn assert_found(verified: &Finished, (case, word, row): (&str, &str, &str)) {
    assert_eq!(verified.code, Some(1), "{case}: {verified:?}");
    let found = verified.stdout.lines().any(|line| line.starts_with(word) && line.contains(row));
    assert!(found, "{case}: no line says {word} {row}: {verified:?}");
    assert!(verified.stderr.contains("the audit trail was tampered with"), "{case}: {verified:?}");
}

#[tokio::test]
async fn every_change_of_the_trail_in_sqlite_is_found_and_named() {
    let mut keygate = Keygate::serve_admin(&json!({}));
    let first_key = write_two_chains(&mut keygate).await;
    let original = keygate.path().join("keys.db");
    let intact = verify(&keygate, &[]);
    assert_eq!((intact.code, &*intact.stdout), (Some(0), ""), "{intact:?}");
    for case in CASES {
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("copy.db");
        let source = SqliteConnectOptions::new().filename(&original);
        let mut source = source.connect().await.unwrap();
        sqlx::query("VACUUM INTO ?").bind(copy.to_str().unwrap()).execute(&mut source).await.unwrap();
        let mut database = SqliteConnectOptions::new().filename(&copy).connect().await.unwrap();
        let changed =
            sqlx::raw_sql(sqlx::AssertSqlSafe(statements(case.0, &first_key))).execute(&mut database).await.unwrap();
        assert!(changed.rows_affected() > 0, "{case:?}");
        sqlx::Connection::close(database).await.unwrap();
        assert_found(&verify(&keygate, &["--database", &format!("sqlite://{}", copy.display())]), *case);
    }
}

#[tokio::test]
async fn every_change_of_the_trail_in_postgresql_is_found_and_named() {
    let postgres = Postgres::start();
    assert!(postgres.query("CREATE DATABASE trail").is_some());
    let settings = json!({"db": {"dsn": postgres.url("trail"), "auto_migrate": true}});
    let mut keygate = Keygate::serve_admin(&settings);
    let first_key = write_two_chains(&mut keygate).await;
    let intact = verify(&keygate, &[]);
    assert_eq!((intact.code, &*intact.stdout), (Some(0), ""), "{intact:?}");
    for (number, case) in CASES.iter().enumerate() {
        let copy = format!("copy_{number}");
        // Fails while a connection of the ended process is open.
        let create = format!("CREATE DATABASE {copy} TEMPLATE trail");
        wait_for(async || postgres.query(&create).map(drop).ok_or_else(|| create.clone())).await;
        let copy = postgres.url(&copy);
        let mut database = copy.parse::<PgConnectOptions>().unwrap().connect().await.unwrap();
        let statements = sqlx::AssertSqlSafe(statements(case.0, &first_key));
        let changed = sqlx::raw_sql(statements).execute(&mut database).await.unwrap();
        assert!(changed.rows_affected() > 0, "{case:?}");
        sqlx::Connection::close(database).await.unwrap();
        assert_found(&verify(&keygate, &["--database", &copy]), *case);
    }
}
