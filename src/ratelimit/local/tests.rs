use std::time::Duration;

use super::*;
use crate::ratelimit::NamedLimit;
use crate::ratelimit::testing::{clock, named, owner};

const MINUTE: Duration = Duration::from_secs(60);

fn admitted(local: &Local, owner: BucketOwner, limits: &[NamedLimit]) -> usize {
    let charge = Charge { owner, limits, cost: 1 };
    std::iter::repeat_with(|| local.charge(&charge)).take_while(|decision| decision.admitted).count()
}

#[test]
fn each_owner_and_limit_name_has_its_own_bucket() {
    let local = Local::new(1000, clock());
    for (number, name) in [(1, "default"), (2, "default"), (1, "burst")] {
        assert_eq!(admitted(&local, owner(number), &[named(name, 5, MINUTE)]), 5);
    }
    assert_eq!(admitted(&local, owner(1), &[named("default", 5, MINUTE), named("burst", 5, MINUTE)]), 0);
}

#[test]
fn request_rejected_by_one_limit_is_charged_to_none() {
    let local = Local::new(1000, clock());
    let (large, small) = (named("large", 10, MINUTE), named("small", 3, MINUTE));
    assert_eq!(admitted(&local, owner(1), &[large.clone(), small]), 3);
    assert_eq!(admitted(&local, owner(1), &[large]), 7);
}

#[test]
fn concurrent_threads_get_exactly_the_quota() {
    let local = Local::new(1000, clock());
    let limits = [named("default", 1000, MINUTE)];
    let counts: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| admitted(&local, owner(1), &limits))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(counts, 1000);
}

#[test]
fn idle_owners_are_removed_while_others_are_charged() {
    let clock = clock();
    let local = Local::with_shards(Sharded::with_count(4, Shard::default), 100_000, clock.clone());
    for number in 0..1000 {
        admitted(&local, owner(number), &[named("default", 1, MINUTE)]);
    }
    assert_eq!(local.len(), 1000);
    clock.advance(MINUTE);
    let limits = [named("default", 1_000_000, MINUTE)];
    // The charged owners are in all shards, so every shard is swept.
    for number in 0..10_000 {
        local.charge(&Charge { owner: owner(number % 500), limits: &limits, cost: 1 });
    }
    assert_eq!(local.len(), 500);
}

#[test]
fn owner_whose_buckets_are_full_soonest_is_evicted_at_the_cap() {
    let local = Local::with_shards(Sharded::with_count(1, Shard::default), 8, clock());
    let limits = [named("default", 100, MINUTE)];
    let charge = |number, cost| {
        let decision = local.charge(&Charge { owner: owner(number), limits: &limits, cost });
        decision.outcomes[0].remaining
    };
    for number in 0..8 {
        charge(number, if number == 5 { 1 } else { 50 });
    }
    charge(100, 50);
    assert_eq!(local.len(), 8);
    for number in [0, 1, 2, 3, 4, 6, 7, 100] {
        assert_eq!(charge(number, 0), 50);
    }
    for number in 101..10_000 {
        charge(number, 100);
        assert!(local.len() <= 8);
    }
}

#[test]
fn request_of_cost_0_evicts_no_owner() {
    let local = Local::with_shards(Sharded::with_count(1, Shard::default), 1, clock());
    let limits = [named("default", 3, MINUTE)];
    assert_eq!(admitted(&local, owner(1), &limits), 3);
    let read = |number| local.charge(&Charge { owner: owner(number), limits: &limits, cost: 0 }).outcomes[0].remaining;
    assert_eq!([read(2), read(1)], [3, 0]);
    assert_eq!(local.len(), 1);
}

#[test]
fn older_decision_of_another_backend_gives_no_tokens_back() {
    let (local, remote) = (Local::new(1000, clock()), Local::new(1000, clock()));
    let limits = [named("default", 5, MINUTE)];
    let charge = Charge { owner: owner(1), limits: &limits, cost: 1 };
    let decisions: Vec<_> = (0..5).map(|_| remote.charge(&charge)).collect();
    for decision in decisions.iter().rev() {
        local.update(&charge, decision);
    }
    assert_eq!(admitted(&local, owner(1), &limits), 0);
}
