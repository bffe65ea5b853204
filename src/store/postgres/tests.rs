//! What only PostgreSQL has: query plans, the feed, broken connections.

mod restored;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::feed::CHANGES_AFTER;
use super::statements::{LOCK_EXPIRED, list};
use super::*;
use crate::clock::Timestamp;
use crate::id::{KeyId, TenantId};
use crate::key::{ApiKey, EffectiveStatus, KeyFilter, Revocation, RevocationReason};
use crate::policy::RateLimitPolicy;
use crate::request_context::RequestContext;
use crate::store::testing::{self, Postgres};
use crate::store::{ChangeFeed, ChangeKind, KeySource, KeyStore, Migration, Position, StoreError};

fn system() -> RequestContext {
    RequestContext::system(TenantId::NIL)
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_timestamp(1_780_000_000 + seconds, 0).unwrap()
}

fn issued(number: u128) -> KeyId {
    KeyId::Issued(Uuid::from_u128(number))
}

fn key(id: KeyId) -> ApiKey {
    ApiKey {
        name: "name".into(),
        actor_id: "actor".into(),
        scopes: ["read"].into_iter().collect(),
        expire_time: Some(at(3600)),
        rate_limit: Some(RateLimitPolicy { quota: NonZeroU64::MIN, window: Duration::from_secs(60) }),
        version: 1,
        ..ApiKey::new(TenantId::NIL, id, at(0))
    }
}

fn revocation() -> Revocation {
    Revocation { reason: RevocationReason::Unspecified, description: None }
}

async fn connect(store: &PostgresStore) -> PgConnection {
    PgConnection::connect_with(&store.options.connect_options().unwrap()).await.unwrap()
}

/// Reads all changes after a position, in pages. Returns them and the position after them.
async fn read(store: &PostgresStore, mut position: Position, limit: u32) -> (Vec<(ChangeKind, KeyId, u64)>, Position) {
    let mut changes = Vec::new();
    loop {
        let page = store.changes_after(&position, limit).await.unwrap().expect("nothing was pruned");
        assert!(page.changes.len() <= limit as usize);
        changes.extend(page.changes.iter().map(|change| (change.kind, change.id, change.version)));
        position = page.position;
        if !page.more {
            return (changes, position);
        }
    }
}

#[tokio::test]
async fn every_filter_uses_its_index() {
    let server = Postgres::start();
    let store = testing::store(&server, "plans").await;
    for batch in 0..20 {
        let number = |index: u128| batch * 500 + index;
        let keys: Vec<_> = (0..500)
            .map(|index| ApiKey {
                actor_id: format!("actor {}", number(index) % 100),
                expire_time: (number(index) % 3 != 0).then(|| at(i64::try_from(number(index) % 7).unwrap() * 100)),
                ..key(issued(number(index)))
            })
            .collect();
        store.insert_many(&system(), &keys).await.unwrap();
    }
    let mut connection = connect(&store).await;
    run(&mut connection, "UPDATE keys SET status = 'revoked' WHERE key_id LIKE '%7'").await;
    run(&mut connection, "VACUUM ANALYZE").await;
    let recent = store.position().await.unwrap();
    for mode in ["force_custom_plan", "force_generic_plan"] {
        run(&mut connection, &format!("SET plan_cache_mode = {mode}")).await;
        for (actor, states, indexes) in [
            (None, vec![None], "keys_pkey"),
            // Most keys are active, so the primary key is as good.
            (None, vec![Some(EffectiveStatus::Active)], "keys_by_status keys_pkey"),
            (None, vec![Some(EffectiveStatus::Expired), Some(EffectiveStatus::Revoked)], "keys_by_status"),
            (Some("actor 5"), vec![None], "keys_by_actor"),
            (
                Some("actor 5"),
                vec![Some(EffectiveStatus::Active), Some(EffectiveStatus::Expired), Some(EffectiveStatus::Revoked)],
                "keys_by_actor_status",
            ),
        ] {
            for state in states {
                let filter = KeyFilter { actor_id: actor.map(str::to_owned), state };
                let plan = plan(&mut connection, list(&filter)).await;
                let used = |index: &str| plan.contains(&format!("using {index} on keys "));
                assert!(indexes.split(' ').any(used), "{mode} {filter:?}\n{plan}");
                // The two kinds of revoked keys are merged in the order of their indexes.
                assert!(!plan.contains("Sort  (") && !plan.contains("Seq Scan"), "{mode} {filter:?}\n{plan}");
            }
        }
    }
    let explain = sqlx::AssertSqlSafe(format!("EXPLAIN {CHANGES_AFTER}"));
    let explain = sqlx::query_as(explain).bind(&recent.0).bind(None::<&str>).bind("0").bind(0_i64).bind(100_i64);
    let plan = text(explain.fetch_all(&mut connection).await.unwrap());
    assert!(plan.contains("changes_pkey") && !plan.contains("Seq Scan on changes"), "{plan}");
}

