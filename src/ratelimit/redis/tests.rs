use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::clock::SystemClock;
use crate::ratelimit::testing::{MemoryBucketStore, RedisServer, clock, eventually, named, owner};
use crate::ratelimit::{Backend, Charge, Exact, Leased, Local, Nodes};

const HOUR: Duration = Duration::from_secs(3600);

/// One to three limits, of quotas and windows of all sizes.
fn limits() -> impl Strategy<Value = Vec<NamedLimit>> {
    let quota = prop_oneof![1..10_u64, 1..3_000_000_u64, any::<u64>().prop_map(|quota| quota.max(1))];
    let window = prop_oneof![1..5_u64, 1..100_000_u64, any::<u64>()];
    let limits = prop::collection::vec((quota, window), 1..4);
    limits.prop_map(|limits| {
        let name = |index: usize| ["default", "burst", "a \"name\" with {braces}"][index];
        let limits = limits.into_iter().enumerate();
        limits.map(|(index, (quota, window))| named(name(index), quota, Duration::from_secs(window))).collect()
    })
}

/// Steps of the clock in microseconds, and costs as parts of the smallest quota.
fn steps() -> impl Strategy<Value = Vec<(u64, f64)>> {
    let wait = prop_oneof![Just(0), 0..1_000_u64, 0..3_000_000_u64, 0..100_000_000_000_u64];
    let cost = prop_oneof![Just(0.0), 0.0..0.2, 0.0..1.2];
    prop::collection::vec((wait, cost), 1..30)
}

#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "any will do")]
fn cost(limits: &[NamedLimit], part: f64) -> u64 {
    let smallest = limits.iter().map(|named| named.limit.quota().get()).min().unwrap();
    (smallest as f64 * part).ceil() as u64
}

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() })
}

#[test]
fn local_and_redis_decisions_are_equal() {
    let server = RedisServer::start();
    let owners = AtomicU64::new(0);
    let result = runner(96).run(&(limits(), steps()), |(limits, steps)| {
        let clock = clock();
        let owner = owner(owners.fetch_add(1, Ordering::Relaxed).into());
        let local = Local::new(1000, clock.clone());
        let exact = Exact::new(Arc::new(RedisBucketStore::with_clock(Arc::clone(&server.redis), clock.clone())));
        for (wait, part) in steps {
            clock.advance(Duration::from_micros(wait));
            let charge = Charge { owner, limits: &limits, cost: cost(&limits, part) };
            let theirs = server.runtime.block_on(exact.charge(&charge)).unwrap();
            prop_assert_eq!(local.charge(&charge), theirs);
        }
        Ok(())
    });
    result.unwrap();
}

/// With leases, refunds and a clock that steps backwards.
#[test]
fn scripts_and_gcra_functions_agree() {
    let server = RedisServer::start();
    let owners = AtomicU64::new(0);
    let step = (any::<bool>(), prop::collection::vec(0..12_u8, 0..4), 0..8_u64);
    let strategy = (limits(), steps(), prop::collection::vec(step, 30));
    let result = runner(96).run(&strategy, |(limits, steps, more)| {
        let clock = clock();
        let owner = owner(owners.fetch_add(1, Ordering::Relaxed).into());
        let memory = MemoryBucketStore::new(clock.clone());
        let store = RedisBucketStore::with_clock(Arc::clone(&server.redis), clock.clone());
        for ((wait, part), (back, bits, unused)) in steps.into_iter().zip(more) {
            let wait = chrono::TimeDelta::microseconds(wait.try_into().unwrap());
            clock.set(if back { clock.now() - wait / 100 } else { clock.now() + wait });
            let charge = Charge { owner, limits: &limits, cost: cost(&limits, part) };
            let request = ChargeRequest { charge: &charge, lease_bits: &bits };
            let (ours, theirs) =
                server.runtime.block_on(async { (memory.charge(&request).await, store.charge(&request).await) });
            prop_assert_eq!(ours, theirs);
            let unused: Vec<_> = limits.iter().map(|named| (named.clone(), unused)).collect();
            let both = async { (memory.refund(owner, &unused).await, store.refund(owner, &unused).await) };
            prop_assert_eq!(server.runtime.block_on(both), (Ok(()), Ok(())));
        }
        Ok(())
    });
    result.unwrap();
}

