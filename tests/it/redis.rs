//! The connection to Redis: authentication, cluster, sentinel, TLS, and a stalled server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use keygate::cache::{EntryTimes, RedisStorage, SharedEntry, SharedStorage};
use keygate::config::{RedisConfig, SentinelConfig};
use keygate::duration::ConfigDuration;
use keygate::id::{KeyId, TenantId};
use keygate::redis::{Redis as Connection, RedisError};
use keygate_test_servers::{Postgres, Redis, WAIT_TIMEOUT, eventually, free_port};
use redis::cmd;
use serde_json::json;

use crate::support::authority::Authority;
use crate::support::keygate::Keygate;
use crate::support::wait::wait_for;

/// How long entries live; longer than any test.
const LONG: EntryTimes = EntryTimes { age: Duration::ZERO, life: Duration::from_hours(1) };

/// An established connection that is kept open in the background.
async fn connect(settings: RedisConfig) -> Arc<Connection> {
    let connection = Arc::new(Connection::new(&settings).unwrap());
    let kept = Arc::clone(&connection);
    tokio::spawn(async move { kept.keep_connected().await });
    connection.connected(WAIT_TIMEOUT).await;
    connection
}

/// Settings with the addresses of servers, and a timeout that no call reaches on a busy machine.
fn at(servers: &[&Redis]) -> RedisConfig {
    let addrs = servers.iter().map(|server| server.address()).collect();
    RedisConfig { addrs, timeout: ConfigDuration(WAIT_TIMEOUT), ..RedisConfig::default() }
}

fn with_timeout(config: RedisConfig, timeout: Duration) -> RedisConfig {
    RedisConfig { timeout: ConfigDuration(timeout), ..config }
}

/// Puts entries and gets them again; retries each until it succeeds.
async fn assert_works(connection: &Arc<Connection>) {
    let storage = RedisStorage::new(Arc::clone(connection));
    for number in 0..32 {
        let key = (TenantId::NIL, KeyId::Issued(uuid::Uuid::from_u128(number)));
        let entry = SharedEntry::Deleted(7);
        wait_for(async || {
            storage.put(key, &entry, LONG).await;
            let found = storage.get(key).await.map(|found| found.entry);
            if found.as_ref() == Some(&entry) { Ok(()) } else { Err(format!("entry {number} is {found:?}")) }
        })
        .await;
    }
}

#[tokio::test]
async fn connection_authenticates_with_user_and_password() {
    let server = Redis::start_with(&["user keygate on >hunter2 ~keygate:* +@all", "user default off"]);
    let known = RedisConfig {
        username: Some("keygate".into()),
        password: Some("hunter2".to_owned().into()),
        db: 0,
        ..at(&[&server])
    };
    assert_works(&connect(known.clone()).await).await;

    let unknown = Connection::new(&RedisConfig { password: Some("wrong".to_owned().into()), ..known }).unwrap();
    tokio::select! {
        () = unknown.keep_connected() => {}
        () = unknown.connected(Duration::from_millis(500)) => {}
    }
    assert_eq!(unknown.run::<()>(&cmd("PING")).await, Err(RedisError::Unavailable));
}

#[tokio::test]
async fn stalled_server_costs_one_caller_the_timeout_and_no_other_caller_waits() {
    let server = Redis::start();
    let connection = connect(with_timeout(at(&[&server]), Duration::from_secs(1))).await;
    assert_works(&connection).await;
    server.signal("STOP");
    assert_eq!(connection.run::<()>(&cmd("PING")).await, Err(RedisError::Timeout));
    for _ in 0..1000 {
        assert_eq!(connection.run::<()>(&cmd("PING")).await, Err(RedisError::Unavailable));
    }
    server.signal("CONT");
    connection.connected(WAIT_TIMEOUT).await;
    assert_works(&connection).await;
}

#[tokio::test]
async fn changed_timeout_applies_to_the_next_call() {
    let server = Redis::start();
    let connection = connect(at(&[&server])).await;
    assert_works(&connection).await;
    server.signal("STOP");
    connection.set_timeout(Duration::from_millis(50));
    let start = Instant::now();
    assert_eq!(connection.run::<()>(&cmd("PING")).await, Err(RedisError::Timeout));
    assert!(start.elapsed() < WAIT_TIMEOUT);
    server.signal("CONT");
}

#[tokio::test]
async fn older_entry_does_not_replace_a_newer_one_and_an_error_keeps_the_connection() {
    let server = Redis::start();
    let connection = connect(at(&[&server])).await;
    let storage = RedisStorage::new(Arc::clone(&connection));
    let key = (TenantId::NIL, KeyId::Imported([7; 32]));
    for (version, kept) in [(9, 9), (10, 10), (9, 10), (10, 10), (u64::MAX, u64::MAX), (11, u64::MAX)] {
        storage.put(key, &SharedEntry::Deleted(version), LONG).await;
        assert_eq!(storage.get(key).await.map(|found| found.entry), Some(SharedEntry::Deleted(kept)));
    }
    storage.put(key, &SharedEntry::Deleted(u64::MAX), EntryTimes { life: Duration::from_millis(1), ..LONG }).await;
    wait_for(async || match storage.get(key).await {
        None => Ok(()),
        Some(entry) => Err(format!("{entry:?} has not expired")),
    })
    .await;

    server.command(&format!("SET keygate:key:{}:{} text", key.0, key.1));
    assert_eq!(storage.get(key).await, None);
    assert!(connection.is_connected());
}

