//! The usage of keys.

use std::sync::Arc;

use uuid::Uuid;

use crate::id::{KeyId, RequestId, TenantId};
use crate::request_context::{ActorScope, Principal, RequestContext};
use crate::store::usage_store::*;
use crate::store::{KeyStore, StoreError};

const OTHER: TenantId = TenantId(Uuid::from_u128(9));
/// Midnight of a day.
const DAY: u32 = 24 * 20_000;
const WRITER: Uuid = Uuid::from_u128(1);

fn system() -> RequestContext {
    RequestContext::system(TenantId::NIL)
}

fn issued(number: u128) -> KeyId {
    KeyId::Issued(Uuid::from_u128(number))
}

fn counts(requests: u64) -> UsageCounts {
    UsageCounts { requests, bytes_received: 10 * requests, bytes_sent: 100 * requests }
}

fn row(key: KeyId, hour: u32, refusal: Option<&'static str>, requests: u64) -> UsageRow {
    UsageRow { key: Some(key), hour: UsageHour(hour), refusal, counts: counts(requests) }
}

fn batch(writer: Uuid, number: u64, rows: Vec<UsageRow>) -> UsageBatch {
    UsageBatch { tenant: TenantId::NIL, writer, number, hour: UsageHour(DAY), rows }
}

fn query(key: KeyId, from: u32, to: u32, step: u32) -> UsageQuery {
    UsageQuery { tenant: TenantId::NIL, key, from: UsageHour(from), to: UsageHour(to), step }
}

/// The sums of a key: period, refusal, requests.
async fn sums(store: &Arc<dyn KeyStore>, query: UsageQuery) -> Vec<(u32, String, u64)> {
    let sums = Arc::clone(store).usage().unwrap().usage_of(&query).await.unwrap();
    assert!(sums.iter().all(|sum| sum.counts == counts(sum.counts.requests)), "{sums:?}");
    let of_key = sums.into_iter().filter(|sum| sum.is_of_key);
    of_key.map(|sum| (sum.period.0, sum.refusal, sum.counts.requests)).collect()
}

async fn add(store: &Arc<dyn KeyStore>, batch: &UsageBatch) {
    Arc::clone(store).usage().unwrap().add_usage(&system(), batch).await.unwrap();
}

pub(super) async fn batches_of_all_writers_add_up(store: Arc<dyn KeyStore>) {
    let imported = KeyId::Imported([7; 32]);
    for (writer, number) in [(WRITER, 1), (WRITER, 2), (Uuid::from_u128(2), 1)] {
        let rows = vec![row(imported, DAY, None, 2), row(issued(1), DAY, None, 3), row(issued(1), DAY, Some("x"), 1)];
        add(&store, &batch(writer, number, rows)).await;
    }
    let hour = |key| query(key, DAY, DAY + 1, 1);
    assert_eq!(sums(&store, hour(issued(1))).await, [(DAY, String::new(), 9), (DAY, "x".into(), 3)]);
    assert_eq!(sums(&store, hour(imported)).await, [(DAY, String::new(), 6)]);
    assert_eq!(sums(&store, hour(issued(2))).await, []);
    add(&store, &batch(WRITER, 3, Vec::new())).await;
}

pub(super) async fn batch_is_added_once(store: Arc<dyn KeyStore>) {
    let first = batch(WRITER, 1, vec![row(issued(1), DAY, None, 1)]);
    let second = batch(WRITER, 2, vec![row(issued(1), DAY, None, 10)]);
    for batch in [&first, &first, &second, &first, &second] {
        add(&store, batch).await;
    }
    assert_eq!(sums(&store, query(issued(1), DAY, DAY + 1, 1)).await, [(DAY, String::new(), 11)]);
}

