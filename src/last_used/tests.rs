use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus::Registry;
use uuid::Uuid;

use super::*;
use crate::cidr::CidrSet;
use crate::clock::ManualClock;
use crate::key::{ApiKey, Metadata, Status};
use crate::policy::{Scopes, Visibility};
use crate::store::MemoryStore;

struct Fixture {
    tracker: Arc<Tracker>,
    writer: Arc<Writer>,
    store: Arc<dyn KeyStore>,
    clock: Arc<ManualClock>,
    registry: Registry,
}

fn system() -> RequestContext {
    RequestContext::system(TenantId::NIL)
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_timestamp(1_780_000_000 + seconds, 0).unwrap()
}

fn key(number: u128) -> CachedKey {
    CachedKey::from(&stored(number))
}

fn stored(number: u128) -> ApiKey {
    ApiKey {
        tenant: TenantId::NIL,
        id: KeyId::Issued(Uuid::from_u128(number)),
        name: "n".into(),
        actor_id: "a".into(),
        scopes: Scopes::default(),
        metadata: Metadata::new(),
        status: Status::Active,
        visibility: Visibility::Secret,
        create_time: at(0),
        update_time: at(0),
        expire_time: None,
        last_used_time: None,
        rate_limit: None,
        networks: CidrSet::default(),
        version: 1,
    }
}

impl Fixture {
    async fn new(settings: Settings, keys: u128) -> Self {
        let store = Arc::new(MemoryStore::default());
        for number in 0..keys {
            store.insert(&system(), &stored(number), None).await.unwrap();
        }
        Self::over(store, settings)
    }

    fn over(store: Arc<dyn KeyStore>, settings: Settings) -> Self {
        let clock = Arc::new(ManualClock::new(at(0)));
        let registry = Registry::new();
        let metrics = Metrics::register(&registry).unwrap();
        let (tracker, writer) = tracker(system(), settings, Arc::clone(&store), clock.clone(), &metrics);
        Self { tracker: Arc::new(tracker), writer: Arc::new(writer), store, clock, registry }
    }

    /// Closes the tracker and waits for several tasks to write what it noted.
    async fn end(&self) {
        self.tracker.close();
        let tasks: Vec<_> = (0..4)
            .map(|_| {
                let writer = Arc::clone(&self.writer);
                tokio::spawn(async move { writer.run().await })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    }

    fn count(&self, outcome: &str) -> u64 {
        let families = self.registry.gather();
        let counters = families[0].get_metric();
        let named = counters.iter().find(|counter| counter.get_label()[0].value() == outcome).unwrap();
        // Counts are small.
        format!("{:.0}", named.get_counter().get_value()).parse().unwrap()
    }

    async fn last_used(&self, number: u128) -> Option<Timestamp> {
        self.store.find(TenantId::NIL, stored(number).id).await.unwrap().unwrap().last_used_time
    }
}

const SETTINGS: Settings = Settings { queue_size: 1000, flush_size: 10, flush_interval: Duration::from_secs(3600) };

#[tokio::test]
async fn the_first_use_of_a_day_is_written_at_the_time_of_the_writing() {
    let bench = Fixture::new(SETTINGS, 30).await;
    for _ in 0..100 {
        (0..25).for_each(|number| bench.tracker.note(&key(number), at(0)));
    }
    bench.clock.set(at(60));
    bench.end().await;
    assert_eq!((bench.count("written"), bench.count("dropped")), (25, 0));
    assert_eq!((bench.last_used(24).await, bench.last_used(25).await), (Some(at(60)), None));
}

#[tokio::test]
async fn what_the_record_says_of_today_is_not_noted_and_tomorrow_is_another_day() {
    const HOUR: i64 = 3600;
    let bench = Fixture::new(SETTINGS, 1).await;
    let used = |time| CachedKey::from(&ApiKey { last_used_time: Some(at(time)), ..stored(0) });
    bench.tracker.note(&used(-HOUR), at(0));
    bench.tracker.note(&used(HOUR), at(0));
    bench.tracker.note(&used(0), at(4 * HOUR));
    bench.tracker.note(&used(0), at(5 * HOUR));
    bench.clock.set(at(5 * HOUR));
    bench.end().await;
    assert_eq!((bench.count("written"), bench.last_used(0).await), (1, Some(at(5 * HOUR))));
}

#[tokio::test]
async fn a_full_queue_drops_without_error_and_the_next_use_is_tried_again() {
    let settings = Settings { queue_size: 2, flush_interval: Duration::ZERO, ..SETTINGS };
    let bench = Fixture::new(settings, 3).await;
    for _ in 0..2 {
        (0..3).for_each(|number| bench.tracker.note(&key(number), at(0)));
    }
    assert_eq!((bench.count("written"), bench.count("dropped")), (0, 2));
    let writer = Arc::clone(&bench.writer);
    let writing = tokio::spawn(async move { writer.run().await });
    while bench.count("written") < 2 {
        tokio::task::yield_now().await;
    }
    (0..3).for_each(|number| bench.tracker.note(&key(number), at(0)));
    bench.tracker.close();
    writing.await.unwrap();
    assert_eq!((bench.count("written"), bench.count("dropped")), (3, 2));
    assert_eq!(bench.last_used(2).await, Some(at(0)));
    bench.tracker.note(&key(4), at(0));
    assert_eq!(bench.count("dropped"), 3, "it is closed");
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn what_the_store_does_not_take_is_noted_again_with_the_next_use() {
    let options = crate::store::SqliteOptions { path: None, max_connections: 1 };
    let store = crate::store::SqliteStore::open(&options).await.unwrap();
    store.close().await;
    let bench = Fixture::over(Arc::new(store), SETTINGS);
    (0..3).for_each(|number| bench.tracker.note(&key(number), at(0)));
    bench.end().await;
    assert_eq!((bench.count("failed"), bench.count("dropped")), (3, 0));
    (0..3).for_each(|number| bench.tracker.note(&key(number), at(0)));
    assert_eq!(bench.count("dropped"), 3, "nobody takes them any more, but they were not known");
}

#[tokio::test]
async fn an_interval_that_is_over_writes_what_is_there() {
    let bench = Fixture::new(Settings { flush_interval: Duration::from_millis(1), ..SETTINGS }, 1).await;
    let writer = Arc::clone(&bench.writer);
    let writing = tokio::spawn(async move { writer.run().await });
    bench.tracker.note(&key(0), at(0));
    while bench.last_used(0).await.is_none() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    bench.tracker.close();
    writing.await.unwrap();
}

#[test]
fn of_many_threads_one_notes_a_key_and_many_keys_stay_known() {
    const KEYS: u128 = 20_000;
    let today = Today::new();
    let added = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let new = (0..KEYS).filter(|number| today.add(today.mark(&key(*number), at(0)))).count();
                added.fetch_add(new, Ordering::Relaxed);
            });
        }
    });
    // A set that is full forgets; of this many keys, few share one.
    let added = added.into_inner();
    assert!((20_000..20_040).contains(&added), "{added}");
    let mark = today.mark(&key(1), at(0));
    today.forget(mark);
    assert!(today.add(mark) && !today.add(mark));
    assert!(today.add(today.mark(&key(1), at(86_400))));
    assert!(today.add(today.mark(&CachedKey::from(&ApiKey { create_time: at(1), ..stored(1) }), at(0))));
}
