use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use governor::clock::FakeRelativeClock;
use governor::{Quota, RateLimiter};
use proptest::prelude::*;

use super::*;

const START: u64 = 1_800_000_000_000_000;

fn limit(quota: u64, window: Duration) -> Limit {
    Limit::new(NonZeroU64::new(quota).unwrap(), window)
}

fn limits() -> impl Strategy<Value = Limit> {
    let quota = prop_oneof![1..20_u64, 1..2_000_000_u64];
    (quota, 1..200_000_000_u64).prop_map(|(quota, micros)| limit(quota, Duration::from_micros(micros)))
}

/// A limit, and requests as pairs of the wait in microseconds before the request and its cost.
fn histories() -> impl Strategy<Value = (Limit, Vec<(u64, u64)>)> {
    limits().prop_flat_map(|limit| {
        let wait = u64::try_from(limit.window.as_micros()).unwrap();
        let waits = prop_oneof![Just(0), 0..=wait / 100, 0..=wait, Just(wait * 2)];
        let costs = prop_oneof![Just(1), 0..=limit.quota.get() / 3 + 1, Just(limit.quota.get())];
        (Just(limit), prop::collection::vec((waits, costs), 1..60))
    })
}

fn charge_one(tat: &mut Tat, limit: &Limit, now: Micros, cost: u64) -> Outcome {
    charge(std::slice::from_mut(tat), std::iter::once(limit), now, cost).outcomes[0]
}

/// The admitted requests: time and cost.
fn run(limit: &Limit, history: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let (mut tat, mut now, mut admitted) = (Tat::default(), START, Vec::new());
    for (wait, cost) in history {
        now += wait;
        if charge_one(&mut tat, limit, Micros(now), *cost).admitted {
            admitted.push((now, *cost));
        }
    }
    admitted
}

