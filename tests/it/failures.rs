//! What is answered when PostgreSQL, Redis or the way to them fails, cell by cell; `docs/failures.md` is the table in words.

mod fixture;

use std::time::{Duration, Instant};

use keygate_test_servers::{Postgres, Redis, WAIT_TIMEOUT, eventually};
use serde_json::json;
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use tokio::task::JoinSet;

use crate::support::keygate::{Keygate, command};
use crate::support::proxy::{Mode, Proxy};
use crate::support::upstream::Upstream;
use crate::support::wait::wait_for;
use fixture::{
    AWAY, Fixture, LATE, MAX_CONNECTIONS, PASS, REVOKED, Row, TIMEOUT, UNDECIDED, WELL, answers_eventually, by_way_of,
    derive, import, logs, metric, serve, settings, unheard_for,
};

/// PostgreSQL is down: what is cached passes, nothing else can be decided.
const DOWN: Row = Row {
    cached: PASS,
    shared: PASS,
    cold: UNDECIDED,
    unknown: UNDECIDED,
    revoked: REVOKED,
    heard: REVOKED,
    token: PASS,
    read: AWAY,
    write: AWAY,
    ready: AWAY,
};
/// PostgreSQL does not answer.
const SILENT: Row = Row { read: LATE, write: LATE, ready: LATE, ..DOWN };