#[tokio::test]
async fn age_of_an_entry_is_that_at_its_write_and_the_time_since_then() {
    let server = Redis::start();
    let storage = RedisStorage::new(connect(at(&[&server])).await);
    let key = (TenantId::NIL, KeyId::Imported([7; 32]));
    let age = Duration::from_mins(10);
    let start = Instant::now();
    storage.put(key, &SharedEntry::Deleted(1), EntryTimes { age, ..LONG }).await;
    let written = Instant::now();
    wait_for(async || {
        let (asked, found) = (Instant::now(), storage.get(key).await.unwrap());
        // Redis counts milliseconds.
        let at_least = age + (asked - written).saturating_sub(Duration::from_millis(1));
        let at_most = age + start.elapsed() + Duration::from_millis(2);
        assert!(
            (at_least..=at_most).contains(&found.age),
            "{:?} is not between {at_least:?} and {at_most:?}",
            found.age
        );
        if found.age >= age + Duration::from_millis(50) { Ok(()) } else { Err("it is not older yet".to_owned()) }
    })
    .await;
    // Another life is not another age.
    storage.put(key, &SharedEntry::Deleted(1), EntryTimes { age, life: Duration::from_secs(60) }).await;
    assert!(storage.get(key).await.is_some_and(|found| found.age < age + Duration::from_secs(30)));
    // An entry of an unknown age is not used.
    for command in ["HDEL keygate:key:{} end", "PERSIST keygate:key:{}"] {
        storage.put(key, &SharedEntry::Deleted(1), LONG).await;
        assert!(storage.get(key).await.is_some());
        server.command(&command.replace("{}", &format!("{}:{}", key.0, key.1)));
        assert_eq!(storage.get(key).await, None, "{command}");
    }
}

#[tokio::test]
async fn several_addresses_are_a_cluster() {
    let options = ["cluster-enabled yes", "cluster-node-timeout 2000"];
    let servers = [(); 3].map(|()| Redis::start_with(&options));
    let [first, second, third] = &servers;
    first.command("CLUSTER ADDSLOTSRANGE 0 5000");
    second.command("CLUSTER ADDSLOTSRANGE 5001 10000");
    third.command("CLUSTER ADDSLOTSRANGE 10001 16383");
    for other in [second, third] {
        first.command(&format!("CLUSTER MEET {}", other.address().replace(':', " ")));
    }
    let connection = connect(with_timeout(at(&[first, second, third]), Duration::from_secs(5))).await;
    assert_works(&connection).await;
}

#[tokio::test]
async fn sentinel_failover_is_followed() {
    let master = Redis::start();
    let replica = Redis::start_with(&[&format!("replicaof {}", master.address().replace(':', " "))]);
    let monitor = format!("sentinel monitor main {} 1", master.address().replace(':', " "));
    let sentinel = Redis::start_with(&[
        &monitor,
        "sentinel down-after-milliseconds main 2000",
        "sentinel failover-timeout main 4000",
    ]);
    let by_sentinel = SentinelConfig { master_name: Some("main".into()), ..SentinelConfig::default() };
    let settings = RedisConfig { sentinel: by_sentinel, ..with_timeout(at(&[&sentinel]), Duration::from_secs(1)) };
    let connection = connect(settings).await;
    assert_works(&connection).await;
    // The sentinel can promote the replica once it knows it and the replica is in sync.
    let promotable = format!("${}\r\n{}\r\n", replica.port().to_string().len(), replica.port());
    eventually("the sentinel knows the replica and its link is up", || {
        let replicas = sentinel.query("SENTINEL replicas main");
        let master = sentinel.query("SENTINEL get-master-addr-by-name main");
        let is_in_sync = replicas.contains(&promotable) && replicas.contains("master-link-status\r\n$2\r\nok\r\n");
        // On a busy machine the failover may already have happened.
        is_in_sync || master.contains(&promotable)
    });
    drop(master);
    assert_works(&connection).await;
    drop(replica);
}

#[tokio::test]
async fn redis_connection_uses_verified_tls_if_configured() {
    let (folder, postgres, port) = (tempfile::tempdir().unwrap(), Postgres::start(), free_port());
    let authority = Authority::new(folder.path());
    let file = |name: &str, text: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        file.display().to_string()
    };
    let _redis = Redis::start_with(&[
        &format!("tls-port {port}"),
        &format!("tls-cert-file {}", file("certificate.pem", &authority.certificate)),
        &format!("tls-key-file {}", file("key.pem", &authority.key)),
        "tls-auth-clients no",
    ]);
    let gateway = json!({
        "routes": [{"name": "all", "path_prefix": "/", "upstream": "none"}],
        "upstreams": {"none": {"endpoints": ["http://127.0.0.1:9"]}}
    });
    let start = |host: &str| {
        let redis = json!({"addrs": [format!("{host}:{port}")], "tls": {"enabled": true}});
        let settings = json!({
            "db": {"dsn": postgres.url("postgres"), "auto_migrate": true},
            "cache": {"type": "redis", "redis": redis}
        });
        Keygate::serve_trusting(&gateway, &settings, Some(&authority.file))
    };
    let trusted = start("localhost");
    eventually("the connection is encrypted", || trusted.log().contains("Redis is connected"));
    let untrusted = start("127.0.0.1");
    eventually("another name is not trusted", || untrusted.log().contains("Redis cannot be reached"));
    assert!(!untrusted.log().contains("Redis is connected"));
}