/// In every span of time, at most the quota plus what is replenished during the span is admitted. Both sides are multiplied by
/// the window, so that the comparison is exact.
fn assert_bounded(limit: &Limit, admitted: &[(u64, u64)]) -> Result<(), TestCaseError> {
    let (quota, window) = (u128::from(limit.quota.get()), limit.window.as_micros());
    for (index, (begin, _)) in admitted.iter().enumerate() {
        let mut sum = 0;
        for (end, cost) in &admitted[index..] {
            sum += u128::from(*cost);
            prop_assert!(sum * window <= quota * window + u128::from(end - begin) * quota);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn every_span_admits_at_most_the_quota_plus_what_is_replenished((limit, history) in histories()) {
        assert_bounded(&limit, &run(&limit, &history))?;
    }

    #[test]
    fn full_bucket_admits_exactly_its_quota(limit in limits()) {
        let mut tat = Tat::default();
        let quota = limit.quota.get();
        prop_assert_eq!(charge_one(&mut tat, &limit, Micros(START), quota).remaining, 0);
        prop_assert!(!charge_one(&mut tat, &limit, Micros(START), 1).admitted);
        prop_assert_eq!(tat.peek(Micros(START).after(limit.window + Duration::from_micros(2)), &limit).remaining, quota);
    }

    #[test]
    fn rejected_request_is_admitted_at_retry_after_and_not_before((limit, history) in histories(), last in 1..1000_u64) {
        let last = last.min(limit.quota.get());
        let (mut tat, mut now) = (Tat::default(), START);
        for (wait, cost) in history.iter().chain([&(0, last)]) {
            now += wait;
            let outcome = charge_one(&mut tat, &limit, Micros(now), *cost);
            let wait = outcome.retry_after;
            if outcome.admitted {
                prop_assert_eq!(wait, Duration::ZERO);
            } else if wait == Duration::MAX {
                prop_assert!(*cost > limit.quota.get());
            } else {
                let then = Micros(now).after(wait);
                prop_assert!(tat.take(Micros(then.0 - 1), &limit, *cost).is_err());
                prop_assert!(tat.take(then, &limit, *cost).is_ok());
            }
        }
    }

    #[test]
    fn exactly_the_remaining_requests_are_admitted((limit, history) in histories()) {
        let (mut tat, mut now) = (Tat::default(), START);
        for (wait, cost) in &history {
            now += wait;
            let remaining = charge_one(&mut tat, &limit, Micros(now), *cost).remaining;
            prop_assert!(tat.take(Micros(now), &limit, remaining).is_ok());
            prop_assert!(tat.take(Micros(now), &limit, remaining + 1).is_err());
        }
    }

    #[test]
    fn bucket_is_full_at_reset_and_not_before((limit, history) in histories()) {
        let (mut tat, mut now) = (Tat::default(), START);
        for (wait, cost) in &history {
            now += wait;
            let reset = charge_one(&mut tat, &limit, Micros(now), *cost).reset();
            let full = Micros(now).after(reset);
            prop_assert!(tat.take(full, &limit, limit.quota.get()).is_ok());
            prop_assert!(reset.is_zero() || tat.take(Micros(full.0 - 1), &limit, limit.quota.get()).is_err());
        }
    }

    #[test]
    fn several_limits_are_charged_all_or_none(
        limits in prop::collection::vec(limits(), 1..4),
        history in prop::collection::vec((0..2_000_000_u64, 1..30_u64), 1..40),
    ) {
        let mut tats = vec![Tat::default(); limits.len()];
        let mut now = START;
        for (wait, cost) in history {
            now += wait;
            let before = tats.clone();
            let alone: Vec<_> =
                before.iter().zip(&limits).map(|(tat, limit)| tat.take(Micros(now), limit, cost)).collect();
            let decision = charge(&mut tats, limits.iter(), Micros(now), cost);
            prop_assert_eq!(decision.admitted, alone.iter().all(Result::is_ok));
            for (outcome, alone) in decision.outcomes.iter().zip(&alone) {
                prop_assert_eq!(outcome.admitted, alone.is_ok());
            }
            let charged: Vec<_> = alone.into_iter().flatten().collect();
            prop_assert_eq!(&tats, if decision.admitted { &charged } else { &before });
            let wait = decision.retry_after();
            if wait < Duration::MAX && !decision.admitted {
                let all = |at| tats.iter().zip(&limits).all(|(tat, limit)| tat.take(at, limit, cost).is_ok());
                let then = Micros(now).after(wait);
                prop_assert!(all(then) && !all(Micros(then.0 - 1)));
            }
        }
    }

    /// Only steps forward fill a bucket, and one window after any step backwards the bucket is full.
    #[test]
    fn clock_step_backwards_neither_admits_more_nor_blocks_longer_than_a_window(
        limit in limits(),
        history in prop::collection::vec((any::<bool>(), 0..400_000_000_u64, 1..20_u64), 1..60),
    ) {
        let (mut tat, mut now, mut forward, mut admitted) = (Tat::default(), START * 2, 0, Vec::new());
        for (back, step, cost) in history {
            now = if back { now - step } else { now + step };
            forward += if back { 0 } else { step };
            let outcome = charge_one(&mut tat, &limit, Micros(now), cost);
            if outcome.admitted {
                admitted.push((forward, cost));
            }
            prop_assert!(tat.take(Micros(now).after(limit.window + Duration::from_micros(2)), &limit, 1).is_ok());
        }
        assert_bounded(&limit, &admitted)?;
    }

    #[test]
    fn reduced_limit_makes_a_request_wait_at_most_its_own_window(before in limits(), after in limits()) {
        let mut tat = Tat::default();
        charge_one(&mut tat, &before, Micros(START), before.quota.get());
        let wait = charge_one(&mut tat, &after, Micros(START), 1).retry_after;
        prop_assert!(wait <= after.window + Duration::from_micros(2), "{wait:?}");
    }

    #[test]
    fn outcomes_equal_those_of_the_governor_crate(
        quota in 1..500_u32,
        interval in 1..100_000_u64,
        history in prop::collection::vec((0..300_000_u64, 1..6_u32), 1..80),
    ) {
        let limit = limit(quota.into(), Duration::from_micros(interval * u64::from(quota)));
        let clock = FakeRelativeClock::default();
        let period = Quota::with_period(Duration::from_micros(interval)).unwrap();
        let oracle =
            RateLimiter::direct_with_clock(period.allow_burst(NonZeroU32::new(quota).unwrap()), clock.clone());
        let (mut tat, mut now) = (Tat::default(), START);
        for (wait, cost) in history {
            now += wait;
            clock.advance(Duration::from_micros(wait));
            let outcome = charge_one(&mut tat, &limit, Micros(now), cost.into());
            let theirs = match oracle.check_n(NonZeroU32::new(cost).unwrap()) {
                Ok(Ok(())) => Some(Duration::ZERO),
                Ok(Err(until)) => Some(until.wait_time_from(governor::clock::Clock::now(&clock))),
                Err(_) => None,
            };
            prop_assert_eq!(outcome.retry_after, theirs.unwrap_or(Duration::MAX));
            prop_assert_eq!(outcome.admitted, theirs == Some(Duration::ZERO));
        }
    }

    #[test]
    fn stored_parts_round_trip_and_fit_a_double(limit in limits(), count in 0..1000_u64) {
        const EXACT: u64 = 1 << 53;
        let tat = Tat::with_used(Micros(START), limit.increment(count.min(limit.quota.get())));
        let parts = [tat.0 / MICRO, tat.0 % MICRO].map(|part| u64::try_from(part).unwrap());
        prop_assert!(parts.iter().all(|part| *part < EXACT));
        prop_assert_eq!(Tat::from_parts(parts[0], parts[1]), tat);
    }
}

#[test]
fn largest_limits_neither_overflow_nor_exceed_exact_doubles() {
    const EXACT: u128 = 1 << 53;
    for (quota, window) in [(u64::MAX, 1), (1, u64::MAX), (u64::MAX, u64::MAX), (1, 0), (i64::MAX as u64, 60)] {
        let limit = limit(quota, Duration::from_secs(window));
        let mut tat = Tat::default();
        assert_eq!(charge_one(&mut tat, &limit, Micros(START), 1).remaining, quota - 1, "{limit:?}");
        let rejected = charge_one(&mut tat, &limit, Micros(START), quota);
        assert!(!rejected.admitted && rejected.retry_after > Duration::ZERO, "{limit:?}");
        // The latest instant that the script computes.
        let furthest = Tat(u128::from(START) * MICRO).later(limit.increment(u64::MAX)).later(limit.burst());
        assert!(furthest.0 / MICRO < EXACT, "{limit:?}");
    }
    let never = charge_one(&mut Tat::default(), &limit(5, Duration::from_secs(1)), Micros(START), 6);
    assert_eq!((never.admitted, never.retry_after, never.remaining), (false, Duration::MAX, 5));
}

#[test]
fn share_of_a_node_is_an_equal_part_of_at_least_one_request() {
    for (quota, nodes, share) in [(100, 3, 33), (100, 1, 100), (100, 0, 100), (2, 3, 1)] {
        let limit = limit(quota, Duration::from_secs(60)).share(nodes);
        assert_eq!((limit.quota().get(), limit.window()), (share, Duration::from_secs(60)));
    }
}