pub(super) async fn concurrent_writers_add_up(store: Arc<dyn KeyStore>) {
    const BATCHES: u64 = 10;
    let write = |writer: u128| {
        let usage = Arc::clone(&store).usage().unwrap();
        async move {
            for number in 1..=BATCHES {
                let mut rows: Vec<_> = (0..50).map(|key| row(issued(key), DAY, None, 1)).collect();
                if writer.is_multiple_of(2) {
                    rows.reverse();
                }
                let batch = batch(Uuid::from_u128(writer), number, rows);
                // Both write the same batch; one of them adds it.
                let (context, again) = (system(), system());
                let (first, second) = tokio::join!(usage.add_usage(&context, &batch), usage.add_usage(&again, &batch));
                first.and(second).unwrap();
            }
        }
    };
    let writers: Vec<_> = (1..=4).map(|writer| tokio::spawn(write(writer))).collect();
    for writer in writers {
        writer.await.unwrap();
    }
    for key in 0..50 {
        assert_eq!(sums(&store, query(issued(key), DAY, DAY + 1, 1)).await, [(DAY, String::new(), 4 * BATCHES)]);
    }
}

pub(super) async fn usage_is_summed_by_period_and_refusal(store: Arc<dyn KeyStore>) {
    let rows = (0..48).map(|hour| row(issued(1), DAY + hour, None, 1));
    let refused = [row(issued(1), DAY + 5, Some("quota_exceeded"), 7), row(issued(1), DAY + 30, Some("revoked"), 2)];
    add(&store, &batch(WRITER, 1, rows.chain(refused).collect())).await;
    let sums = async |from, to, step| sums(&store, query(issued(1), from, to, step)).await;
    assert_eq!(
        sums(DAY, DAY + 48, 24).await,
        [
            (DAY, String::new(), 24),
            (DAY, "quota_exceeded".into(), 7),
            (DAY + 24, String::new(), 24),
            (DAY + 24, "revoked".into(), 2)
        ]
    );
    assert_eq!(sums(DAY, DAY + 48, 1).await.len(), 50);
    // The end of a range is not part of it.
    assert_eq!(sums(DAY + 4, DAY + 5, 1).await, [(DAY + 4, String::new(), 1)]);
    assert_eq!(sums(DAY + 48, DAY + 100, 1).await, []);
}

pub(super) async fn usage_of_tenants_and_kinds_is_separate(store: Arc<dyn KeyStore>) {
    let rows = vec![row(issued(1), DAY, None, 1), row(KeyId::Imported([1; 32]), DAY, None, 2)];
    add(&store, &batch(WRITER, 1, rows.clone())).await;
    add(&store, &UsageBatch { tenant: OTHER, ..batch(Uuid::from_u128(2), 1, rows) }).await;
    for tenant in [TenantId::NIL, OTHER] {
        for (key, requests) in [(issued(1), 1), (KeyId::Imported([1; 32]), 2)] {
            let query = UsageQuery { tenant, ..query(key, DAY, DAY + 1, 1) };
            assert_eq!(sums(&store, query).await, [(DAY, String::new(), requests)]);
        }
    }
}

pub(super) async fn requests_without_key_are_apart(store: Arc<dyn KeyStore>) {
    let without = |hour, requests| UsageRow { key: None, ..row(issued(1), hour, None, requests) };
    add(&store, &batch(WRITER, 1, vec![row(issued(1), DAY, None, 1), without(DAY, 5), without(DAY + 1, 6)])).await;
    for (key, requests) in [(issued(1), vec![(true, 1), (false, 11)]), (issued(2), vec![(false, 11)])] {
        let sums = Arc::clone(&store).usage().unwrap().usage_of(&query(key, DAY, DAY + 24, 24)).await.unwrap();
        let mut found: Vec<_> = sums.iter().map(|sum| (sum.is_of_key, sum.counts.requests)).collect();
        found.sort_unstable_by_key(|(is_of_key, _)| !is_of_key);
        assert_eq!(found, requests);
    }
}

