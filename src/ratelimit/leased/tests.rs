use std::sync::atomic::Ordering;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::clock::ManualClock;
use crate::ratelimit::testing::{MemoryBucketStore, clock, named, owner};
use crate::ratelimit::{Exact, Limit};

const MINUTE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

/// Nodes that share one bucket store. Tests run their background work by calls.
struct Cluster {
    clock: Arc<ManualClock>,
    store: Arc<MemoryBucketStore>,
    nodes: Vec<(Arc<Leased>, LeaseWorker)>,
}

impl Cluster {
    fn new(nodes: u32) -> Self {
        let clock = clock();
        let store = Arc::new(MemoryBucketStore::new(clock.clone()));
        let node = |_| Leased::new(store.clone(), clock.clone(), Arc::new(Nodes::of(nodes)), 1000);
        let nodes = (0..nodes).map(node).collect();
        Self { clock, store, nodes }
    }

    async fn charge(&self, node: usize, limits: &[NamedLimit], cost: u64) -> Decision {
        self.nodes[node].0.charge(&Charge { owner: owner(1), limits, cost }).await.unwrap()
    }

    async fn admitted(&self, node: usize, limits: &[NamedLimit]) -> u64 {
        let mut count = 0;
        while self.charge(node, limits, 1).await.admitted {
            count += 1;
        }
        count
    }

    async fn run_worker(&mut self, node: usize) {
        let (leased, worker) = &mut self.nodes[node];
        while let Ok(refill) = worker.queue.try_recv() {
            leased.refill(refill).await;
        }
        leased.release(leased.leases.take_idle(leased.now())).await;
    }

    fn calls(&self) -> usize {
        self.store.calls.load(Ordering::Relaxed)
    }
}

#[tokio::test]
async fn key_used_on_one_node_gets_its_whole_quota() {
    for (quota, nodes) in [(1_u32, 1), (3, 1), (10, 1), (20, 1), (999, 1), (10_000, 1), (10_000, 4)] {
        let mut cluster = Cluster::new(nodes);
        let limits = [named("default", quota.into(), MINUTE)];
        for remaining in (0..u64::from(quota)).rev() {
            let decision = cluster.charge(0, &limits, 1).await;
            assert!(decision.admitted, "{quota} on one of {nodes}: {remaining}");
            assert_eq!(decision.outcomes[0].remaining, remaining);
            if remaining % 3 == 0 {
                cluster.run_worker(0).await;
            }
        }
        let rejected = cluster.charge(0, &limits, 1).await;
        let exact = MINUTE / quota;
        assert!(
            !rejected.admitted && rejected.retry_after().abs_diff(exact) <= Duration::from_micros(2),
            "{rejected:?}"
        );
        assert_eq!(rejected.outcomes[0].remaining, 0);
    }
}

#[tokio::test]
async fn store_is_called_rarely_for_a_busy_key_and_never_for_an_exhausted_one() {
    let cluster = Cluster::new(1);
    let limits = [named("default", 10_000, MINUTE)];
    assert_eq!(cluster.admitted(0, &limits).await, 10_000);
    assert!(cluster.calls() < 50, "{}", cluster.calls());
    let calls = cluster.calls();
    for _ in 0..100 {
        assert!(!cluster.charge(0, &limits, 1).await.admitted);
    }
    assert_eq!(cluster.calls(), calls);
    cluster.clock.advance(Duration::from_millis(7));
    assert_eq!(cluster.admitted(0, &limits).await, 1);
}

#[tokio::test]
async fn leases_are_refilled_in_the_background_before_they_are_used_up() {
    let mut cluster = Cluster::new(1);
    let limits = [named("default", 1_000_000, MINUTE)];
    let mut waited = 0;
    for _ in 0..20_000 {
        let before = cluster.calls();
        assert!(cluster.charge(0, &limits, 1).await.admitted);
        waited += cluster.calls() - before;
        cluster.run_worker(0).await;
    }
    assert!(waited <= 2, "{waited} requests waited for the store");
    assert!(cluster.calls() < 100, "{}", cluster.calls());
}

#[tokio::test]
async fn every_request_of_a_rarely_used_key_is_charged_in_the_store() {
    let mut cluster = Cluster::new(2);
    let limits = [named("default", 1_000, MINUTE)];
    for count in 1..50 {
        let decision = cluster.charge(0, &limits, 1).await;
        assert!(decision.admitted);
        assert_eq!(cluster.calls(), count);
        cluster.run_worker(0).await;
        cluster.clock.advance(Duration::from_millis(600));
    }
}