async fn run(connection: &mut PgConnection, statement: &str) {
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement.to_owned())).execute(connection).await.unwrap();
}

/// The query plan of the second page of a list.
async fn plan(connection: &mut PgConnection, statement: &str) -> String {
    let prepare = format!("PREPARE page (uuid, text, text, bigint, text, timestamptz, text[]) AS {statement}");
    run(connection, &prepare).await;
    let explain = format!(
        "EXPLAIN EXECUTE page ('{}', 'issued', '{}', 50, 'actor 5', '{}', NULL)",
        TenantId::NIL,
        issued(8000),
        at(300)
    );
    let rows = sqlx::query_as(sqlx::AssertSqlSafe(explain)).fetch_all(&mut *connection).await.unwrap();
    run(connection, "DEALLOCATE page").await;
    text(rows)
}

fn text(rows: Vec<(String,)>) -> String {
    rows.into_iter().map(|(line,)| line + "\n").collect()
}

#[tokio::test]
async fn feed_returns_every_change_once() {
    let server = Postgres::start();
    let store = testing::store(&server, "feed").await;
    let imported = KeyId::Imported([1; 32]);
    store.insert(&system(), &key(issued(9)), None).await.unwrap();
    let start = store.position().await.unwrap();
    store.insert(&system(), &key(issued(1)), Some("r")).await.unwrap();
    store.insert(&system(), &key(issued(2)), Some("r")).await.unwrap();
    store.insert_many(&system(), &[key(imported), key(issued(1))]).await.unwrap();
    store.replace(&system(), &ApiKey { version: 2, ..key(issued(1)) }, &key(issued(1))).await.unwrap();
    store.replace(&system(), &ApiKey { version: 2, ..key(issued(1)) }, &key(issued(1))).await.unwrap();
    let old = ApiKey { version: 2, ..key(issued(1)) };
    store.rotate(&system(), &old, &key(issued(3)), at(5), None).await.unwrap().unwrap();
    store.revoke(&system(), issued(3), &revocation(), at(6)).await.unwrap();
    store.revoke(&system(), issued(3), &revocation(), at(6)).await.unwrap();
    store.delete(&system(), imported, at(7)).await.unwrap();
    store.delete(&system(), imported, at(7)).await.unwrap();
    let expected = [
        (ChangeKind::Issue, issued(1), 1),
        (ChangeKind::Import, imported, 1),
        (ChangeKind::Update, issued(1), 2),
        (ChangeKind::Rotate, issued(1), 3),
        (ChangeKind::Issue, issued(3), 1),
        (ChangeKind::Revoke, issued(3), 2),
        (ChangeKind::Delete, imported, 1),
    ];
    for limit in [1, 2, 7, 100] {
        let (mut changes, end) = read(&store, start.clone(), limit).await;
        // The two changes of a rotation have no order.
        changes[3..5].sort_by_key(|(kind, ..)| *kind == ChangeKind::Issue);
        assert_eq!(changes, expected, "in pages of {limit}");
        assert_eq!(read(&store, end, limit).await.0, []);
    }
}

