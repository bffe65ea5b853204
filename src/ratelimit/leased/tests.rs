use std::sync::atomic::Ordering;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::clock::ManualClock;
use crate::ratelimit::testing::{MemoryLedger, clock, named, owner};
use crate::ratelimit::{Exact, Limit};

const MINUTE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

/// Nodes over one ledger, whose background work is done when a test says so.
struct Cluster {
    clock: Arc<ManualClock>,
    ledger: Arc<MemoryLedger>,
    nodes: Vec<(Arc<Leased>, Leasing)>,
}

impl Cluster {
    fn new(nodes: u32) -> Self {
        let clock = clock();
        let ledger = Arc::new(MemoryLedger::new(clock.clone()));
        let node = |_| Leased::new(ledger.clone(), clock.clone(), Arc::new(Nodes::of(nodes)), 1000);
        let nodes = (0..nodes).map(node).collect();
        Self { clock, ledger, nodes }
    }

    async fn ask(&self, node: usize, limits: &[NamedLimit], cost: u64) -> Decision {
        self.nodes[node].0.charge(&Charge { owner: owner(1), limits, cost }).await.unwrap()
    }

    async fn admitted(&self, node: usize, limits: &[NamedLimit]) -> u64 {
        let mut count = 0;
        while self.ask(node, limits, 1).await.admitted {
            count += 1;
        }
        count
    }

    async fn work(&mut self, node: usize) {
        let (leased, leasing) = &mut self.nodes[node];
        while let Ok(refill) = leasing.queue.try_recv() {
            leased.refill(refill).await;
        }
        leased.give_back(leased.leases.take_idle(leased.now())).await;
    }

    fn calls(&self) -> usize {
        self.ledger.calls.load(Ordering::Relaxed)
    }
}

#[tokio::test]
async fn a_key_on_one_node_alone_gets_its_whole_quota() {
    for (quota, nodes) in [(1_u32, 1), (3, 1), (10, 1), (20, 1), (999, 1), (10_000, 1), (10_000, 4)] {
        let mut cluster = Cluster::new(nodes);
        let limits = [named("default", quota.into(), MINUTE)];
        for remaining in (0..u64::from(quota)).rev() {
            let decision = cluster.ask(0, &limits, 1).await;
            assert!(decision.admitted, "{quota} on one of {nodes}: {remaining}");
            assert_eq!(decision.outcomes[0].remaining, remaining);
            if remaining % 3 == 0 {
                cluster.work(0).await;
            }
        }
        let refused = cluster.ask(0, &limits, 1).await;
        let exact = MINUTE / quota;
        assert!(!refused.admitted && refused.retry_after().abs_diff(exact) <= Duration::from_micros(2), "{refused:?}");
        assert_eq!(refused.outcomes[0].remaining, 0);
    }
}

#[tokio::test]
async fn a_busy_key_is_asked_about_rarely_and_one_that_is_used_up_not_at_all() {
    let cluster = Cluster::new(1);
    let limits = [named("default", 10_000, MINUTE)];
    assert_eq!(cluster.admitted(0, &limits).await, 10_000);
    assert!(cluster.calls() < 50, "{}", cluster.calls());
    let calls = cluster.calls();
    for _ in 0..100 {
        assert!(!cluster.ask(0, &limits, 1).await.admitted);
    }
    assert_eq!(cluster.calls(), calls);
    cluster.clock.advance(Duration::from_millis(7));
    assert_eq!(cluster.admitted(0, &limits).await, 1);
}

#[tokio::test]
async fn slices_are_leased_in_the_background_before_they_are_used_up() {
    let mut cluster = Cluster::new(1);
    let limits = [named("default", 1_000_000, MINUTE)];
    let mut asked = 0;
    for _ in 0..20_000 {
        let before = cluster.calls();
        assert!(cluster.ask(0, &limits, 1).await.admitted);
        asked += cluster.calls() - before;
        cluster.work(0).await;
    }
    assert!(asked <= 2, "{asked} requests had to wait for the ledger");
    assert!(cluster.calls() < 100, "{}", cluster.calls());
}

#[tokio::test]
async fn a_key_that_is_used_now_and_then_has_every_request_counted_in_the_ledger() {
    let mut cluster = Cluster::new(2);
    let limits = [named("default", 1_000, MINUTE)];
    for count in 1..50 {
        let decision = cluster.ask(0, &limits, 1).await;
        assert!(decision.admitted);
        assert_eq!(cluster.calls(), count);
        cluster.work(0).await;
        cluster.clock.advance(Duration::from_millis(600));
    }
}