pub(super) async fn keys_with_the_most_requests_come_first(store: Arc<dyn KeyStore>) {
    let (imported, without) = (KeyId::Imported([1; 32]), UsageRow { key: None, ..row(issued(1), DAY, None, 99) });
    let rows = vec![
        row(issued(1), DAY - 1, None, 100),
        row(issued(1), DAY, None, 1),
        row(issued(2), DAY, None, 3),
        row(issued(2), DAY + 1, Some("revoked"), 1),
        row(imported, DAY, Some("x"), 2),
        row(imported, DAY, Some("y"), 2),
        without,
    ];
    add(&store, &batch(WRITER, 1, rows)).await;
    add(&store, &UsageBatch { tenant: OTHER, ..batch(Uuid::from_u128(2), 1, vec![row(issued(3), DAY, None, 50)]) })
        .await;
    let usage = Arc::clone(&store).usage().unwrap();
    let top = async |only_refused, limit| {
        let query = TopUsageQuery { tenant: TenantId::NIL, from: UsageHour(DAY), only_refused, limit };
        usage.top_usage(&query).await.unwrap()
    };
    assert_eq!(top(false, 10).await, [(issued(2), 4), (imported, 4), (issued(1), 1)]);
    assert_eq!(top(false, 1).await, [(issued(2), 4)]);
    assert_eq!(top(true, 10).await, [(imported, 4), (issued(2), 1)]);
}

pub(super) async fn large_counts_are_kept(store: Arc<dyn KeyStore>) {
    let large = 1_u64 << 61;
    let counts = UsageCounts { requests: large, bytes_received: large, bytes_sent: large };
    for number in 1..=2 {
        let row = UsageRow { counts, ..row(issued(1), DAY, None, 0) };
        add(&store, &batch(WRITER, number, vec![row])).await;
    }
    let sums = Arc::clone(&store).usage().unwrap().usage_of(&query(issued(1), DAY, DAY + 1, 1)).await.unwrap();
    let twice = UsageCounts { requests: 2 * large, bytes_received: 2 * large, bytes_sent: 2 * large };
    assert_eq!(sums.iter().map(|sum| sum.counts).collect::<Vec<_>>(), [twice]);
}

pub(super) async fn prune_removes_hours_before_a_time(store: Arc<dyn KeyStore>) {
    let rows = (0..100).map(|hour| row(issued(1), DAY + hour, None, 1)).collect();
    add(&store, &batch(WRITER, 1, rows)).await;
    let usage = Arc::clone(&store).usage().unwrap();
    let prune = async |hour| usage.prune_usage(&system(), UsageHour(hour), 30).await.unwrap();
    let mut removed = Vec::new();
    while let Some(count) = Some(prune(DAY + 70).await).filter(|count| *count > 0) {
        removed.push(count);
    }
    assert_eq!(removed, [30, 30, 10]);
    let left = sums(&store, query(issued(1), DAY, DAY + 100, 1)).await;
    assert_eq!((left.len(), left[0].0), (30, DAY + 70));
}

pub(super) async fn usage_of_another_tenant_is_not_written(store: Arc<dyn KeyStore>) {
    let (actors, request_id) = (ActorScope::All, RequestId::random());
    let principal = Principal::Anonymous;
    let context = RequestContext { tenant: OTHER, principal, actors, client_ip: None, request_id };
    let usage = Arc::clone(&store).usage().unwrap();
    let written = usage.add_usage(&context, &batch(WRITER, 1, vec![row(issued(1), DAY, None, 1)])).await;
    assert!(matches!(written, Err(StoreError::WrongTenant(_))), "{written:?}");
    let pruned = usage.prune_usage(&context, UsageHour(u32::MAX), 10).await;
    assert!(matches!(pruned, Err(StoreError::WrongTenant(_))), "{pruned:?}");
    assert_eq!(sums(&store, query(issued(1), DAY, DAY + 1, 1)).await, []);
}
