//! After the crashes, no change lacks its audit row, no row lacks its change, and the trail verifies.

use std::collections::HashMap;

use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;

use super::{Key, Servers};
use crate::audit::verify;
use crate::support::wait::wait_for;

/// What must not exist, and the statement that counts it. `FIRST` is the version that a key was created with: its time of
/// creation in microseconds. Every change increments the version by one.
const COUNTED: [(&str, &str); 4] = [
    (
        "keys whose changes are not all in the audit trail, or too many are",
        "SELECT CAST(count(*) AS TEXT) FROM keys WHERE version - FIRST + 1 <> \
         (SELECT count(*) FROM audit_events WHERE audit_events.key_id = keys.key_id)",
    ),
    (
        "rows of keys that do not exist",
        "SELECT CAST(count(*) AS TEXT) FROM audit_events WHERE key_id IS NOT NULL \
         AND NOT EXISTS (SELECT 1 FROM keys WHERE keys.key_id = audit_events.key_id) \
         AND NOT EXISTS (SELECT 1 FROM deleted_keys WHERE deleted_keys.key_id = audit_events.key_id)",
    ),
    (
        "deletions without a row",
        "SELECT CAST(count(*) AS TEXT) FROM deleted_keys WHERE 1 <> (SELECT count(*) FROM audit_events \
         WHERE audit_events.key_id = deleted_keys.key_id AND event = 'ImportedAPIKeyDeleted')",
    ),
    (
        "rows of deletions of keys that exist",
        "SELECT CAST(count(*) AS TEXT) FROM audit_events JOIN keys ON keys.key_id = audit_events.key_id \
         WHERE event = 'ImportedAPIKeyDeleted'",
    ),
];

pub(super) async fn check(servers: &Servers, keys: &[Key]) {
    for (what, statement) in COUNTED {
        assert_eq!(lines(servers, statement).await, ["0"], "{what}");
    }
    let counts = "SELECT key_id || '|' || count(*) FROM audit_events WHERE key_id IS NOT NULL GROUP BY key_id";
    let counts = lines(servers, counts).await;
    let counts: HashMap<&str, u64> = counts
        .iter()
        .map(|line| line.split_once('|').unwrap())
        .map(|(id, count)| (id, count.parse().unwrap()))
        .collect();
    for key in keys {
        assert_eq!(counts.get(key.id.as_str()), Some(&key.changes), "changes in the audit trail: {key:?}");
    }
    wait_for(async || {
        match &lines(servers, "SELECT CAST(count(*) AS TEXT) FROM audit_events WHERE seq IS NULL").await[..] {
            [none] if none == "0" => Ok(()),
            unsealed => Err(format!("{unsealed:?} rows are not sealed")),
        }
    })
    .await;
    let chains = lines(servers, "SELECT CAST(count(*) AS TEXT) FROM audit_chains").await;
    let verified = verify(&servers.nodes[0], &[]);
    assert_eq!(verified.code, Some(0), "{verified:?}");
    assert!(verified.stderr.contains(&format!("in {} chains were verified", chains[0])), "{verified:?}");
}

/// The rows of a statement with one column.
async fn lines(servers: &Servers, statement: &str) -> Vec<String> {
    if let Some(postgres) = &servers.postgres {
        let statement = statement.replace("FIRST", "round(extract(epoch FROM create_time) * 1000000)::bigint");
        return postgres.query(&statement).unwrap().lines().map(str::to_owned).collect();
    }
    let file = SqliteConnectOptions::new().filename(servers.nodes[0].path().join("keys.db"));
    let mut database = file.connect().await.unwrap();
    let statement = sqlx::AssertSqlSafe(statement.replace("FIRST", "create_time"));
    sqlx::query_scalar(statement).fetch_all(&mut database).await.unwrap()
}