#[tokio::test]
async fn late_commit_is_not_skipped_and_delays_no_other_change() {
    let server = Postgres::start();
    let store = testing::store(&server, "late").await;
    let start = store.position().await.unwrap();
    let mut slow = connect(&store).await;
    let mut slow = slow.begin().await.unwrap();
    let change = "INSERT INTO changes (tenant, kind, key_id, change, version) VALUES ($1, 'issued', $2, 'revoke', 7)";
    let add = sqlx::query(change).bind(TenantId::NIL.0).bind(issued(1).to_string());
    add.execute(&mut *slow).await.unwrap();
    let mut position = start;
    for number in 2..5 {
        store.insert(&system(), &key(issued(number)), None).await.unwrap();
        let (changes, next) = read(&store, position, 10).await;
        assert_eq!(changes, [(ChangeKind::Issue, issued(number), 1)], "read while the slow transaction is open");
        position = next;
    }
    // A change that began later, committed earlier and is on another page is not read twice.
    let before = position.clone();
    store.insert(&system(), &key(issued(5)), None).await.unwrap();
    store.insert(&system(), &key(issued(6)), None).await.unwrap();
    let page = store.changes_after(&before, 1).await.unwrap().unwrap();
    slow.commit().await.unwrap();
    let (rest, end) = read(&store, page.position, 1).await;
    assert_eq!(rest, [(ChangeKind::Issue, issued(6), 1), (ChangeKind::Revoke, issued(1), 7)]);
    assert_eq!(read(&store, end, 10).await.0, []);
}

#[tokio::test]
async fn concurrent_writers_lose_no_change() {
    let server = Postgres::start();
    let store = testing::store(&server, "many").await;
    let mut position = store.position().await.unwrap();
    let writers: Vec<_> = (0..8u128)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                for number in 0..50 {
                    store.insert(&system(), &key(issued(writer * 1000 + number)), None).await.unwrap();
                }
            })
        })
        .collect();
    let mut ids = Vec::new();
    loop {
        let finished = writers.iter().all(tokio::task::JoinHandle::is_finished);
        let (changes, next) = read(&store, position, 7).await;
        ids.extend(changes.into_iter().map(|(_, id, _)| id));
        position = next;
        if finished {
            break;
        }
    }
    assert_eq!(ids.len(), 400);
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 400, "a change was read twice");
}

#[tokio::test]
async fn listener_wakes_on_a_change_and_after_a_lost_connection() {
    let server = Postgres::start();
    let store = testing::store(&server, "wake").await;
    let mut listener = store.listen().await.unwrap();
    let mut woken = async || tokio::time::timeout(Duration::from_secs(20), listener.woken()).await;
    store.insert(&system(), &key(issued(1)), None).await.unwrap();
    woken().await.expect("the listener wakes").unwrap();
    let terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'";
    assert_eq!(server.query(terminate).as_deref(), Some("t"));
    // It reconnects at once, or reports an error first.
    if woken().await.expect("the listener wakes").is_err() {
        woken().await.expect("the listener wakes").unwrap();
    }
    store.insert(&system(), &key(issued(2)), None).await.unwrap();
    woken().await.expect("the listener wakes").unwrap();
}

#[tokio::test]
async fn position_before_pruned_changes_is_rejected() {
    let server = Postgres::start();
    let store = testing::store(&server, "prune").await;
    let early = store.position().await.unwrap();
    store.insert(&system(), &key(issued(1)), None).await.unwrap();
    assert_eq!(store.prune(Duration::ZERO).await.unwrap(), 0, "there is no mark yet");
    assert_eq!(store.prune(Duration::from_secs(3600)).await.unwrap(), 0, "the mark is too young");
    let (changes, late) = read(&store, early.clone(), 10).await;
    assert_eq!(changes.len(), 1);
    assert_eq!(store.prune(Duration::ZERO).await.unwrap(), 1);
    assert_eq!(store.changes_after(&early, 10).await.unwrap(), None);
    store.insert(&system(), &key(issued(2)), None).await.unwrap();
    assert_eq!(read(&store, late, 10).await.0, [(ChangeKind::Issue, issued(2), 1)]);
}