#[tokio::test]
async fn leases_shrink_when_a_key_is_used_less() {
    let mut cluster = Cluster::new(1);
    let limits = [named("default", 10_000, MINUTE)];
    for _ in 0..2_000 {
        cluster.charge(0, &limits, 1).await;
    }
    cluster.run_worker(0).await;
    let busy = cluster.nodes[0].0.leases.available(owner(1));
    for _ in 0..1_500 {
        assert!(cluster.charge(0, &limits, 1).await.admitted);
        cluster.run_worker(0).await;
        cluster.clock.advance(Duration::from_millis(600));
    }
    let idle = cluster.nodes[0].0.leases.available(owner(1));
    assert!(busy > 100 && idle <= 1, "{busy} {idle}");
}

#[tokio::test]
async fn idle_leases_are_released_to_other_nodes() {
    let mut cluster = Cluster::new(2);
    let limits = [named("default", 1_000, Duration::from_secs(1_000_000))];
    for _ in 0..200 {
        assert!(cluster.charge(0, &limits, 1).await.admitted);
    }
    let before = cluster.admitted(1, &limits).await;
    assert!((750..800).contains(&before), "{before}");
    cluster.run_worker(0).await;
    assert_eq!(cluster.admitted(1, &limits).await, 0);
    cluster.clock.advance(SECOND);
    cluster.run_worker(0).await;
    // After this time the other node no longer treats the bucket as exhausted.
    cluster.clock.advance(Duration::from_secs(1000));
    assert_eq!(before + cluster.admitted(1, &limits).await, 801);
}

#[tokio::test]
async fn stopping_node_releases_all_leases() {
    let cluster = Cluster::new(2);
    let limits = [named("default", 1_000, MINUTE)];
    for _ in 0..100 {
        assert!(cluster.charge(0, &limits, 1).await.admitted);
    }
    cluster.nodes[0].0.release_all().await;
    assert_eq!(cluster.admitted(1, &limits).await, 900);
}

#[tokio::test]
async fn only_existing_leases_are_spent_while_the_store_is_down() {
    let cluster = Cluster::new(1);
    let limits = [named("default", 1_000, MINUTE)];
    for _ in 0..9 {
        cluster.charge(0, &limits, 1).await;
    }
    cluster.store.is_down.store(true, Ordering::Relaxed);
    let charge = Charge { owner: owner(1), limits: &limits, cost: 1 };
    let mut spent = 0;
    while cluster.nodes[0].0.charge(&charge).await.is_ok() {
        spent += 1;
    }
    assert!((1..=100).contains(&spent), "{spent}");
}

#[tokio::test]
async fn several_limits_are_spent_all_or_none() {
    let cluster = Cluster::new(1);
    let (large, small) = (named("large", 1000, MINUTE), named("small", 300, MINUTE));
    assert_eq!(cluster.admitted(0, &[large.clone(), small]).await, 300);
    assert_eq!(cluster.admitted(0, &[large]).await, 700);
}

#[tokio::test]
async fn request_above_the_quota_is_rejected_and_does_not_block_others() {
    let cluster = Cluster::new(1);
    let limits = [named("default", 10, MINUTE)];
    for _ in 0..3 {
        let decision = cluster.charge(0, &limits, 11).await;
        assert_eq!((decision.admitted, decision.retry_after()), (false, Duration::MAX));
    }
    assert_eq!(cluster.admitted(0, &limits).await, 10);
}

#[tokio::test]
async fn reduced_limit_applies_at_once() {
    let cluster = Cluster::new(1);
    for _ in 0..1000 {
        cluster.charge(0, &[named("default", 1_000_000, MINUTE)], 1).await;
    }
    let admitted = cluster.admitted(0, &[named("default", 10, MINUTE)]).await;
    assert!(admitted <= 11, "{admitted}");
}

