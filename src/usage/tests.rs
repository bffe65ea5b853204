use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use prometheus::Registry;
use uuid::Uuid;

use super::*;
use crate::clock::{ManualClock, Timestamp};
use crate::id::{KeyId, TenantId};
use crate::request_context::RequestContext;
use crate::store::{
    KeyStore, MemoryStore, StoreError, TopUsageQuery, UsageBatch, UsageCounts, UsageHour, UsageQuery, UsageStore,
    UsageSum,
};

/// A store that fails some writes, before or after they took effect.
struct Flaky {
    store: Arc<dyn UsageStore>,
    failures: AtomicUsize,
    writes_first: bool,
}

#[async_trait]
impl UsageStore for Flaky {
    async fn add_usage(&self, context: &RequestContext, batch: &UsageBatch) -> Result<(), StoreError> {
        let is_failure =
            self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        if !is_failure || self.writes_first {
            self.store.add_usage(context, batch).await?;
        }
        if is_failure { Err(StoreError::Timeout) } else { Ok(()) }
    }

    async fn usage_of(&self, query: &UsageQuery) -> Result<Vec<UsageSum>, StoreError> {
        self.store.usage_of(query).await
    }

    async fn top_usage(&self, _: &TopUsageQuery) -> Result<Vec<(KeyId, u64)>, StoreError> {
        unreachable!("these tests compare no keys")
    }

    async fn prune_usage(&self, _: &RequestContext, _: UsageHour, _: u32) -> Result<u64, StoreError> {
        unreachable!("these tests remove nothing")
    }
}

struct Fixture {
    counter: Arc<UsageCounter>,
    writer: Arc<Writer>,
    store: Arc<Flaky>,
    registry: Registry,
}

const SETTINGS: Settings = Settings { max_counters: 1000, flush_interval: Duration::from_secs(3600) };

fn start() -> Timestamp {
    UsageHour(490_000).begin()
}

fn key(number: u128) -> KeyId {
    // Spread over the table as random ids are.
    KeyId::Issued(Uuid::from_u128(number.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)))
}

impl Fixture {
    fn new(settings: Settings) -> Self {
        Self::failing(settings, 0, false)
    }

    fn failing(settings: Settings, failures: usize, writes_first: bool) -> Self {
        let store = Arc::new(MemoryStore::default()).usage().unwrap();
        let store = Arc::new(Flaky { store, failures: AtomicUsize::new(failures), writes_first });
        let registry = Registry::new();
        let metrics = Metrics::register(&registry).unwrap();
        let context = RequestContext::system(TenantId::NIL);
        let clock = ManualClock::new(start());
        let (counter, writer) = usage_counter(context, settings, Arc::<Flaky>::clone(&store), &clock, &metrics);
        Self { counter, writer: Arc::new(writer), store, registry }
    }

    fn metric(&self, outcome: &str) -> u64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == "keygate_usage_requests_total").unwrap();
        let named = family.get_metric().iter().find(|metric| metric.get_label()[0].value() == outcome).unwrap();
        // Counts are small.
        format!("{:.0}", named.get_counter().get_value()).parse().unwrap()
    }

    /// The stored usage of a key: hours since the start, refusal, requests and bytes.
    async fn stored(&self, key: KeyId) -> Vec<(u32, String, UsageCounts)> {
        let first = UsageHour::of(start());
        let query = UsageQuery { tenant: TenantId::NIL, key, from: first, to: UsageHour(first.0 + 100), step: 1 };
        let sums = self.store.usage_of(&query).await.unwrap().into_iter().filter(|sum| sum.is_of_key);
        sums.map(|sum| (sum.period.0 - first.0, sum.refusal, sum.counts)).collect()
    }

    async fn requests(&self, key: KeyId) -> u64 {
        self.stored(key).await.iter().map(|(_, _, counts)| counts.requests).sum()
    }

    async fn without_key(&self) -> u64 {
        let query =
            UsageQuery { tenant: TenantId::NIL, key: key(0), from: UsageHour(0), to: UsageHour(u32::MAX), step: 1 };
        let sums = self.store.usage_of(&query).await.unwrap();
        sums.iter().filter(|sum| !sum.is_of_key).map(|sum| sum.counts.requests).sum()
    }

    async fn finish(&self) {
        self.counter.close();
        self.writer.run().await;
    }
}

