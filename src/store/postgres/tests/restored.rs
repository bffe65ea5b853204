//! The feed of a database that was restored from the dump of a server with more transactions than this one.

use super::*;

/// What such a dump brings: a change, a mark and a bound of transactions that are far ahead.
const RESTORED: &str = "INSERT INTO changes (xid, tenant, kind, key_id, change, version) \
     VALUES ('4000000000', '00000000-0000-0000-0000-000000000000', 'issued', '00000000-0000-4000-8000-000000000001', 'revoke', 9); \
     INSERT INTO change_marks (time, xid) VALUES (clock_timestamp() - interval '1 day', '4000000001'); \
     UPDATE pruned_changes SET xid = '4000000001'";

async fn number(connection: &mut PgConnection, query: &'static str) -> i64 {
    sqlx::query_scalar(query).fetch_one(connection).await.unwrap()
}

#[tokio::test]
async fn changes_are_read_and_those_of_the_other_server_are_removed() {
    let server = Postgres::start();
    let store = testing::store(&server, "restored").await;
    let mut connection = connect(&store).await;
    run(&mut connection, RESTORED).await;
    let start = store.position().await.unwrap();
    store.insert(&system(), &key(issued(2)), None).await.unwrap();
    let (changes, late) = read(&store, start.clone(), 10).await;
    assert_eq!(changes, [(ChangeKind::Issue, issued(2), 1)]);

    assert_eq!(store.prune(Duration::ZERO).await.unwrap(), 0, "the only mark is that of the other server");
    assert_eq!(store.prune(Duration::ZERO).await.unwrap(), 2, "the change of the other server and that of this one");
    assert_eq!(number(&mut connection, "SELECT count(*) FROM changes").await, 0);
    let ahead = "SELECT count(*) FROM pruned_changes WHERE xid > pg_snapshot_xmax(pg_current_snapshot())";
    assert_eq!(number(&mut connection, ahead).await, 0);
    assert_eq!(store.changes_after(&start, 10).await.unwrap(), None, "a change of this server was pruned");
    store.insert(&system(), &key(issued(3)), None).await.unwrap();
    assert_eq!(read(&store, late, 10).await.0, [(ChangeKind::Issue, issued(3), 1)]);
}