#[tokio::test]
async fn requests_of_owners_above_the_cap_are_charged_in_the_store() {
    let (clock, nodes) = (clock(), Arc::new(Nodes::alone()));
    let store = Arc::new(MemoryBucketStore::new(clock.clone()));
    let (leased, _worker) = Leased::new(store.clone(), clock, nodes, 0);
    let limits = [named("default", 1000, MINUTE)];
    for count in 1..=1000 {
        let charge = Charge { owner: owner(1), limits: &limits, cost: 1 };
        assert!(leased.charge(&charge).await.unwrap().admitted);
        assert_eq!(store.calls.load(Ordering::Relaxed), count);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_requests_get_exactly_the_quota() {
    let Cluster { nodes, store, .. } = Cluster::new(1);
    let (leased, worker) = nodes.into_iter().next().unwrap();
    let background = tokio::spawn(worker.run());
    let mut tasks = JoinSet::new();
    for _ in 0..16 {
        let leased = Arc::clone(&leased);
        tasks.spawn(async move {
            let limits = [named("default", 20_000, MINUTE)];
            let charge = Charge { owner: owner(1), limits: &limits, cost: 1 };
            let mut count = 0;
            while leased.charge(&charge).await.unwrap().admitted {
                count += 1;
                tokio::task::yield_now().await;
            }
            count
        });
    }
    let count: u64 = tasks.join_all().await.into_iter().sum();
    // A lease may be released between two requests, but no more than the quota is ever admitted.
    assert_eq!(count, 20_000);
    assert!(store.calls.load(Ordering::Relaxed) < 1000);
    background.abort();
}

#[tokio::test]
async fn concurrent_requests_refill_a_lease_once() {
    let cluster = Cluster::new(1);
    let leased = &cluster.nodes[0].0;
    let mut tasks = JoinSet::new();
    for _ in 0..500 {
        let leased = Arc::clone(leased);
        tasks.spawn(async move {
            let limits = [named("default", 1_000, MINUTE)];
            let charge = Charge { owner: owner(1), limits: &limits, cost: 1 };
            assert!(leased.charge(&charge).await.unwrap().admitted);
            assert!(leased.leases.available(owner(1)) <= 100);
        });
    }
    tasks.join_all().await;
    assert!(cluster.calls() < 50, "{}", cluster.calls());
}

/// In every span of time, at most the quota, what is replenished during the span, and the leases at its beginning are admitted.
fn assert_bounded(limit: &Limit, nodes: u64, admitted: &[(u64, u64)]) -> Result<(), TestCaseError> {
    let (quota, window) = (u128::from(limit.quota().get()), limit.window().as_micros());
    let leased = u128::from(limit.quota().get() / 10 / nodes * nodes);
    for (index, (begin, _)) in admitted.iter().enumerate() {
        let mut sum = 0;
        for (end, cost) in &admitted[index..] {
            sum += u128::from(*cost);
            prop_assert!(sum * window <= (quota + leased) * window + u128::from(end - begin) * quota);
        }
    }
    Ok(())
}

#[derive(Debug, Clone)]
enum Step {
    Charge { node: usize, cost: u64, times: u64 },
    RunWorker { node: usize },
    Wait(u64),
    SetDown(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..3_usize, 1..4_u64, 1..200_u64).prop_map(|(node, cost, times)| Step::Charge { node, cost, times }),
        3 => (0..3_usize).prop_map(|node| Step::RunWorker { node }),
        4 => prop_oneof![0..100_000_u64, 0..3_000_000_u64].prop_map(Step::Wait),
        1 => any::<bool>().prop_map(Step::SetDown),
    ];
    prop::collection::vec(step, 1..40)
}

async fn run(quota: u64, window: Duration, steps: Vec<Step>) -> Vec<(u64, u64)> {
    let mut cluster = Cluster::new(3);
    let limits = [named("default", quota, window)];
    let mut admitted = Vec::new();
    for step in steps {
        match step {
            Step::Charge { node, cost, times } => {
                for _ in 0..times {
                    let charge = Charge { owner: owner(1), limits: &limits, cost };
                    let leased = &cluster.nodes[node].0;
                    if leased.charge(&charge).await.is_ok_and(|decision| decision.admitted) {
                        admitted.push((cluster.nodes[node].0.now().0, cost));
                    }
                }
            }
            Step::RunWorker { node } => cluster.run_worker(node).await,
            Step::Wait(micros) => cluster.clock.advance(Duration::from_micros(micros)),
            Step::SetDown(is_down) => cluster.store.is_down.store(is_down, Ordering::Relaxed),
        }
    }
    admitted
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn nodes_together_admit_at_most_the_quota_and_one_lease_each(
        quota in 1..2_000_u64,
        millis in 1..10_000_u64,
        steps in steps(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let window = Duration::from_millis(millis);
        let admitted = runtime.block_on(run(quota, window, steps));
        assert_bounded(&named("default", quota, window).limit, 3, &admitted)?;
    }

    /// A key whose requests exceed its quota gets as many as with [`Exact`], except for what is replenished while it waits for
    /// one request.
    #[test]
    fn single_node_admits_as_much_as_without_leases(
        quota in 1..5_000_u64,
        bursts in prop::collection::vec((0..50_000_u64, 1..100_u64), 1..100),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut cluster = Cluster::new(1);
        let exact_store = Arc::new(MemoryBucketStore::new(cluster.clock.clone()));
        let exact = Exact::new(exact_store);
        let limits = [named("default", quota, SECOND)];
        let charge = Charge { owner: owner(1), limits: &limits, cost: 1 };
        let (mut with, mut without) = (0_u64, 0_u64);
        runtime.block_on(async {
            for (wait, times) in bursts {
                cluster.clock.advance(Duration::from_micros(wait));
                for _ in 0..times {
                    with += u64::from(cluster.charge(0, &limits, 1).await.admitted);
                    without += u64::from(exact.charge(&charge).await.unwrap().admitted);
                }
                cluster.run_worker(0).await;
            }
        });
        prop_assert!(with + 1 >= without, "{with} with leases, {without} without");
    }
}
