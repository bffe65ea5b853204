use std::time::Duration;

use prometheus::Registry;

use super::*;
use crate::clock::ManualClock;
use crate::ratelimit::testing::{MemoryLedger, clock, named, owner};
use crate::ratelimit::{Exact, NamedLimit};

const MINUTE: Duration = Duration::from_secs(60);

struct Parts {
    limiter: Limiter,
    ledger: Arc<MemoryLedger>,
    clock: Arc<ManualClock>,
    registry: Registry,
}

fn parts(on_down: OnBackendDown, nodes: u32) -> Parts {
    let (clock, registry, nodes) = (clock(), Registry::new(), Arc::new(Nodes::of(nodes)));
    let ledger = Arc::new(MemoryLedger::new(clock.clone()));
    let metrics = Metrics::register(&registry, Arc::clone(&nodes)).unwrap();
    let local = Local::new(1000, clock.clone());
    let backend = Arc::new(Exact::new(ledger.clone()));
    Parts { limiter: Limiter::shared(backend, on_down, local, nodes, metrics), ledger, clock, registry }
}

impl Parts {
    async fn ask(&self, limits: &[NamedLimit]) -> ChargeResult {
        self.limiter.charge(&Charge { owner: owner(1), limits, cost: 1 }).await
    }

    async fn admitted(&self, limits: &[NamedLimit]) -> u32 {
        let mut count = 0;
        while let ChargeResult::Counted(Decision { admitted: true, .. }) = self.ask(limits).await {
            count += 1;
        }
        count
    }

    fn counted(&self, line: &str) -> bool {
        prometheus::TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap().lines().any(|l| l == line)
    }
}

#[tokio::test]
async fn without_redis_a_node_goes_on_with_its_part_of_what_is_left() {
    let parts = parts(OnBackendDown::Local, 2);
    let limits = [named("default", 100, MINUTE)];
    for _ in 0..60 {
        parts.ask(&limits).await;
    }
    parts.ledger.is_down.store(true, Ordering::Relaxed);
    assert_eq!(parts.admitted(&limits).await, 20);
    parts.clock.advance(MINUTE);
    assert_eq!(parts.admitted(&limits).await, 50);
    // Redis knows nothing of these.
    parts.ledger.is_down.store(false, Ordering::Relaxed);
    assert_eq!(parts.admitted(&limits).await, 100);
    parts.ledger.is_down.store(true, Ordering::Relaxed);
    assert_eq!(parts.admitted(&limits).await, 0);
    assert!(parts.counted("keygate_rate_limit_decisions_total{outcome=\"admitted\"} 230"));
    assert!(parts.counted("keygate_rate_limit_decisions_total{outcome=\"refused\"} 4"));
    assert!(parts.counted("keygate_rate_limit_failures_total 73"));
    assert!(parts.counted("keygate_rate_limit_nodes 2"));
}

#[tokio::test]
async fn without_redis_requests_are_let_through_or_refused_as_the_configuration_says() {
    for (on_down, answer, outcome) in [
        (OnBackendDown::Open, ChargeResult::Open, "admitted_uncounted"),
        (OnBackendDown::Closed, ChargeResult::Closed, "refused_uncounted"),
    ] {
        let parts = parts(on_down, 1);
        let limits = [named("default", 2, MINUTE)];
        parts.ledger.is_down.store(true, Ordering::Relaxed);
        for _ in 0..5 {
            assert_eq!(parts.ask(&limits).await, answer);
        }
        assert!(parts.counted(&format!("keygate_rate_limit_decisions_total{{outcome=\"{outcome}\"}} 5")));
        parts.ledger.is_down.store(false, Ordering::Relaxed);
        assert_eq!(parts.admitted(&limits).await, 2);
    }
}

#[tokio::test]
async fn a_process_alone_counts_by_itself() {
    let (clock, registry) = (clock(), Registry::new());
    let metrics = Metrics::register(&registry, Arc::new(Nodes::alone())).unwrap();
    let limiter = Limiter::local(Local::new(1000, clock), metrics);
    let limits = [named("default", 1, MINUTE)];
    let request = Charge { owner: owner(1), limits: &limits, cost: 1 };
    let mut answers = Vec::new();
    for _ in 0..2 {
        let ChargeResult::Counted(decision) = limiter.charge(&request).await else { panic!("it can always count") };
        answers.push((decision.admitted, decision.retry_after()));
    }
    assert_eq!(answers, [(true, Duration::ZERO), (false, MINUTE)]);
}

#[tokio::test]
async fn what_one_owner_refuses_costs_no_other_anything() {
    for on_down in [OnBackendDown::Local, OnBackendDown::Open] {
        let parts = parts(on_down, 1);
        let (wide, narrow) = ([named("wide", 5, MINUTE)], [named("narrow", 2, MINUTE)]);
        let requests = [(1, &wide), (2, &narrow), (3, &wide)].map(|(number, limits)| Charge {
            owner: owner(number),
            limits,
            cost: 1,
        });
        let remaining = async || {
            let answers = parts.limiter.charge_all(&requests).await;
            let outcome = |answer: &ChargeResult| match answer {
                ChargeResult::Counted(decision) => (decision.admitted, decision.outcomes[0].remaining),
                _ => panic!("{answer:?}"),
            };
            answers.iter().map(outcome).collect::<Vec<_>>()
        };
        assert_eq!(remaining().await, [(true, 4), (true, 1), (true, 4)]);
        assert_eq!(remaining().await, [(true, 3), (true, 0), (true, 3)]);
        for _ in 0..3 {
            assert_eq!(remaining().await, [(true, 3), (false, 0), (true, 3)], "{on_down:?}");
        }
        if on_down == OnBackendDown::Local {
            // The same where this node counts alone.
            parts.ledger.is_down.store(true, Ordering::Relaxed);
            assert_eq!(remaining().await, [(true, 3), (false, 0), (true, 3)]);
        }
    }
}