#[tokio::test]
async fn slices_shrink_when_a_key_is_used_less() {
    let mut cluster = Cluster::new(1);
    let limits = [named("default", 10_000, MINUTE)];
    for _ in 0..2_000 {
        cluster.ask(0, &limits, 1).await;
    }
    cluster.work(0).await;
    let busy = cluster.nodes[0].0.leases.held(owner(1));
    for _ in 0..1_500 {
        assert!(cluster.ask(0, &limits, 1).await.admitted);
        cluster.work(0).await;
        cluster.clock.advance(Duration::from_millis(600));
    }
    let calm = cluster.nodes[0].0.leases.held(owner(1));
    assert!(busy > 100 && calm <= 1, "{busy} {calm}");
}

#[tokio::test]
async fn what_lies_idle_goes_back_to_the_others() {
    let mut cluster = Cluster::new(2);
    let limits = [named("default", 1_000, Duration::from_secs(1_000_000))];
    for _ in 0..200 {
        assert!(cluster.ask(0, &limits, 1).await.admitted);
    }
    let before = cluster.admitted(1, &limits).await;
    assert!((750..800).contains(&before), "{before}");
    cluster.work(0).await;
    assert_eq!(cluster.admitted(1, &limits).await, 0);
    cluster.clock.advance(SECOND);
    cluster.work(0).await;
    // What the other node still believes of the bucket is out of date by then.
    cluster.clock.advance(Duration::from_secs(1000));
    assert_eq!(before + cluster.admitted(1, &limits).await, 801);
}

#[tokio::test]
async fn a_process_that_stops_gives_everything_back() {
    let cluster = Cluster::new(2);
    let limits = [named("default", 1_000, MINUTE)];
    for _ in 0..100 {
        assert!(cluster.ask(0, &limits, 1).await.admitted);
    }
    cluster.nodes[0].0.give_back_all().await;
    assert_eq!(cluster.admitted(1, &limits).await, 900);
}

#[tokio::test]
async fn without_the_ledger_what_is_held_is_spent_and_then_nothing() {
    let cluster = Cluster::new(1);
    let limits = [named("default", 1_000, MINUTE)];
    for _ in 0..9 {
        cluster.ask(0, &limits, 1).await;
    }
    cluster.ledger.is_down.store(true, Ordering::Relaxed);
    let request = Charge { owner: owner(1), limits: &limits, cost: 1 };
    let mut held = 0;
    while cluster.nodes[0].0.charge(&request).await.is_ok() {
        held += 1;
    }
    assert!((1..=100).contains(&held), "{held}");
}

#[tokio::test]
async fn of_several_limits_all_are_spent_or_none() {
    let cluster = Cluster::new(1);
    let (large, small) = (named("large", 1000, MINUTE), named("small", 300, MINUTE));
    assert_eq!(cluster.admitted(0, &[large.clone(), small]).await, 300);
    assert_eq!(cluster.admitted(0, &[large]).await, 700);
}

#[tokio::test]
async fn a_request_that_costs_more_than_the_quota_is_never_admitted_and_stands_in_nobodys_way() {
    let cluster = Cluster::new(1);
    let limits = [named("default", 10, MINUTE)];
    for _ in 0..3 {
        let decision = cluster.ask(0, &limits, 11).await;
        assert_eq!((decision.admitted, decision.retry_after()), (false, Duration::MAX));
    }
    assert_eq!(cluster.admitted(0, &limits).await, 10);
}

#[tokio::test]
async fn a_limit_that_becomes_smaller_counts_at_once() {
    let cluster = Cluster::new(1);
    for _ in 0..1000 {
        cluster.ask(0, &[named("default", 1_000_000, MINUTE)], 1).await;
    }
    let admitted = cluster.admitted(0, &[named("default", 10, MINUTE)]).await;
    assert!(admitted <= 11, "{admitted}");
}