#[tokio::test]
async fn position_from_another_database_is_rejected() {
    let server = Postgres::start();
    let store = testing::store(&server, "other").await;
    let ahead = Position("1000000:1000000:".into());
    assert_eq!(store.changes_after(&ahead, 10).await.unwrap(), None);
    assert!(store.changes_after(&Position("7".into()), 10).await.is_err());
}

#[tokio::test]
async fn broken_connections_are_replaced_without_an_error() {
    let server = Postgres::start();
    let store = testing::store(&server, "broken").await;
    store.insert(&system(), &key(issued(1)), None).await.unwrap();
    for round in 2..6 {
        // All connections of the pool, idle and then terminated.
        let reads = (0..8).map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.find(TenantId::NIL, issued(1)).await })
        });
        for read in reads.collect::<Vec<_>>() {
            read.await.unwrap().unwrap();
        }
        let terminate = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = 'broken'";
        assert_ne!(server.query(terminate).as_deref(), Some("0"));
        assert!(store.find(TenantId::NIL, issued(1)).await.unwrap().is_some());
        store.insert(&system(), &key(issued(round)), None).await.unwrap();
    }
}

#[tokio::test]
async fn slow_statement_and_exhausted_pool_time_out() {
    let server = Postgres::start();
    testing::create_database(&server, "slow");
    let options = PostgresOptions {
        max_connections: 1,
        acquire_timeout: Duration::from_millis(200),
        statement_timeout: Duration::from_millis(500),
        ..testing::options(&server, "slow")
    };
    let store = PostgresStore::open(&options, Migration::Automatic).await.unwrap();
    let mut holder = connect(&store).await;
    let mut holder = holder.begin().await.unwrap();
    sqlx::raw_sql("LOCK TABLE keys").execute(&mut *holder).await.unwrap();
    let read = async || store.find(TenantId::NIL, issued(1)).await;
    let (first, second) = tokio::join!(read(), read());
    let mut errors = [first.unwrap_err().to_string(), second.unwrap_err().to_string()];
    errors.sort();
    assert!(errors[0].contains("no connection became free"), "{errors:?}");
    assert!(errors[1].contains("did not answer in time"), "{errors:?}");
    holder.rollback().await.unwrap();
    assert_eq!(read().await.unwrap(), None);
}

#[tokio::test]
async fn stopped_database_is_unavailable_until_it_restarts() {
    let server = Postgres::start();
    let options =
        PostgresOptions { acquire_timeout: Duration::from_millis(300), ..testing::options(&server, "postgres") };
    let store = PostgresStore::open(&options, Migration::Automatic).await.unwrap();
    store.ping().await.unwrap();
    let server = server.stop();
    assert!(matches!(store.find(TenantId::NIL, issued(1)).await, Err(StoreError::Unavailable(_))));
    assert!(matches!(store.insert(&system(), &key(issued(1)), None).await, Err(StoreError::Unavailable(_))));
    let _server = server.start_again();
    store.insert(&system(), &key(issued(1)), None).await.unwrap();
    assert!(store.find(TenantId::NIL, issued(1)).await.unwrap().is_some());
}

/// A TCP proxy whose connections can be silenced, like those behind a firewall that has dropped their state.
struct Proxy {
    port: u16,
    generation: Arc<AtomicU64>,
}

