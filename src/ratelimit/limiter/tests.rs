use std::time::Duration;

use prometheus::Registry;

use super::*;
use crate::clock::ManualClock;
use crate::ratelimit::testing::{MemoryBucketStore, clock, named, owner};
use crate::ratelimit::{Exact, NamedLimit};

const MINUTE: Duration = Duration::from_secs(60);

struct Fixture {
    limiter: Limiter,
    store: Arc<MemoryBucketStore>,
    clock: Arc<ManualClock>,
    registry: Registry,
}

fn fixture(on_down: OnBackendDown, nodes: u32) -> Fixture {
    let (clock, registry, nodes) = (clock(), Registry::new(), Arc::new(Nodes::of(nodes)));
    let store = Arc::new(MemoryBucketStore::new(clock.clone()));
    let metrics = Metrics::register(&registry, Arc::clone(&nodes)).unwrap();
    let local = Local::new(1000, clock.clone());
    let backend = Arc::new(Exact::new(store.clone()));
    Fixture { limiter: Limiter::shared(backend, on_down, local, nodes, metrics), store, clock, registry }
}

impl Fixture {
    async fn charge(&self, limits: &[NamedLimit]) -> ChargeResult {
        self.limiter.charge(&Charge { owner: owner(1), limits, cost: 1 }).await
    }

    async fn admitted(&self, limits: &[NamedLimit]) -> u32 {
        let mut count = 0;
        while let ChargeResult::Counted(Decision { admitted: true, .. }) = self.charge(limits).await {
            count += 1;
        }
        count
    }

    fn has_metric(&self, line: &str) -> bool {
        prometheus::TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap().lines().any(|l| l == line)
    }
}

#[tokio::test]
async fn node_continues_with_its_share_of_the_remaining_quota_without_redis() {
    let fixture = fixture(OnBackendDown::Local, 2);
    let limits = [named("default", 100, MINUTE)];
    for _ in 0..60 {
        fixture.charge(&limits).await;
    }
    fixture.store.is_down.store(true, Ordering::Relaxed);
    assert_eq!(fixture.admitted(&limits).await, 20);
    fixture.clock.advance(MINUTE);
    assert_eq!(fixture.admitted(&limits).await, 50);
    // Redis has not counted these.
    fixture.store.is_down.store(false, Ordering::Relaxed);
    assert_eq!(fixture.admitted(&limits).await, 100);
    fixture.store.is_down.store(true, Ordering::Relaxed);
    assert_eq!(fixture.admitted(&limits).await, 0);
    assert!(fixture.has_metric("keygate_rate_limit_decisions_total{outcome=\"admitted\"} 230"));
    assert!(fixture.has_metric("keygate_rate_limit_decisions_total{outcome=\"refused\"} 4"));
    assert!(fixture.has_metric("keygate_rate_limit_failures_total 73"));
    assert!(fixture.has_metric("keygate_rate_limit_nodes 2"));
}

#[tokio::test]
async fn limiter_fails_open_or_closed_as_configured() {
    for (on_down, result, outcome) in [
        (OnBackendDown::Open, ChargeResult::Open, "admitted_uncounted"),
        (OnBackendDown::Closed, ChargeResult::Closed, "refused_uncounted"),
    ] {
        let fixture = fixture(on_down, 1);
        let limits = [named("default", 2, MINUTE)];
        fixture.store.is_down.store(true, Ordering::Relaxed);
        for _ in 0..5 {
            assert_eq!(fixture.charge(&limits).await, result);
        }
        assert!(fixture.has_metric(&format!("keygate_rate_limit_decisions_total{{outcome=\"{outcome}\"}} 5")));
        fixture.store.is_down.store(false, Ordering::Relaxed);
        assert_eq!(fixture.admitted(&limits).await, 2);
    }
}

#[tokio::test]
async fn local_limiter_counts_in_this_process() {
    let (clock, registry) = (clock(), Registry::new());
    let metrics = Metrics::register(&registry, Arc::new(Nodes::alone())).unwrap();
    let limiter = Limiter::local(Local::new(1000, clock), metrics);
    let limits = [named("default", 1, MINUTE)];
    let charge = Charge { owner: owner(1), limits: &limits, cost: 1 };
    let mut results = Vec::new();
    for _ in 0..2 {
        let ChargeResult::Counted(decision) = limiter.charge(&charge).await else { panic!("it can always count") };
        results.push((decision.admitted, decision.retry_after()));
    }
    assert_eq!(results, [(true, Duration::ZERO), (false, MINUTE)]);
}

#[tokio::test]
async fn request_rejected_for_one_owner_is_not_charged_to_the_others() {
    for on_down in [OnBackendDown::Local, OnBackendDown::Open] {
        let fixture = fixture(on_down, 1);
        let (wide, narrow) = ([named("wide", 5, MINUTE)], [named("narrow", 2, MINUTE)]);
        let charges = [(1, &wide), (2, &narrow), (3, &wide)].map(|(number, limits)| Charge {
            owner: owner(number),
            limits,
            cost: 1,
        });
        let remaining = async || {
            let results = fixture.limiter.charge_all(&charges).await;
            let outcome = |result: &ChargeResult| match result {
                ChargeResult::Counted(decision) => (decision.admitted, decision.outcomes[0].remaining),
                _ => panic!("{result:?}"),
            };
            results.iter().map(outcome).collect::<Vec<_>>()
        };
        assert_eq!(remaining().await, [(true, 4), (true, 1), (true, 4)]);
        assert_eq!(remaining().await, [(true, 3), (true, 0), (true, 3)]);
        for _ in 0..3 {
            assert_eq!(remaining().await, [(true, 3), (false, 0), (true, 3)], "{on_down:?}");
        }
        if on_down == OnBackendDown::Local {
            // The same while this node counts alone.
            fixture.store.is_down.store(true, Ordering::Relaxed);
            assert_eq!(remaining().await, [(true, 3), (false, 0), (true, 3)]);
        }
    }
}
