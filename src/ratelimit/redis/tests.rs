use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::clock::SystemClock;
use crate::ratelimit::testing::{MemoryLedger, RedisServer, clock, eventually, named, owner};
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
fn a_process_and_redis_answer_the_same_history_alike() {
    let server = RedisServer::start();
    let owners = AtomicU64::new(0);
    let result = runner(96).run(&(limits(), steps()), |(limits, steps)| {
        let clock = clock();
        let owner = owner(owners.fetch_add(1, Ordering::Relaxed).into());
        let local = Local::new(1000, clock.clone());
        let exact = Exact::new(Arc::new(RedisLedger::at(Arc::clone(&server.redis), clock.clone())));
        for (wait, part) in steps {
            clock.advance(Duration::from_micros(wait));
            let request = Charge { owner, limits: &limits, cost: cost(&limits, part) };
            let theirs = server.runtime.block_on(exact.charge(&request)).unwrap();
            prop_assert_eq!(local.charge(&request), theirs);
        }
        Ok(())
    });
    result.unwrap();
}

/// With slices, with what goes back, and with a clock that goes back too.
#[test]
fn the_scripts_do_what_the_arithmetic_says() {
    let server = RedisServer::start();
    let owners = AtomicU64::new(0);
    let step = (any::<bool>(), prop::collection::vec(0..12_u8, 0..4), 0..8_u64);
    let strategy = (limits(), steps(), prop::collection::vec(step, 30));
    let result = runner(96).run(&strategy, |(limits, steps, more)| {
        let clock = clock();
        let owner = owner(owners.fetch_add(1, Ordering::Relaxed).into());
        let memory = MemoryLedger::new(clock.clone());
        let ledger = RedisLedger::at(Arc::clone(&server.redis), clock.clone());
        for ((wait, part), (back, bits, unused)) in steps.into_iter().zip(more) {
            let wait = chrono::TimeDelta::microseconds(wait.try_into().unwrap());
            clock.set(if back { clock.now() - wait / 100 } else { clock.now() + wait });
            let request = Charge { owner, limits: &limits, cost: cost(&limits, part) };
            let order = ChargeRequest { request: &request, extra_bits: &bits };
            let (ours, theirs) =
                server.runtime.block_on(async { (memory.charge(&order).await, ledger.charge(&order).await) });
            prop_assert_eq!(ours, theirs);
            let unused: Vec<_> = limits.iter().map(|named| (named.clone(), unused)).collect();
            let both = async { (memory.give_back(owner, &unused).await, ledger.give_back(owner, &unused).await) };
            prop_assert_eq!(server.runtime.block_on(both), (Ok(()), Ok(())));
        }
        Ok(())
    });
    result.unwrap();
}

#[test]
fn the_time_of_redis_decides_and_what_is_full_is_gone() {
    let server = RedisServer::start();
    let exact = Exact::new(Arc::new(RedisLedger::new(Arc::clone(&server.redis))));
    let ask = |limits: &[NamedLimit]| {
        let request = Charge { owner: owner(1), limits, cost: 1 };
        server.runtime.block_on(exact.charge(&request)).unwrap()
    };
    let limits = [named("default", 5, HOUR)];
    for remaining in (0..5).rev() {
        assert_eq!(ask(&limits).outcomes[0].remaining, remaining);
    }
    let refused = ask(&limits);
    assert!(!refused.admitted && refused.retry_after() <= HOUR / 5 && refused.retry_after() > HOUR / 6);
    let exists = |name: &str| {
        let name = bucket(owner(1), name);
        server.runtime.block_on(server.redis.run::<i64>(redis::cmd("PTTL").arg(name))).unwrap()
    };
    assert!((3_500_000..=3_600_001).contains(&exists("default")), "{}", exists("default"));
    ask(&[named("short", 1, Duration::from_millis(20))]);
    eventually("the bucket is gone", || exists("short") == -2);
    assert!(ask(&[named("short", 1, Duration::from_millis(20))]).admitted);
}

