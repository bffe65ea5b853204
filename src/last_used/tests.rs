use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use prometheus::Registry;
use uuid::Uuid;

use super::daily_set::DailySet;
use super::*;
use crate::clock::{ManualClock, Timestamp};
use crate::id::{KeyId, TenantId};
use crate::key::{ApiKey, CachedKey};
use crate::request_context::RequestContext;
use crate::store::{KeyStore, MemoryStore};

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
        name: "n".into(),
        actor_id: "a".into(),
        version: 1,
        ..ApiKey::new(TenantId::NIL, KeyId::Issued(Uuid::from_u128(number)), at(0))
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

    /// Closes the tracker and runs the writer on several tasks until the queue is empty.
    async fn finish(&self) {
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
async fn first_use_of_a_day_is_recorded_with_the_time_of_the_write() {
    let fixture = Fixture::new(SETTINGS, 30).await;
    for _ in 0..100 {
        (0..25).for_each(|number| fixture.tracker.note(&key(number), at(0)));
    }
    fixture.clock.set(at(60));
    fixture.finish().await;
    assert_eq!((fixture.count("written"), fixture.count("dropped")), (25, 0));
    assert_eq!((fixture.last_used(24).await, fixture.last_used(25).await), (Some(at(60)), None));
}

#[tokio::test]
async fn use_on_a_recorded_day_is_not_queued_again() {
    const HOUR: i64 = 3600;
    let fixture = Fixture::new(SETTINGS, 1).await;
    let used = |time| CachedKey::from(&ApiKey { last_used_time: Some(at(time)), ..stored(0) });
    fixture.tracker.note(&used(-HOUR), at(0));
    fixture.tracker.note(&used(HOUR), at(0));
    fixture.tracker.note(&used(0), at(4 * HOUR));
    fixture.tracker.note(&used(0), at(5 * HOUR));
    fixture.clock.set(at(5 * HOUR));
    fixture.finish().await;
    assert_eq!((fixture.count("written"), fixture.last_used(0).await), (1, Some(at(5 * HOUR))));
}

#[tokio::test]
async fn use_that_was_noted_is_noted_again_on_another_day_and_after_a_removal() {
    const DAY: i64 = 86_400;
    let fixture = Fixture::new(SETTINGS, 1).await;
    let mut noted = None;
    fixture.tracker.note_again(&key(0), at(0), &mut noted);
    let first = noted;
    fixture.tracker.note_again(&key(0), at(1), &mut noted);
    assert!(first.is_some() && noted == first);
    fixture.tracker.note_again(&key(0), at(DAY), &mut noted);
    assert_ne!(noted, first);
    fixture.finish().await;
    assert_eq!(fixture.count("written"), 2);

    let set = DailySet::new();
    let before = set.noted(&key(0), at(0));
    set.remove(set.mark(&key(0), at(0)));
    assert_ne!(set.noted(&key(0), at(0)), before);
}

#[tokio::test]
async fn dropped_use_is_not_noted() {
    let fixture = Fixture::new(Settings { queue_size: 1, ..SETTINGS }, 2).await;
    let (mut queued, mut dropped) = (None, None);
    fixture.tracker.note_again(&key(0), at(0), &mut queued);
    fixture.tracker.note_again(&key(1), at(0), &mut dropped);
    assert!(queued.is_some() && dropped.is_none());
}

#[tokio::test]
async fn full_queue_drops_uses_and_later_ones_are_queued_again() {
    let settings = Settings { queue_size: 2, flush_interval: Duration::ZERO, ..SETTINGS };
    let fixture = Fixture::new(settings, 3).await;
    for _ in 0..2 {
        (0..3).for_each(|number| fixture.tracker.note(&key(number), at(0)));
    }
    assert_eq!((fixture.count("written"), fixture.count("dropped")), (0, 2));
    let writer = Arc::clone(&fixture.writer);
    let writing = tokio::spawn(async move { writer.run().await });
    while fixture.count("written") < 2 {
        tokio::task::yield_now().await;
    }
    (0..3).for_each(|number| fixture.tracker.note(&key(number), at(0)));
    fixture.tracker.close();
    writing.await.unwrap();
    assert_eq!((fixture.count("written"), fixture.count("dropped")), (3, 2));
    assert_eq!(fixture.last_used(2).await, Some(at(0)));
    fixture.tracker.note(&key(4), at(0));
    assert_eq!(fixture.count("dropped"), 3, "the queue is closed");
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn use_is_queued_again_after_a_failed_write() {
    let options = crate::store::SqliteOptions { path: None, max_connections: 1 };
    let store = crate::store::SqliteStore::open(&options).await.unwrap();
    store.close().await;
    let fixture = Fixture::over(Arc::new(store), SETTINGS);
    (0..3).for_each(|number| fixture.tracker.note(&key(number), at(0)));
    fixture.finish().await;
    assert_eq!((fixture.count("failed"), fixture.count("dropped")), (3, 0));
    (0..3).for_each(|number| fixture.tracker.note(&key(number), at(0)));
    assert_eq!(fixture.count("dropped"), 3, "the queue is closed, but the uses were not marked as queued");
}

#[tokio::test]
async fn incomplete_batch_is_written_after_the_flush_interval() {
    let fixture = Fixture::new(Settings { flush_interval: Duration::from_millis(1), ..SETTINGS }, 1).await;
    let writer = Arc::clone(&fixture.writer);
    let writing = tokio::spawn(async move { writer.run().await });
    fixture.tracker.note(&key(0), at(0));
    while fixture.last_used(0).await.is_none() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    fixture.tracker.close();
    writing.await.unwrap();
}

#[test]
fn concurrent_inserts_of_a_mark_succeed_once() {
    const KEYS: u128 = 20_000;
    let set = DailySet::new();
    let inserted = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let new = (0..KEYS).filter(|number| set.insert(set.mark(&key(*number), at(0)))).count();
                inserted.fetch_add(new, Ordering::Relaxed);
            });
        }
    });
    // A full set evicts marks, but of this many keys few share a set.
    let inserted = inserted.into_inner();
    assert!((20_000..20_040).contains(&inserted), "{inserted}");
    let mark = set.mark(&key(1), at(0));
    set.remove(mark);
    assert!(set.insert(mark) && !set.insert(mark));
    assert!(set.insert(set.mark(&key(1), at(86_400))));
    assert!(set.insert(set.mark(&CachedKey::from(&ApiKey { create_time: at(1), ..stored(1) }), at(0))));
}
