//! Cost of the audit trail: key changes per second in a database, measured alternately with and without the trail.
//!
//! Requires PostgreSQL on this machine, as the tests do. See `benches/README.md`.

#![expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use keygate::audit::{AuditKeys, Recorder};
use keygate::audit_log::{Metrics, Settings, Worker};
use keygate::clock::{Clock, SystemClock};
use keygate::credential::Keyring;
use keygate::id::{KeyId, TenantId};
use keygate::key::{ApiKey, Revocation, RevocationReason};
use keygate::request_context::RequestContext;
use keygate::store::{KeyStore, Migration, PostgresOptions, PostgresStore, SqliteOptions, SqliteStore};
use keygate_test_servers::Postgres;
use prometheus::Registry;
use tokio::sync::watch;

/// The length of one measurement.
const MEASUREMENT_TIME: Duration = Duration::from_secs(3);
/// The default number of pairs of measurements. The environment variable `PAIRS` overrides it.
const PAIRS: usize = 7;
/// The numbers of concurrent callers. Each is measured separately.
const CALLERS: [u32; 2] = [1, 8];
const CONNECTIONS: u32 = 16;

#[tokio::main]
async fn main() {
    // Only `cargo bench` passes this argument. Other commands that run all targets, such as `cargo test --all-targets`, skip the benchmark.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let pairs = std::env::var("PAIRS").map_or(PAIRS, |pairs| pairs.parse().unwrap());
    let (folder, postgres) = (tempfile::tempdir().unwrap(), Postgres::start());
    println!("| database | callers | changes/s without the trail | with it | ratio (median) | lowest to highest |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for callers in CALLERS {
        let sqlite = async |name: &str| {
            let path = Some(folder.path().join(format!("{name}-{callers}.db")));
            let store = SqliteStore::open(&SqliteOptions { path, max_connections: CONNECTIONS }).await.unwrap();
            Arc::new(store) as Arc<dyn KeyStore>
        };
        compare("SQLite", callers, pairs, [sqlite("without").await, sqlite("with").await]).await;
        let postgres = async |name: &str| {
            let name = format!("{name}_{callers}");
            postgres.query(&format!("CREATE DATABASE {name}")).unwrap();
            let store = PostgresStore::open(&options(postgres.url(&name)), Migration::Automatic).await.unwrap();
            Arc::new(store) as Arc<dyn KeyStore>
        };
        compare("PostgreSQL", callers, pairs, [postgres("without").await, postgres("with").await]).await;
    }
}

fn options(url: String) -> PostgresOptions {
    let long = Duration::from_secs(60);
    PostgresOptions {
        url: url.into(),
        max_connections: CONNECTIONS,
        min_connections: 0,
        max_lifetime: None,
        idle_timeout: None,
        connect_timeout: long,
        acquire_timeout: long,
        statement_timeout: long,
    }
}

/// Measures two stores alternately and prints a table row. Only the second store has an audit trail.
async fn compare(database: &str, callers: u32, pairs: usize, [without, with]: [Arc<dyn KeyStore>; 2]) {
    let (stop, worker) = start_audit_trail(&with);
    let mut results = Vec::new();
    for pair in 0..=pairs {
        // The order alternates, so that neither store is always measured first.
        let (first, second) = if pair % 2 == 0 { (&without, &with) } else { (&with, &without) };
        let (first, second) = (measure(first, callers).await, measure(second, callers).await);
        results.push(if pair % 2 == 0 { (first, second) } else { (second, first) });
    }
    stop.send(true).unwrap();
    worker.await.unwrap();
    // The first pair is the warm-up.
    results.remove(0);
    results.sort_by(|a, b| (a.1 / a.0).total_cmp(&(b.1 / b.0)));
    let ratio = |(without, with): (f64, f64)| with / without;
    let median = results[results.len() / 2];
    let (lowest, highest) = (ratio(results[0]), ratio(results[results.len() - 1]));
    let (before, after, ratio) = (median.0, median.1, ratio(median));
    println!("| {database} | {callers} | {before:.0} | {after:.0} | {ratio:.2} | {lowest:.2} to {highest:.2} |");
}

/// Enables the audit trail of a store and starts its background worker. Returns the stop signal and the task of the worker.
fn start_audit_trail(store: &Arc<dyn KeyStore>) -> (watch::Sender<bool>, tokio::task::JoinHandle<()>) {
    let keyring = Keyring::new(&"a secret of at least 32 characters".to_owned().into(), &[]);
    let recorder = Arc::new(Recorder::new(AuditKeys::new(&keyring), Arc::new(SystemClock)));
    let audit = Arc::clone(store).audit().unwrap();
    audit.record_with(Arc::clone(&recorder));
    let settings = Settings { tenant: TenantId::NIL, output: None, retention: Duration::ZERO };
    let metrics = Metrics::register(&Registry::new()).unwrap();
    let worker = Worker::new(settings, audit, recorder, Arc::default(), metrics);
    let (stop, stopped) = watch::channel(false);
    (stop, tokio::spawn(worker.run(stopped)))
}

/// Issues, renames and revokes keys for [`MEASUREMENT_TIME`]. Returns the number of changes per second.
async fn measure(store: &Arc<dyn KeyStore>, callers: u32) -> f64 {
    let (stop, changes) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let callers: Vec<_> = (0..callers)
        .map(|_| {
            let (store, stop, changes) = (Arc::clone(store), Arc::clone(&stop), Arc::clone(&changes));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    change_key(&*store, &changes).await;
                }
            })
        })
        .collect();
    let started = Instant::now();
    tokio::time::sleep(MEASUREMENT_TIME).await;
    let rate = f64::from(changes.load(Ordering::Relaxed)) / started.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.unwrap();
    }
    rate
}

/// Issues, renames and revokes one key: three changes.
async fn change_key(store: &dyn KeyStore, changes: &AtomicU32) {
    let context = RequestContext::system(TenantId::NIL);
    let now = SystemClock.now();
    let key = ApiKey {
        name: "a key of the benchmark".into(),
        actor_id: format!("team-a/{}", rand::random::<u8>()),
        scopes: ["read", "write"].into_iter().collect(),
        version: 1,
        ..ApiKey::new(TenantId::NIL, KeyId::Issued(uuid::Uuid::from_bytes(rand::random())), now)
    };
    store.insert(&context, &key, None).await.unwrap();
    changes.fetch_add(1, Ordering::Relaxed);
    let renamed = ApiKey { name: "renamed".into(), version: 2, ..key.clone() };
    assert!(store.replace(&context, &renamed, &key).await.unwrap());
    changes.fetch_add(1, Ordering::Relaxed);
    let revocation = Revocation { reason: RevocationReason::KeyCompromise, description: None };
    store.revoke(&context, key.id, &revocation, SystemClock.now()).await.unwrap();
    changes.fetch_add(1, Ordering::Relaxed);
}