#[test]
fn what_is_no_bucket_is_a_new_one_or_an_error() {
    let server = RedisServer::start();
    let exact = Exact::new(Arc::new(RedisLedger::new(Arc::clone(&server.redis))));
    let limits = [named("default", 5, HOUR)];
    let request = Charge { owner: owner(1), limits: &limits, cost: 1 };
    let name = bucket(owner(1), "default");
    let run = |command: &mut redis::Cmd| server.runtime.block_on(server.redis.run::<redis::Value>(command)).unwrap();
    run(redis::cmd("SET").arg(&name).arg("nonsense"));
    assert_eq!(server.runtime.block_on(exact.charge(&request)).unwrap().outcomes[0].remaining, 4);
    run(redis::cmd("DEL").arg(&name));
    run(redis::cmd("LPUSH").arg(&name).arg("nonsense"));
    let error = server.runtime.block_on(exact.charge(&request)).unwrap_err();
    assert!(error.0.contains("WRONGTYPE"), "{error}");
}

#[test]
fn nodes_with_slices_share_the_quota() {
    const QUOTA: u64 = 5_000;
    let server = RedisServer::start();
    let nodes = Arc::new(Nodes::of(2));
    let ledger = Arc::new(RedisLedger::new(Arc::clone(&server.redis)));
    let begun = std::time::Instant::now();
    let tasks: Vec<_> = std::iter::repeat_with(|| {
        let (leased, leasing) = Leased::new(ledger.clone(), Arc::new(SystemClock), Arc::clone(&nodes), 1000);
        server.runtime.spawn(leasing.run());
        std::iter::repeat_n(leased, 4).map(|leased| server.runtime.spawn(admitted(leased, QUOTA)))
    })
    .take(2)
    .flatten()
    .collect();
    let count: u64 = tasks.into_iter().map(|task| server.runtime.block_on(task).unwrap()).sum();
    let more = 1 + begun.elapsed().as_secs() * QUOTA / HOUR.as_secs();
    // The node that was refused last has its slice spent; the other may hold one.
    assert!((QUOTA - QUOTA / 10..=QUOTA + QUOTA / 10 + more).contains(&count), "{count}");
}

/// Requests until one is refused.
async fn admitted(leased: Arc<Leased>, quota: u64) -> u64 {
    let limits = [named("default", quota, HOUR)];
    let request = Charge { owner: owner(1), limits: &limits, cost: 1 };
    let mut count = 0;
    while leased.charge(&request).await.unwrap().admitted {
        count += 1;
    }
    count
}

#[test]
fn a_cluster_takes_all_buckets_of_an_owner_in_one_step() {
    let server = RedisServer::start_with(&["cluster-enabled yes"]);
    server.server.command("CLUSTER ADDSLOTSRANGE 0 16383");
    let ledger = RedisLedger::new(Arc::clone(&server.redis));
    let limits = [named("default", 10, HOUR), named("burst", 10, HOUR), named("}{", 10, HOUR)];
    let request = Charge { owner: owner(1), limits: &limits, cost: 1 };
    let mut remaining = 10;
    eventually("the cluster has noticed that it is complete", || {
        let order = ChargeRequest { request: &request, extra_bits: &[] };
        let receipt = server.runtime.block_on(ledger.charge(&order));
        receipt.is_ok_and(|receipt| {
            remaining -= 1;
            receipt.decision.outcomes.iter().all(|outcome| outcome.remaining == remaining)
        })
    });
    let unused: Vec<_> = limits.iter().map(|named| (named.clone(), 1)).collect();
    assert_eq!(server.runtime.block_on(ledger.give_back(owner(1), &unused)), Ok(()));
}

#[test]
fn all_buckets_of_an_owner_lie_in_one_slot() {
    let tag = |name: &str| name.split_once('{').unwrap().1.split_once('}').unwrap().0.to_owned();
    for owner in [owner(1), BucketOwner::Tenant(crate::id::TenantId::NIL)] {
        assert_eq!(tag(&bucket(owner, "default")), tag(&bucket(owner, "}{other}")));
        assert_ne!(bucket(owner, "default"), bucket(owner, "burst"));
    }
    assert_ne!(tag(&bucket(owner(1), "default")), tag(&bucket(owner(2), "default")));
}