#[tokio::test]
async fn redis_away_slow_silent_or_empty_changes_no_answer() {
    let (postgres, redis) = (Postgres::start(), Redis::start());
    let proxy = Proxy::to(redis.port());
    let cache = |address: String| json!({"type": "redis", "redis": {"addrs": [address]}});
    let database = postgres.url("postgres");
    let mut fixture = Fixture::start(
        &settings(&database, &cache(format!("127.0.0.1:{}", proxy.port()))),
        &settings(&database, &cache(redis.address())),
    )
    .await;
    fixture.check("all is well", &WELL).await;

    redis.flush();
    fixture.check("Redis empty", &WELL).await;

    proxy.set(Mode::Delay(Duration::from_millis(300)));
    fixture.check("Redis slow", &WELL).await;
    // The first caller waits for the timeout. Then Redis is not used until it is fast again. Commands sent before that may
    // still be on their way through the proxy.
    let mut sent = 0;
    while sent != proxy.count("HMGET") {
        sent = proxy.count("HMGET");
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    for _ in 0..3 {
        fixture.check("Redis slow for a while", &WELL).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(proxy.count("HMGET"), sent, "no command is sent to Redis while it is slow");
    proxy.set(Mode::Forward);
    wait_for_redis_use(&mut fixture, &proxy).await;

    let paused = redis.pause();
    fixture.check("Redis silent", &WELL).await;
    drop(paused);
    wait_for_redis_use(&mut fixture, &proxy).await;

    proxy.set(Mode::Reset);
    fixture.check("Redis cut off", &WELL).await;
    proxy.set(Mode::Forward);
    wait_for_redis_use(&mut fixture, &proxy).await;

    let stopped = redis.stop();
    fixture.check("Redis down", &WELL).await;
    logs(&fixture.here, "Redis cannot be reached");
    let late = serve(&fixture.upstream, &settings(&database, &cache(format!("127.0.0.1:{}", proxy.port()))));
    answers_eventually(&late, &fixture.keys.cached.1, PASS).await;
    let _redis = stopped.start_again();
    wait_for_redis_use(&mut fixture, &proxy).await;
    fixture.check("Redis up again and empty", &WELL).await;
    logs(&fixture.here, "Redis is connected");
}

/// Waits until requests use Redis again.
async fn wait_for_redis_use(fixture: &mut Fixture, proxy: &Proxy) {
    let before = proxy.count("HMGET");
    wait_for(async || {
        fixture.recovers("Redis is back", &WELL).await;
        if proxy.count("HMGET") > before { Ok(()) } else { Err(format!("Redis is not used\n{}", fixture.here.log())) }
    })
    .await;
}

#[tokio::test]
async fn postgresql_down_or_silent_is_served_from_the_caches_and_comes_back() {
    let (postgres, redis) = (Postgres::start(), Redis::start());
    let cache =
        json!({"type": "redis", "max_staleness": "2s", "redis": {"addrs": [redis.address()], "timeout": "10s"}});
    let settings = settings(&postgres.url("postgres"), &cache);
    let mut fixture = Fixture::start(&settings, &settings).await;

    let stopped = postgres.stop();
    fixture.check("PostgreSQL down", &DOWN).await;
    fixture.unheard_for(2.0).await;
    fixture.check("PostgreSQL down, caches unconfirmed", &DOWN).await;
    assert!(metric(&fixture.here, r#"keygate_lookups_total{level="stale"}"#).await >= 1.0);
    logs(&fixture.here, "changes of keys are not heard of");
    logs(&fixture.here, "a key could not be looked up");
    assert!(metric(&fixture.here, "keygate_feed_failures_total").await >= 1.0);
    let refused = r#"keygate_gateway_requests_total{denial="unavailable",route="api",status="503"}"#;
    assert!(metric(&fixture.here, refused).await >= 1.0);
    let postgres = stopped.start_again();
    fixture.recovers("a restart of PostgreSQL", &WELL).await;
    logs(&fixture.here, "changes of keys are heard of again");

    let paused = postgres.pause();
    fixture.check("PostgreSQL silent", &SILENT).await;
    fixture.unheard_for(2.0).await;
    fixture.check("PostgreSQL silent, caches unconfirmed", &SILENT).await;
    drop(paused);
    fixture.recovers("a silence of PostgreSQL", &WELL).await;
}

/// Without Redis, what this node has not asked for itself cannot be decided.
const DOWN_ALONE: Row = Row { shared: UNDECIDED, heard: UNDECIDED, ..DOWN };
/// The caches are believed no more.
const DOWN_TOO_LONG: Row = Row { cached: UNDECIDED, revoked: UNDECIDED, token: UNDECIDED, ..DOWN_ALONE };

#[tokio::test]
async fn caches_are_believed_up_to_the_limit_or_not_at_all() {
    let (postgres, redis) = (Postgres::start(), Redis::start());
    let database = postgres.url("postgres");
    let there = json!({"type": "redis", "redis": {"addrs": [redis.address()], "timeout": "10s"}});
    let mut deny = there.clone();
    deny["max_staleness"] = "15s".into();
    deny["on_database_down"] = "deny".into();
    let there = settings(&database, &there);
    // Records are over long before the limit.
    let limit = json!({"max_staleness": "2s", "stale_limit": "30s", "ttl": "1s"});
    let mut limited = Fixture::start(&settings(&database, &limit), &there).await;
    let mut denying = Fixture::start(&settings(&database, &deny), &there).await;

    let stopped = postgres.stop();
    let (first, second) = (&mut limited, &mut denying);
    tokio::join!(first.check("a limit, down", &DOWN_ALONE), second.cached_passes("deny, down"));
    denying.unheard_for(15.0).await;
    limited.check("a limit, caches unconfirmed", &DOWN_ALONE).await;
    denying.check("deny, caches unconfirmed", &DOWN_TOO_LONG).await;
    limited.unheard_for(30.0).await;
    limited.check("beyond the limit", &DOWN_TOO_LONG).await;
    let _postgres = stopped.start_again();
    limited.recovers("the limit", &WELL).await;
    denying.recovers("a denial", &WELL).await;
}

#[tokio::test]
async fn both_down_is_served_from_memory_alone() {
    let (postgres, redis) = (Postgres::start(), Redis::start());
    let cache =
        json!({"type": "redis", "max_staleness": "2s", "redis": {"addrs": [redis.address()], "timeout": "10s"}});
    let settings = settings(&postgres.url("postgres"), &cache);
    let mut fixture = Fixture::start(&settings, &settings).await;
    let (stopped_redis, stopped) = (redis.stop(), postgres.stop());
    fixture.check("both down", &DOWN_ALONE).await;
    fixture.unheard_for(2.0).await;
    fixture.check("both down, caches unconfirmed", &DOWN_ALONE).await;
    let _postgres = stopped.start_again();
    fixture.recovers("an outage of both, Redis still down", &WELL).await;
    let _redis = stopped_redis.start_again();
    fixture.recovers("an outage of both", &WELL).await;
}

#[tokio::test]
async fn a_bad_way_to_postgresql_is_slow_or_503_and_never_wrong() {
    let (postgres, redis) = (Postgres::start(), Redis::start());
    let proxy = Proxy::to(postgres.port());
    let cache =
        json!({"type": "redis", "max_staleness": "2s", "redis": {"addrs": [redis.address()], "timeout": "10s"}});
    let here = settings(&by_way_of(&postgres, proxy.port()), &cache);
    let mut fixture = Fixture::start(&here, &settings(&postgres.url("postgres"), &cache)).await;

    proxy.set(Mode::Delay(Duration::from_millis(30)));
    fixture.check("a slow way", &WELL).await;
    proxy.set(Mode::Delay(TIMEOUT * 3));
    fixture.check("a way that is too slow", &SILENT).await;
    fixture.unheard_for(2.0).await;
    fixture.check("a way that is too slow, caches unconfirmed", &SILENT).await;
    proxy.set(Mode::Forward);
    fixture.recovers("a slow way", &WELL).await;

    proxy.set(Mode::Reset);
    fixture.check("no way", &DOWN).await;
    proxy.set(Mode::Forward);
    fixture.recovers("no way", &WELL).await;

    // What a node that is not cut off revokes is seen by way of Redis.
    let (id, key) = fixture.there.issue(json!({})).await;
    answers_eventually(&fixture.here, &key, PASS).await;
    proxy.set(Mode::Stall);
    fixture.there.revoke(&id).await;
    fixture.unheard_for(2.0).await;
    fixture.check("a silent way, caches unconfirmed", &SILENT).await;
    answers_eventually(&fixture.here, &key, REVOKED).await;
    proxy.set(Mode::Forward);
    fixture.recovers("a silent way", &WELL).await;

    // Connections that nobody ever closes: all are made anew, the one that listens too.
    let listening = || {
        let listening = "SELECT string_agg(pid::text, ' ' ORDER BY pid) FROM pg_stat_activity \
                         WHERE application_name = 'keygate' AND query LIKE 'LISTEN%'";
        postgres.query(listening).unwrap()
    };
    let before = listening();
    proxy.set(Mode::StallExisting);
    fixture.recovers("connections that got stuck", &WELL).await;
    eventually("it listens anew", || listening() != before);
    let (id, key) = known(&fixture).await;
    fixture.there.revoke(&id).await;
    answers_eventually(&fixture.here, &key, REVOKED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_postgresql_is_silent_one_request_at_a_time_waits_for_it() {
    let postgres = Postgres::start();
    let settings = settings(&postgres.url("postgres"), &json!({"max_staleness": "2s"}));
    let mut fixture = Fixture::start(&settings, &settings).await;
    let mut keys = Vec::new();
    for _ in 0..16 {
        keys.push(known(&fixture).await.1);
    }
    let absent = "absent-a-moment-ago";
    assert_eq!(fixture.here.call("/", absent).await.status(), 401);
    let _paused = postgres.pause();
    fixture.unheard_for(2.0).await;
    // Somebody may have imported it meanwhile.
    assert_eq!(fixture.here.call("/", absent).await.status(), 503);
    fixture.check("PostgreSQL silent", &Row { shared: UNDECIDED, heard: UNDECIDED, ..SILENT }).await;
    let mut callers = JoinSet::new();
    for key in keys {
        let request = fixture.here.http.get(&fixture.here.gateway).bearer_auth(key);
        callers.spawn(async move {
            let (start, mut waited) = (Instant::now(), 0);
            while start.elapsed() < TIMEOUT * 4 {
                let sent = Instant::now();
                assert_eq!(request.try_clone().unwrap().send().await.unwrap().status(), 200);
                waited += usize::from(sent.elapsed() >= TIMEOUT * 9 / 10);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            waited
        });
    }
    // One in each timeout. If all waited, it would be 16 in each.
    let waited: usize = callers.join_all().await.into_iter().sum();
    assert!(waited <= 16, "{waited} requests waited for PostgreSQL");
}

#[tokio::test]
async fn a_read_only_postgresql_changes_no_answer_but_takes_no_changes() {
    let postgres = Postgres::start();
    let settings = settings(&postgres.url("postgres"), &json!({"max_staleness": "2s"}));
    let mut fixture = Fixture::start(&settings, &settings).await;
    let set = |what: &str| {
        let shown = if what.starts_with("SET") { "on" } else { "off" };
        assert!(
            postgres.query(&format!("ALTER SYSTEM {what}")).is_some()
                && postgres.query("SELECT pg_reload_conf()").is_some()
        );
        eventually(what, || postgres.query("SHOW default_transaction_read_only").as_deref() == Some(shown));
    };
    let read_only = Row { write: AWAY, ..WELL };
    set("SET default_transaction_read_only = on");
    fixture.recovers("a failover", &read_only).await;
    let refused = fixture.here.post(&format!("issuedApiKeys/{}:revoke", fixture.keys.cached.0), &json!({})).await;
    assert_eq!(refused.status(), 503);
    // Nobody waits for the feed: it is read.
    tokio::time::sleep(Duration::from_secs(3)).await;
    fixture.check("read-only for a while", &read_only).await;
    assert!(metric(&fixture.here, "keygate_feed_failures_total").await < 1.0);
    set("RESET default_transaction_read_only");
    fixture.recovers("a read-only time", &WELL).await;
}

#[tokio::test]
async fn changes_are_seen_without_notifications_and_without_the_feed() {
    let postgres = Postgres::start();
    let up = command().args(["migrate", "up", "--database", &postgres.url("postgres")]).output().unwrap();
    assert!(up.status.success());
    let run = |statement: &str| assert!(postgres.query(statement).is_some(), "{statement}");
    run("CREATE ROLE node LOGIN");
    run("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO node");
    let database = postgres.url("postgres");
    let cache = json!({"max_staleness": "2s"});
    let here = settings(&database.replace("postgres@", "node@"), &cache);
    let mut fixture = Fixture::start(&here, &settings(&database, &cache)).await;

    run("ALTER TABLE changes DISABLE TRIGGER notify_changes");
    let (id, key) = known(&fixture).await;
    fixture.there.revoke(&id).await;
    answers_eventually(&fixture.here, &key, REVOKED).await;
    assert!(metric(&fixture.here, "keygate_feed_failures_total").await < 1.0);
    run("ALTER TABLE changes ENABLE TRIGGER notify_changes");

    let (id, key) = known(&fixture).await;
    let token = derive(&fixture.there, &key).await;
    run("REVOKE SELECT ON changes FROM node");
    fixture.there.revoke(&id).await;
    fixture.unheard_for(2.0).await;
    for credential in [&key, &token] {
        assert_eq!(fixture.here.call("/", credential).await.status(), 401, "the database is asked");
    }
    fixture.check("no feed", &WELL).await;
    assert!(metric(&fixture.here, "keygate_feed_failures_total").await >= 1.0);
    logs(&fixture.here, "changes of keys are not heard of");
    run("GRANT SELECT ON changes TO node");
    logs(&fixture.here, "changes of keys are heard of again");
    fixture.check("the feed is back", &WELL).await;
}

/// A key that both nodes have in memory.
async fn known(fixture: &Fixture) -> (String, String) {
    let (id, key) = fixture.there.issue(json!({})).await;
    answers_eventually(&fixture.here, &key, PASS).await;
    (id, key)
}

#[tokio::test(flavor = "multi_thread")]
async fn locked_tables_hold_up_nobody_else() {
    /// The age of the last read of the changes, in seconds, that a busy machine does not reach.
    const AGE_MAX: f64 = 6.0;
    let postgres = Postgres::start();
    let settings = settings(&postgres.url("postgres"), &json!({"max_staleness": "2s"}));
    let mut fixture = Fixture::start(&settings, &settings).await;
    let mut other = PgConnection::connect(&postgres.url("postgres")).await.unwrap();

    // All connections wait for keys, and the feed is heard all the same.
    sqlx::raw_sql("BEGIN; LOCK TABLE keys").execute(&mut other).await.unwrap();
    let mut misses = JoinSet::new();
    for number in 0..64 {
        let request = fixture.here.http.get(&fixture.here.gateway).bearer_auth(format!("absent-{number}"));
        misses.spawn(async move {
            for _ in 0..4 {
                assert_eq!(request.try_clone().unwrap().send().await.unwrap().status(), 503);
            }
        });
    }
    let locked = Row { shared: UNDECIDED, heard: UNDECIDED, ..SILENT };
    fixture.check("keys locked", &locked).await;
    let locked_since = Instant::now();
    while !misses.is_empty() {
        let age = metric(&fixture.here, "keygate_feed_age_seconds").await;
        assert!(age <= AGE_MAX, "the changes are read: {age} s\n{}", fixture.here.log());
        let _ = tokio::time::timeout(Duration::from_millis(100), misses.join_next())
            .await
            .map(|done| done.map(Result::unwrap));
    }
    assert!(locked_since.elapsed().as_secs_f64() > AGE_MAX, "{:?}", locked_since.elapsed());
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    fixture.recovers("a lock of keys", &WELL).await;
    assert!(metric(&fixture.here, "keygate_feed_failures_total").await < 1.0);

    // Nobody hears of changes, and none can be made.
    sqlx::raw_sql("BEGIN; LOCK TABLE changes").execute(&mut other).await.unwrap();
    fixture.unheard_for(2.0).await;
    fixture.check("changes locked", &Row { write: LATE, ..WELL }).await;
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    fixture.recovers("a lock of changes", &WELL).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_callers_of_a_cold_key_make_one_query() {
    let postgres = Postgres::start();
    let proxy = Proxy::to(postgres.port());
    let cache = json!({});
    let here = settings(&by_way_of(&postgres, proxy.port()), &cache);
    let fixture = Fixture::start(&here, &settings(&postgres.url("postgres"), &cache)).await;
    let (id, key) = fixture.there.issue(json!({})).await;
    proxy.set(Mode::Delay(Duration::from_millis(200)));
    let mut callers = JoinSet::new();
    for _ in 0..1000 {
        let request = fixture.here.http.get(&fixture.here.gateway).bearer_auth(&key);
        callers.spawn(async move { request.send().await.unwrap().status().as_u16() });
    }
    assert_eq!(callers.join_all().await, [200; 1000]);
    assert_eq!(proxy.count(&id), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_cold_keys_at_once_keep_to_the_pool_at_a_start_and_after_an_outage() {
    let postgres = Postgres::start();
    let upstream = Upstream::start();
    let there = serve(&upstream, &settings(&postgres.url("postgres"), &json!({})));
    let keys = import(&there, "many", 5000).await;
    let named = format!("{}?application_name=cold", postgres.url("postgres"));
    let here = serve(&upstream, &settings(&named, &json!({"max_staleness": "2s"})));
    let (first, rest) = keys.split_at(4000);
    let most = most_connections(&postgres, ask_for_all(&here, first)).await;
    // One listens, one reads the feed.
    assert!((1..=MAX_CONNECTIONS + 2).contains(&most), "{most} connections at a start");
    assert!(metric(&here, "keygate_feed_failures_total").await < 1.0);

    let stopped = postgres.stop();
    let callers = ask_for_all(&here, rest);
    unheard_for(&here, 2.0).await;
    let postgres = stopped.start_again();
    let most = most_connections(&postgres, callers).await;
    assert!((1..=MAX_CONNECTIONS + 2).contains(&most), "{most} connections after an outage");
}

/// Calls with each of many keys, until it passes; nothing else than 503 may come before.
fn ask_for_all(node: &Keygate, keys: &[String]) -> JoinSet<()> {
    let mut callers = JoinSet::new();
    for part in keys.chunks(50) {
        let (http, url, part) = (node.http.clone(), node.gateway.clone(), part.to_vec());
        callers.spawn(async move {
            for key in part {
                loop {
                    match http.get(&url).bearer_auth(&key).send().await.unwrap().status().as_u16() {
                        200 => break,
                        status => assert_eq!(status, 503),
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        });
    }
    callers
}

/// The most connections of the cold node that are seen before all callers are done.
async fn most_connections(postgres: &Postgres, mut callers: JoinSet<()>) -> usize {
    let mut most = 0;
    let deadline = Instant::now() + WAIT_TIMEOUT * 5;
    while !callers.is_empty() {
        assert!(Instant::now() < deadline, "{} callers wait", callers.len());
        let count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'cold'";
        most = most.max(postgres.query(count).unwrap().parse().unwrap());
        if let Ok(Some(done)) = tokio::time::timeout(Duration::from_millis(20), callers.join_next()).await {
            done.unwrap();
        }
    }
    most
}