#[tokio::test]
async fn beyond_the_cap_the_ledger_is_asked_about_every_request() {
    let (clock, nodes) = (clock(), Arc::new(Nodes::alone()));
    let ledger = Arc::new(MemoryLedger::new(clock.clone()));
    let (leased, _leasing) = Leased::new(ledger.clone(), clock, nodes, 0);
    let limits = [named("default", 1000, MINUTE)];
    for count in 1..=1000 {
        let request = Charge { owner: owner(1), limits: &limits, cost: 1 };
        assert!(leased.charge(&request).await.unwrap().admitted);
        assert_eq!(ledger.calls.load(Ordering::Relaxed), count);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn requests_at_the_same_time_get_the_quota_and_no_more() {
    let Cluster { nodes, ledger, .. } = Cluster::new(1);
    let (leased, leasing) = nodes.into_iter().next().unwrap();
    let background = tokio::spawn(leasing.run());
    let mut tasks = JoinSet::new();
    for _ in 0..16 {
        let leased = Arc::clone(&leased);
        tasks.spawn(async move {
            let limits = [named("default", 20_000, MINUTE)];
            let request = Charge { owner: owner(1), limits: &limits, cost: 1 };
            let mut count = 0;
            while leased.charge(&request).await.unwrap().admitted {
                count += 1;
                tokio::task::yield_now().await;
            }
            count
        });
    }
    let count: u64 = tasks.join_all().await.into_iter().sum();
    // A slice may have gone back between two requests, never may there be more.
    assert_eq!(count, 20_000);
    assert!(ledger.calls.load(Ordering::Relaxed) < 1000);
    background.abort();
}

#[tokio::test]
async fn requests_at_the_same_time_lease_one_slice() {
    let cluster = Cluster::new(1);
    let leased = &cluster.nodes[0].0;
    let mut tasks = JoinSet::new();
    for _ in 0..500 {
        let leased = Arc::clone(leased);
        tasks.spawn(async move {
            let limits = [named("default", 1_000, MINUTE)];
            let request = Charge { owner: owner(1), limits: &limits, cost: 1 };
            assert!(leased.charge(&request).await.unwrap().admitted);
            assert!(leased.leases.held(owner(1)) <= 100);
        });
    }
    tasks.join_all().await;
    assert!(cluster.calls() < 50, "{}", cluster.calls());
}

/// Over every span: the quota, what the span adds, and what was held when it began.
fn assert_bounded(limit: &Limit, nodes: u64, admitted: &[(u64, u64)]) -> Result<(), TestCaseError> {
    let (quota, window) = (u128::from(limit.quota().get()), limit.window().as_micros());
    let held = u128::from(limit.quota().get() / 10 / nodes * nodes);
    for (index, (begin, _)) in admitted.iter().enumerate() {
        let mut sum = 0;
        for (end, cost) in &admitted[index..] {
            sum += u128::from(*cost);
            prop_assert!(sum * window <= (quota + held) * window + u128::from(end - begin) * quota);
        }
    }
    Ok(())
}

#[derive(Debug, Clone)]
enum Step {
    Ask { node: usize, cost: u64, times: u64 },
    Work { node: usize },
    Wait(u64),
    Break(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..3_usize, 1..4_u64, 1..200_u64).prop_map(|(node, cost, times)| Step::Ask { node, cost, times }),
        3 => (0..3_usize).prop_map(|node| Step::Work { node }),
        4 => prop_oneof![0..100_000_u64, 0..3_000_000_u64].prop_map(Step::Wait),
        1 => any::<bool>().prop_map(Step::Break),
    ];
    prop::collection::vec(step, 1..40)
}

async fn run(quota: u64, window: Duration, steps: Vec<Step>) -> Vec<(u64, u64)> {
    let mut cluster = Cluster::new(3);
    let limits = [named("default", quota, window)];
    let mut admitted = Vec::new();
    for step in steps {
        match step {
            Step::Ask { node, cost, times } => {
                for _ in 0..times {
                    let request = Charge { owner: owner(1), limits: &limits, cost };
                    let leased = &cluster.nodes[node].0;
                    if leased.charge(&request).await.is_ok_and(|decision| decision.admitted) {
                        admitted.push((cluster.nodes[node].0.now().0, cost));
                    }
                }
            }
            Step::Work { node } => cluster.work(node).await,
            Step::Wait(micros) => cluster.clock.advance(Duration::from_micros(micros)),
            Step::Break(broken) => cluster.ledger.is_down.store(broken, Ordering::Relaxed),
        }
    }
    admitted
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn nodes_together_admit_no_more_than_the_quota_and_one_slice_each(
        quota in 1..2_000_u64,
        millis in 1..10_000_u64,
        steps in steps(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let window = Duration::from_millis(millis);
        let admitted = runtime.block_on(run(quota, window, steps));
        assert_bounded(&named("default", quota, window).limit, 3, &admitted)?;
    }

    /// A key that asks steadily for more than its quota gets what it would get if the ledger were asked each time, short of
    /// what comes in while it waits for one request.
    #[test]
    fn alone_a_node_is_not_worse_off_than_without_slices(
        quota in 1..5_000_u64,
        asks in prop::collection::vec((0..50_000_u64, 1..100_u64), 1..100),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut cluster = Cluster::new(1);
        let exact_ledger = Arc::new(MemoryLedger::new(cluster.clock.clone()));
        let exact = Exact::new(exact_ledger);
        let limits = [named("default", quota, SECOND)];
        let request = Charge { owner: owner(1), limits: &limits, cost: 1 };
        let (mut with, mut without) = (0_u64, 0_u64);
        runtime.block_on(async {
            for (wait, times) in asks {
                cluster.clock.advance(Duration::from_micros(wait));
                for _ in 0..times {
                    with += u64::from(cluster.ask(0, &limits, 1).await.admitted);
                    without += u64::from(exact.charge(&request).await.unwrap().admitted);
                }
                cluster.work(0).await;
            }
        });
        prop_assert!(with + 1 >= without, "{with} with slices, {without} without");
    }
}
