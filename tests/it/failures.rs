//! The responses while PostgreSQL, Redis or the network to them fails. `docs/failures.md` explains the table.

mod fixture;

use std::time::{Duration, Instant};

use keygate_test_servers::{Postgres, Redis, WAIT_TIMEOUT, eventually};
use serde_json::json;
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use tokio::task::JoinSet;

use crate::support::keygate::{Keygate, command, request_path};
use crate::support::proxy::{Mode, Proxy};
use crate::support::upstream::Upstream;
use crate::support::wait::wait_for;
use fixture::{
    DENIED_UNAVAILABLE, Fixture, HEALTHY, MAX_CONNECTIONS, PASS, REVOKED, Row, TIMED_OUT, TIMEOUT, UNAVAILABLE, derive,
    import, metric, serve, settings, through, wait_for_feed_age, wait_for_log, wait_for_response,
};

/// PostgreSQL is down: cached keys are served, nothing else can be authorized.
const DOWN: Row = Row {
    cached: PASS,
    shared: PASS,
    uncached: DENIED_UNAVAILABLE,
    unknown: DENIED_UNAVAILABLE,
    revoked: REVOKED,
    invalidated: REVOKED,
    token: PASS,
    read: UNAVAILABLE,
    write: UNAVAILABLE,
    ready: UNAVAILABLE,
};
/// PostgreSQL is stalled: it accepts connections and does not answer.
const STALLED: Row = Row { read: TIMED_OUT, write: TIMED_OUT, ready: TIMED_OUT, ..DOWN };