#[test]
fn redis_clock_decides_and_full_buckets_expire() {
    let server = RedisServer::start();
    let exact = Exact::new(Arc::new(RedisBucketStore::new(Arc::clone(&server.redis))));
    let charge = |limits: &[NamedLimit]| {
        let charge = Charge { owner: owner(1), limits, cost: 1 };
        server.runtime.block_on(exact.charge(&charge)).unwrap()
    };
    let limits = [named("default", 5, HOUR)];
    for remaining in (0..5).rev() {
        assert_eq!(charge(&limits).outcomes[0].remaining, remaining);
    }
    let rejected = charge(&limits);
    assert!(!rejected.admitted && rejected.retry_after() <= HOUR / 5 && rejected.retry_after() > HOUR / 6);
    let ttl = |name: &str| {
        let name = bucket_name(owner(1), name);
        server.runtime.block_on(server.redis.run::<i64>(redis::cmd("PTTL").arg(name))).unwrap()
    };
    assert!((3_500_000..=3_600_001).contains(&ttl("default")), "{}", ttl("default"));
    charge(&[named("short", 1, Duration::from_millis(20))]);
    eventually("the bucket has expired", || ttl("short") == -2);
    assert!(charge(&[named("short", 1, Duration::from_millis(20))]).admitted);
}

#[test]
fn invalid_bucket_value_is_a_new_bucket_or_an_error() {
    let server = RedisServer::start();
    let exact = Exact::new(Arc::new(RedisBucketStore::new(Arc::clone(&server.redis))));
    let limits = [named("default", 5, HOUR)];
    let charge = Charge { owner: owner(1), limits: &limits, cost: 1 };
    let name = bucket_name(owner(1), "default");
    let run = |command: &mut redis::Cmd| server.runtime.block_on(server.redis.run::<redis::Value>(command)).unwrap();
    run(redis::cmd("SET").arg(&name).arg("nonsense"));
    assert_eq!(server.runtime.block_on(exact.charge(&charge)).unwrap().outcomes[0].remaining, 4);
    run(redis::cmd("DEL").arg(&name));
    run(redis::cmd("LPUSH").arg(&name).arg("nonsense"));
    let error = server.runtime.block_on(exact.charge(&charge)).unwrap_err();
    assert!(error.0.contains("WRONGTYPE"), "{error}");
}

#[test]
fn nodes_with_leases_share_the_quota() {
    const QUOTA: u64 = 5_000;
    let server = RedisServer::start();
    let nodes = Arc::new(Nodes::of(2));
    let store = Arc::new(RedisBucketStore::new(Arc::clone(&server.redis)));
    let begun = std::time::Instant::now();
    let tasks: Vec<_> = std::iter::repeat_with(|| {
        let (leased, worker) = Leased::new(store.clone(), Arc::new(SystemClock), Arc::clone(&nodes), 1000);
        server.runtime.spawn(worker.run());
        std::iter::repeat_n(leased, 4).map(|leased| server.runtime.spawn(admitted(leased, QUOTA)))
    })
    .take(2)
    .flatten()
    .collect();
    let count: u64 = tasks.into_iter().map(|task| server.runtime.block_on(task).unwrap()).sum();
    let more = 1 + begun.elapsed().as_secs() * QUOTA / HOUR.as_secs();
    // The node whose request was rejected last has spent its lease; the other may still hold one.
    assert!((QUOTA - QUOTA / 10..=QUOTA + QUOTA / 10 + more).contains(&count), "{count}");
}

/// The number of requests until one is rejected.
async fn admitted(leased: Arc<Leased>, quota: u64) -> u64 {
    let limits = [named("default", quota, HOUR)];
    let charge = Charge { owner: owner(1), limits: &limits, cost: 1 };
    let mut count = 0;
    while leased.charge(&charge).await.unwrap().admitted {
        count += 1;
    }
    count
}

#[test]
fn cluster_charges_all_buckets_of_an_owner_in_one_step() {
    let server = RedisServer::start_with(&["cluster-enabled yes"]);
    server.server.command("CLUSTER ADDSLOTSRANGE 0 16383");
    let store = RedisBucketStore::new(Arc::clone(&server.redis));
    let limits = [named("default", 10, HOUR), named("burst", 10, HOUR), named("}{", 10, HOUR)];
    let charge = Charge { owner: owner(1), limits: &limits, cost: 1 };
    let mut remaining = 10;
    eventually("the cluster state is ok", || {
        let response = server.runtime.block_on(store.charge(&ChargeRequest::without_leases(&charge)));
        response.is_ok_and(|response| {
            remaining -= 1;
            response.decision.outcomes.iter().all(|outcome| outcome.remaining == remaining)
        })
    });
    let unused: Vec<_> = limits.iter().map(|named| (named.clone(), 1)).collect();
    assert_eq!(server.runtime.block_on(store.refund(owner(1), &unused)), Ok(()));
}

#[test]
fn buckets_of_an_owner_are_in_one_slot() {
    let tag = |name: &str| name.split_once('{').unwrap().1.split_once('}').unwrap().0.to_owned();
    for owner in [owner(1), BucketOwner::Tenant(crate::id::TenantId::NIL)] {
        assert_eq!(tag(&bucket_name(owner, "default")), tag(&bucket_name(owner, "}{other}")));
        assert_ne!(bucket_name(owner, "default"), bucket_name(owner, "burst"));
    }
    assert_ne!(tag(&bucket_name(owner(1), "default")), tag(&bucket_name(owner(2), "default")));
}