impl Proxy {
    fn to(server_port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Self { port: listener.local_addr().unwrap().port(), generation: Arc::default() };
        let generation = Arc::clone(&proxy.generation);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.unwrap();
                let server = TcpStream::connect(("127.0.0.1", server_port)).unwrap();
                let born = generation.load(Ordering::SeqCst);
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let generation = Arc::clone(&generation);
                    std::thread::spawn(move || forward(from, to, || generation.load(Ordering::SeqCst) == born));
                }
            }
        });
        proxy
    }

    /// Stops forwarding on all existing connections, without closing them.
    fn silence(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream, open: impl Fn() -> bool) {
    let mut buffer = [0; 4096];
    while let Ok(read) = from.read(&mut buffer) {
        if !open() {
            // The sockets stay open, so that neither side notices.
            std::thread::park();
        }
        if read == 0 || to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
}

#[tokio::test]
async fn silent_connections_are_abandoned_after_a_timeout() {
    let server = Postgres::start();
    let port = server.url("").rsplit_once(':').unwrap().1.trim_end_matches('/').parse().unwrap();
    let proxy = Proxy::to(port);
    let options = PostgresOptions {
        url: format!("postgres://postgres@127.0.0.1:{}/postgres", proxy.port).into(),
        max_connections: 2,
        acquire_timeout: Duration::from_millis(500),
        statement_timeout: Duration::from_millis(500),
        ..testing::options(&server, "postgres")
    };
    let store = PostgresStore::open(&options, Migration::Automatic).await.unwrap();
    let both = async || tokio::join!(store.find(TenantId::NIL, issued(1)), store.find(TenantId::NIL, issued(1)));
    for round in 0..2 {
        assert!(matches!(both().await, (Ok(None), Ok(None))), "round {round}");
        proxy.silence();
        let waiting = tokio::time::timeout(Duration::from_secs(20), both()).await.expect("the statements time out");
        assert_eq!((waiting.0.is_err(), waiting.1.is_err()), (true, true), "{waiting:?}");
        // A cancelled call leaves no broken connection in the pool, either.
        let abandoned = tokio::time::timeout(Duration::from_millis(1), store.find(TenantId::NIL, issued(1))).await;
        drop(abandoned);
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        while !matches!(both().await, (Ok(None), Ok(None))) {
            assert!(tokio::time::Instant::now() < deadline, "the pool still uses silent connections");
        }
    }
}

#[tokio::test]
async fn purge_skips_locked_rows_and_uses_the_database_clock() {
    let server = Postgres::start();
    let store = testing::store(&server, "purge").await;
    let long_ago = at(0) - chrono::TimeDelta::days(3000);
    let expired = |number| ApiKey { expire_time: Some(long_ago), ..key(issued(number)) };
    let alive = ApiKey { expire_time: Some(at(0) + chrono::TimeDelta::days(30_000)), ..key(issued(3)) };
    store.insert_many(&system(), &[expired(1), expired(2), alive]).await.unwrap();
    let far_future = at(0) + chrono::TimeDelta::days(60_000);
    let purged =
        async || store.purge(&system(), far_future, 10).await.unwrap().iter().map(|key| key.id).collect::<Vec<_>>();

    let mut other = connect(&store).await;
    run(&mut other, &format!("BEGIN; SELECT 1 FROM keys WHERE key_id = '{}' FOR UPDATE", issued(1))).await;
    assert_eq!(purged().await, [issued(2)], "a locked row is skipped");
    run(&mut other, "COMMIT; BEGIN").await;
    let purge = sqlx::query(LOCK_EXPIRED).bind(at(0) - chrono::TimeDelta::days(9000)).bind(1_i64);
    purge.execute(&mut other).await.unwrap();
    assert!(purged().await.is_empty(), "another transaction is purging");
    run(&mut other, "COMMIT").await;
    assert_eq!(purged().await, [issued(1)]);
    assert!(purged().await.is_empty(), "one key has not expired by the database's clock");

    run(&mut other, "INSERT INTO keys SELECT tenant, kind, gen_random_uuid()::text, NULL, name, actor_id, scopes, metadata, \
         status, NULL, NULL, visibility, create_time, update_time, expire_time + make_interval(secs => n), NULL, NULL, NULL, \
         allowed_cidrs, version FROM keys, generate_series(1, 5000) AS n; ANALYZE keys").await;
    let explain = sqlx::AssertSqlSafe(format!("EXPLAIN {LOCK_EXPIRED}"));
    let plan = sqlx::query_as(explain).bind(far_future).bind(500_i64).fetch_all(&mut other).await.unwrap();
    let plan = text(plan);
    assert!(plan.contains("using keys_by_end on keys") && !plan.contains("Seq Scan on keys"), "{plan}");
}