fn counts(requests: u64, bytes_received: u64, bytes_sent: u64) -> UsageCounts {
    UsageCounts { requests, bytes_received, bytes_sent }
}

#[tokio::test]
async fn requests_add_up_by_key_hour_and_refusal() {
    let fixture = Fixture::new(SETTINGS);
    let imported = KeyId::Imported([3; 32]);
    for _ in 0..3 {
        fixture.counter.count(&key(1), None, 5, 70);
        fixture.counter.count(&imported, None, 0, 1);
    }
    fixture.counter.count(&key(1), Some("quota_exceeded"), 1, 2);
    fixture.writer.flush().await.unwrap();
    fixture.counter.set_hour(UsageHour(UsageHour::of(start()).0 + 1));
    fixture.counter.count(&key(1), None, 1, 1);
    fixture.counter.count(&key(1), Some("scope_insufficient"), 0, 9);
    fixture.finish().await;
    let expected = [
        (0, String::new(), counts(3, 15, 210)),
        (0, "quota_exceeded".to_owned(), counts(1, 1, 2)),
        (1, String::new(), counts(1, 1, 1)),
        (1, "scope_insufficient".to_owned(), counts(1, 0, 9)),
    ];
    assert_eq!(fixture.stored(key(1)).await, expected);
    assert_eq!(fixture.stored(imported).await, [(0, String::new(), counts(3, 0, 3))]);
    assert_eq!((fixture.metric("written"), fixture.metric("without_key"), fixture.metric("lost")), (9, 0, 0));
}

#[tokio::test]
async fn key_that_was_counted_before_allocates_nothing() {
    let fixture = Fixture::new(SETTINGS);
    fixture.counter.count(&key(1), None, 1, 1);
    let allocations = || allocation_counter::measure(|| fixture.counter.count(&key(1), None, 1, 1)).count_total;
    assert_eq!(allocations(), 0);
    fixture.writer.flush().await.unwrap();
    assert_eq!(allocations(), 0, "after a write");
}

#[tokio::test]
async fn counters_of_idle_keys_and_of_past_hours_are_freed() {
    let fixture = Fixture::new(SETTINGS);
    (0..100).for_each(|number| fixture.counter.count(&key(number), None, 0, 0));
    fixture.writer.flush().await.unwrap();
    assert_eq!(fixture.counter.cells(), 100, "they were used since the last write");
    (0..10).for_each(|number| fixture.counter.count(&key(number), None, 0, 0));
    fixture.writer.flush().await.unwrap();
    assert_eq!(fixture.counter.cells(), 10);
    (0..10).for_each(|number| fixture.counter.count(&key(number), None, 0, 0));
    fixture.counter.set_hour(UsageHour(UsageHour::of(start()).0 + 1));
    fixture.writer.flush().await.unwrap();
    assert_eq!((fixture.counter.cells(), fixture.requests(key(1)).await), (0, 3));
}

#[tokio::test]
async fn requests_beyond_the_bound_are_counted_without_their_keys() {
    let fixture = Fixture::new(Settings { max_counters: 100, ..SETTINGS });
    for _ in 0..2 {
        (0..150).for_each(|number| fixture.counter.count(&key(number), None, 0, 0));
    }
    assert_eq!(fixture.counter.cells(), 100);
    fixture.finish().await;
    assert_eq!((fixture.metric("written"), fixture.metric("without_key")), (300, 100));
    assert_eq!((fixture.requests(key(99)).await, fixture.requests(key(100)).await), (2, 0));
    assert_eq!(fixture.without_key().await, 100);
    assert_eq!(fixture.counter.cells(), 0, "a crowded table is emptied");
}

#[tokio::test]
async fn crowded_table_is_written_before_the_flush_interval() {
    let fixture = Fixture::new(Settings { max_counters: 100, ..SETTINGS });
    let writer = Arc::clone(&fixture.writer);
    let writing = tokio::spawn(async move { writer.run().await });
    (0..60).for_each(|number| fixture.counter.count(&key(number), None, 0, 0));
    while fixture.metric("written") < 60 {
        tokio::task::yield_now().await;
    }
    fixture.counter.close();
    writing.await.unwrap();
    assert_eq!(fixture.counter.requests(), 0);
}