#[tokio::test]
async fn redis_down_slow_stalled_or_empty_changes_no_response() {
    let (postgres, redis) = (Postgres::start(), Redis::start());
    let proxy = Proxy::to(redis.port());
    let cache = |address: String| json!({"type": "redis", "redis": {"addrs": [address]}});
    let database = postgres.url("postgres");
    let mut fixture = Fixture::start(
        &settings(&database, &cache(format!("127.0.0.1:{}", proxy.port()))),
        &settings(&database, &cache(redis.address())),
    )
    .await;
    fixture.check("healthy", &HEALTHY).await;

    redis.flush();
    fixture.check("Redis empty", &HEALTHY).await;

    proxy.set(Mode::Delay(Duration::from_millis(300)));
    fixture.check("Redis slow", &HEALTHY).await;
    // The first caller waits for the timeout. Then Redis is not used until it is fast again. Commands sent before that may
    // still be on their way through the proxy.
    let mut sent = 0;
    while sent != proxy.count("EVALSHA") {
        sent = proxy.count("EVALSHA");
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    for _ in 0..3 {
        fixture.check("Redis slow for a while", &HEALTHY).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(proxy.count("EVALSHA"), sent, "no command is sent to Redis while it is slow");
    proxy.set(Mode::Forward);
    wait_for_redis_use(&mut fixture, &proxy).await;

    let paused = redis.pause();
    fixture.check("Redis stalled", &HEALTHY).await;
    drop(paused);
    wait_for_redis_use(&mut fixture, &proxy).await;

    proxy.set(Mode::Reset);
    fixture.check("Redis connections reset", &HEALTHY).await;
    proxy.set(Mode::Forward);
    wait_for_redis_use(&mut fixture, &proxy).await;

    let stopped = redis.stop();
    fixture.check("Redis down", &HEALTHY).await;
    wait_for_log(&fixture.here, "Redis cannot be reached");
    let late = serve(&fixture.upstream, &settings(&database, &cache(format!("127.0.0.1:{}", proxy.port()))));
    wait_for_response(&late, &fixture.keys.cached.1, PASS).await;
    let _redis = stopped.start_again();
    wait_for_redis_use(&mut fixture, &proxy).await;
    fixture.check("Redis up again and empty", &HEALTHY).await;
    wait_for_log(&fixture.here, "Redis is connected");
}

/// Waits until requests use Redis again.
async fn wait_for_redis_use(fixture: &mut Fixture, proxy: &Proxy) {
    let before = proxy.count("EVALSHA");
    wait_for(async || {
        fixture.recovers("Redis is back", &HEALTHY).await;
        if proxy.count("EVALSHA") > before { Ok(()) } else { Err(format!("Redis is not used\n{}", fixture.here.log())) }
    })
    .await;
}

#[tokio::test]
async fn cached_keys_are_served_while_postgresql_is_down_or_stalled() {
    let (postgres, redis) = (Postgres::start(), Redis::start());
    let cache =
        json!({"type": "redis", "max_staleness": "2s", "redis": {"addrs": [redis.address()], "timeout": "10s"}});
    let settings = settings(&postgres.url("postgres"), &cache);
    let mut fixture = Fixture::start(&settings, &settings).await;

    let stopped = postgres.stop();
    fixture.check("PostgreSQL down", &DOWN).await;
    fixture.wait_for_feed_age(2.0).await;
    fixture.check("PostgreSQL down, caches stale", &DOWN).await;
    assert!(metric(&fixture.here, r#"keygate_lookups_total{level="stale"}"#).await >= 1.0);
    wait_for_log(&fixture.here, "changes of keys are not received");
    wait_for_log(&fixture.here, "a key could not be looked up");
    assert!(metric(&fixture.here, "keygate_feed_failures_total").await >= 1.0);
    let path = request_path();
    let refused =
        format!(r#"keygate_gateway_requests_total{{denial="unavailable",path="{path}",route="api",status="503"}}"#);
    assert!(metric(&fixture.here, &refused).await >= 1.0);
    let postgres = stopped.start_again();
    fixture.recovers("a restart of PostgreSQL", &HEALTHY).await;
    wait_for_log(&fixture.here, "changes of keys are received again");

    let paused = postgres.pause();
    fixture.check("PostgreSQL stalled", &STALLED).await;
    fixture.wait_for_feed_age(2.0).await;
    fixture.check("PostgreSQL stalled, caches stale", &STALLED).await;
    drop(paused);
    fixture.recovers("a stall of PostgreSQL", &HEALTHY).await;
}

/// Without Redis, only keys in the memory of this node are served.
const DOWN_ALONE: Row = Row { shared: DENIED_UNAVAILABLE, invalidated: DENIED_UNAVAILABLE, ..DOWN };
/// Cached entries are older than the stale limit.
const DOWN_TOO_LONG: Row =
    Row { cached: DENIED_UNAVAILABLE, revoked: DENIED_UNAVAILABLE, token: DENIED_UNAVAILABLE, ..DOWN_ALONE };

#[tokio::test]
async fn stale_entries_are_served_up_to_the_stale_limit_or_denied_if_configured() {
    let (postgres, redis) = (Postgres::start(), Redis::start());
    let database = postgres.url("postgres");
    let there = json!({"type": "redis", "redis": {"addrs": [redis.address()], "timeout": "10s"}});
    let mut deny = there.clone();
    deny["max_staleness"] = "15s".into();
    deny["on_database_down"] = "deny".into();
    let there = settings(&database, &there);
    // Entries expire long before the stale limit.
    let limit = json!({"max_staleness": "2s", "stale_limit": "30s", "ttl": "1s"});
    let mut limited = Fixture::start(&settings(&database, &limit), &there).await;
    let mut denying = Fixture::start(&settings(&database, &deny), &there).await;

    let stopped = postgres.stop();
    let (first, second) = (&mut limited, &mut denying);
    tokio::join!(first.check("a limit, down", &DOWN_ALONE), second.cached_passes("deny, down"));
    denying.wait_for_feed_age(15.0).await;
    limited.check("a limit, caches stale", &DOWN_ALONE).await;
    denying.check("deny, caches stale", &DOWN_TOO_LONG).await;
    limited.wait_for_feed_age(30.0).await;
    limited.check("beyond the limit", &DOWN_TOO_LONG).await;
    let _postgres = stopped.start_again();
    limited.recovers("the limit", &HEALTHY).await;
    denying.recovers("a denial", &HEALTHY).await;
}

#[tokio::test]
async fn keys_in_memory_are_served_while_postgresql_and_redis_are_down() {
    let (postgres, redis) = (Postgres::start(), Redis::start());
    let cache =
        json!({"type": "redis", "max_staleness": "2s", "redis": {"addrs": [redis.address()], "timeout": "10s"}});
    let settings = settings(&postgres.url("postgres"), &cache);
    let mut fixture = Fixture::start(&settings, &settings).await;
    let (stopped_redis, stopped) = (redis.stop(), postgres.stop());
    fixture.check("both down", &DOWN_ALONE).await;
    fixture.wait_for_feed_age(2.0).await;
    fixture.check("both down, caches stale", &DOWN_ALONE).await;
    let _postgres = stopped.start_again();
    fixture.recovers("an outage of both, Redis still down", &HEALTHY).await;
    let _redis = stopped_redis.start_again();
    fixture.recovers("an outage of both", &HEALTHY).await;
}

#[tokio::test]
async fn bad_network_to_postgresql_causes_delays_or_503_but_no_wrong_response() {
    let (postgres, redis) = (Postgres::start(), Redis::start());
    let proxy = Proxy::to(postgres.port());
    let cache =
        json!({"type": "redis", "max_staleness": "2s", "redis": {"addrs": [redis.address()], "timeout": "10s"}});
    let here = settings(&through(&postgres, proxy.port()), &cache);
    let mut fixture = Fixture::start(&here, &settings(&postgres.url("postgres"), &cache)).await;

    proxy.set(Mode::Delay(Duration::from_millis(30)));
    fixture.check("a slow network", &HEALTHY).await;
    proxy.set(Mode::Delay(TIMEOUT * 3));
    fixture.check("a network that is too slow", &STALLED).await;
    fixture.wait_for_feed_age(2.0).await;
    fixture.check("a network that is too slow, caches stale", &STALLED).await;
    proxy.set(Mode::Forward);
    fixture.recovers("a slow network", &HEALTHY).await;

    proxy.set(Mode::Reset);
    fixture.check("no network", &DOWN).await;
    proxy.set(Mode::Forward);
    fixture.recovers("no network", &HEALTHY).await;

    // A revocation by a node that reaches PostgreSQL takes effect through Redis.
    let (id, key) = fixture.there.issue(json!({})).await;
    wait_for_response(&fixture.here, &key, PASS).await;
    proxy.set(Mode::Stall);
    fixture.there.revoke(&id).await;
    fixture.wait_for_feed_age(2.0).await;
    fixture.check("a stalled network, caches stale", &STALLED).await;
    wait_for_response(&fixture.here, &key, REVOKED).await;
    proxy.set(Mode::Forward);
    fixture.recovers("a stalled network", &HEALTHY).await;

    // Stalled connections that are never closed: all are replaced, also the one that listens for notifications.
    let listening = || {
        let listening = "SELECT string_agg(pid::text, ' ' ORDER BY pid) FROM pg_stat_activity \
                         WHERE application_name = 'keygate' AND query LIKE 'LISTEN%'";
        postgres.query(listening).unwrap()
    };
    let before = listening();
    proxy.set(Mode::StallExisting);
    fixture.recovers("stalled connections", &HEALTHY).await;
    eventually("another connection listens", || listening() != before);
    let (id, key) = cached_key(&fixture).await;
    fixture.there.revoke(&id).await;
    wait_for_response(&fixture.here, &key, REVOKED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_request_at_a_time_waits_for_stalled_postgresql() {
    let postgres = Postgres::start();
    let settings = settings(&postgres.url("postgres"), &json!({"max_staleness": "2s"}));
    let mut fixture = Fixture::start(&settings, &settings).await;
    let mut keys = Vec::new();
    for _ in 0..16 {
        keys.push(cached_key(&fixture).await.1);
    }
    let absent = "absent-a-moment-ago";
    assert_eq!(fixture.here.call("/", absent).await.status(), 401);
    let _paused = postgres.pause();
    fixture.wait_for_feed_age(2.0).await;
    // It may have been imported meanwhile.
    assert_eq!(fixture.here.call("/", absent).await.status(), 503);
    fixture
        .check("PostgreSQL stalled", &Row { shared: DENIED_UNAVAILABLE, invalidated: DENIED_UNAVAILABLE, ..STALLED })
        .await;
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
    // One in each timeout. If all requests waited, it would be 16 in each.
    let waited: usize = callers.join_all().await.into_iter().sum();
    assert!(waited <= 16, "{waited} requests waited for PostgreSQL");
}

#[tokio::test]
async fn read_only_postgresql_rejects_writes_and_nothing_else() {
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
    let read_only = Row { write: UNAVAILABLE, ..HEALTHY };
    set("SET default_transaction_read_only = on");
    fixture.recovers("a failover", &read_only).await;
    let refused = fixture.here.post(&format!("issuedApiKeys/{}:revoke", fixture.keys.cached.0), &json!({})).await;
    assert_eq!(refused.status(), 503);
    // Longer than `max_staleness`: the changes are still read.
    tokio::time::sleep(Duration::from_secs(3)).await;
    fixture.check("read-only for a while", &read_only).await;
    assert!(metric(&fixture.here, "keygate_feed_failures_total").await < 1.0);
    set("RESET default_transaction_read_only");
    fixture.recovers("read-only PostgreSQL", &HEALTHY).await;
}

#[tokio::test]
async fn revocations_take_effect_without_notifications_and_without_the_change_feed() {
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
    let (id, key) = cached_key(&fixture).await;
    fixture.there.revoke(&id).await;
    wait_for_response(&fixture.here, &key, REVOKED).await;
    assert!(metric(&fixture.here, "keygate_feed_failures_total").await < 1.0);
    run("ALTER TABLE changes ENABLE TRIGGER notify_changes");

    let (id, key) = cached_key(&fixture).await;
    let token = derive(&fixture.there, &key).await;
    run("REVOKE SELECT ON changes FROM node");
    fixture.there.revoke(&id).await;
    fixture.wait_for_feed_age(2.0).await;
    for credential in [&key, &token] {
        assert_eq!(fixture.here.call("/", credential).await.status(), 401, "the key is looked up in the database");
    }
    fixture.check("no feed", &HEALTHY).await;
    assert!(metric(&fixture.here, "keygate_feed_failures_total").await >= 1.0);
    wait_for_log(&fixture.here, "changes of keys are not received");
    run("GRANT SELECT ON changes TO node");
    wait_for_log(&fixture.here, "changes of keys are received again");
    fixture.check("the feed is back", &HEALTHY).await;
}

/// A new key in the memory of both nodes.
async fn cached_key(fixture: &Fixture) -> (String, String) {
    let (id, key) = fixture.there.issue(json!({})).await;
    wait_for_response(&fixture.here, &key, PASS).await;
    (id, key)
}

#[tokio::test(flavor = "multi_thread")]
async fn locked_table_delays_only_operations_that_need_it() {
    /// The age of the last read of the changes, in seconds, that a busy machine does not reach.
    const AGE_MAX: f64 = 6.0;
    let postgres = Postgres::start();
    let settings = settings(&postgres.url("postgres"), &json!({"max_staleness": "2s"}));
    let mut fixture = Fixture::start(&settings, &settings).await;
    let mut other = PgConnection::connect(&postgres.url("postgres")).await.unwrap();

    // All connections of the pool wait for the table of keys. The changes are still read.
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
    let locked = Row { shared: DENIED_UNAVAILABLE, invalidated: DENIED_UNAVAILABLE, ..STALLED };
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
    fixture.recovers("a lock of keys", &HEALTHY).await;
    assert!(metric(&fixture.here, "keygate_feed_failures_total").await < 1.0);

    // The changes can be neither read nor written.
    sqlx::raw_sql("BEGIN; LOCK TABLE changes").execute(&mut other).await.unwrap();
    fixture.wait_for_feed_age(2.0).await;
    fixture.check("changes locked", &Row { write: TIMED_OUT, ..HEALTHY }).await;
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    fixture.recovers("a lock of changes", &HEALTHY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn thousand_concurrent_requests_with_an_uncached_key_make_one_query() {
    let postgres = Postgres::start();
    let proxy = Proxy::to(postgres.port());
    let cache = json!({});
    let here = settings(&through(&postgres, proxy.port()), &cache);
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
async fn many_uncached_keys_do_not_exceed_the_connection_pool() {
    let postgres = Postgres::start();
    let upstream = Upstream::start();
    let there = serve(&upstream, &settings(&postgres.url("postgres"), &json!({})));
    let keys = import(&there, "many", 5000).await;
    let named = format!("{}?application_name=uncached", postgres.url("postgres"));
    let here = serve(&upstream, &settings(&named, &json!({"max_staleness": "2s"})));
    let (first, rest) = keys.split_at(4000);
    let most = max_connections(&postgres, request_all(&here, first)).await;
    // One more connection listens for notifications, and one reads the changes.
    assert!((1..=MAX_CONNECTIONS + 2).contains(&most), "{most} connections at a start");
    assert!(metric(&here, "keygate_feed_failures_total").await < 1.0);

    let stopped = postgres.stop();
    let callers = request_all(&here, rest);
    wait_for_feed_age(&here, 2.0).await;
    let postgres = stopped.start_again();
    let most = max_connections(&postgres, callers).await;
    assert!((1..=MAX_CONNECTIONS + 2).contains(&most), "{most} connections after an outage");
}

/// Sends requests with each of many keys until it passes; other responses must be 503.
fn request_all(node: &Keygate, keys: &[String]) -> JoinSet<()> {
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

/// The maximum number of connections of the node named `uncached`, observed until all callers are done.
async fn max_connections(postgres: &Postgres, mut callers: JoinSet<()>) -> usize {
    let mut most = 0;
    let deadline = Instant::now() + WAIT_TIMEOUT * 5;
    while !callers.is_empty() {
        assert!(Instant::now() < deadline, "{} callers wait", callers.len());
        let count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'uncached'";
        most = most.max(postgres.query(count).unwrap().parse().unwrap());
        if let Ok(Some(done)) = tokio::time::timeout(Duration::from_millis(20), callers.join_next()).await {
            done.unwrap();
        }
    }
    most
}