#[tokio::test]
async fn failed_writes_are_repeated_and_add_nothing_twice() {
    for writes_first in [false, true] {
        let fixture = Fixture::failing(SETTINGS, 2, writes_first);
        for _ in 0..2 {
            (0..50).for_each(|number| fixture.counter.count(&key(number), None, 1, 1));
            assert!(fixture.writer.flush().await.is_err());
        }
        (0..50).for_each(|number| fixture.counter.count(&key(number), None, 1, 1));
        fixture.finish().await;
        for number in 0..50 {
            assert_eq!(fixture.stored(key(number)).await, [(0, String::new(), counts(3, 3, 3))], "{writes_first}");
        }
        assert_eq!((fixture.metric("written"), fixture.metric("lost")), (150, 0));
    }
}

#[tokio::test]
async fn closed_writer_tries_again_until_everything_is_written() {
    let fixture = Fixture::failing(SETTINGS, 2, false);
    fixture.counter.count(&key(1), None, 0, 0);
    fixture.finish().await;
    assert_eq!(fixture.requests(key(1)).await, 1);
}

#[tokio::test]
async fn requests_that_are_given_up_are_counted() {
    let fixture = Fixture::failing(SETTINGS, usize::MAX, false);
    (0..7).for_each(|number| fixture.counter.count(&key(number), None, 0, 0));
    assert!(fixture.writer.flush().await.is_err());
    (0..4).for_each(|number| fixture.counter.count(&key(number), None, 0, 0));
    fixture.writer.give_up();
    assert_eq!((fixture.metric("written"), fixture.metric("lost")), (0, 11));
}

#[tokio::test]
async fn many_rows_are_written_in_several_batches() {
    let fixture = Fixture::new(Settings { max_counters: 10_000, ..SETTINGS });
    (0..4500).for_each(|number| fixture.counter.count(&key(number), None, 0, 0));
    fixture.finish().await;
    assert_eq!(fixture.metric("written"), 4500);
    for number in [0, 2000, 4499] {
        assert_eq!(fixture.requests(key(number)).await, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_request_is_lost_or_counted_twice_while_others_write() {
    const THREADS: u64 = 4;
    const REQUESTS: u64 = 20_000;
    let fixture = Fixture::new(Settings { flush_interval: Duration::from_millis(1), ..SETTINGS });
    let writer = Arc::clone(&fixture.writer);
    let writing = tokio::spawn(async move { writer.run().await });
    let counting: Vec<_> = (0..THREADS)
        .map(|thread| {
            let counter = Arc::clone(&fixture.counter);
            tokio::task::spawn_blocking(move || {
                for request in 0..REQUESTS {
                    counter.count(&key(u128::from(request % 100)), None, 1, 2);
                    if request % 5000 == 0 && thread == 0 {
                        counter.set_hour(UsageHour(counter.hour().0 + 1));
                    }
                }
            })
        })
        .collect();
    for thread in counting {
        thread.await.unwrap();
    }
    fixture.counter.close();
    writing.await.unwrap();
    let mut requests = 0;
    for number in 0..100 {
        requests += fixture.requests(key(number)).await;
    }
    assert_eq!((requests, fixture.metric("written")), (THREADS * REQUESTS, THREADS * REQUESTS));
}

#[tokio::test(start_paused = true)]
async fn hour_of_the_clock_is_followed() {
    let fixture = Fixture::new(SETTINGS);
    let clock = Arc::new(ManualClock::new(start()));
    let follower = (Arc::clone(&fixture.counter), Arc::clone(&clock));
    let following = tokio::spawn(async move { follower.0.follow_hours(&*follower.1).await });
    for hours in [1, 2, 50] {
        clock.set(start() + chrono::TimeDelta::hours(hours));
        let expected = UsageHour::of(start() + chrono::TimeDelta::hours(hours));
        // The time of tokio is paused, so the sleep of the follower ends at once.
        while fixture.counter.hour() != expected {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    following.abort();
}
