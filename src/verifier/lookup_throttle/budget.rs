//! How many lookups in vain each client address may still cause.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use moka::policy::EvictionPolicy;
use moka::sync::Cache;

/// Addresses that are remembered, some 200 bytes each; beyond it the ones that were longest away begin anew.
const ADDRESSES_MAX: u64 = 65_536;
/// The part of an IPv6 address that names a network; one client has all addresses in it.
const NETWORK: u128 = u128::MAX << 64;
const SECOND: u64 = 1_000_000;

/// A bucket for each address: full at first, filled again in time.
pub(super) struct Budget {
    /// When each bucket will be full, in microseconds since `begun`.
    full_at: Cache<IpAddr, Arc<AtomicU64>>,
    begun: Instant,
    /// How long one lookup takes to be there again, in microseconds.
    interval: u64,
    /// How long all of them take.
    window: u64,
}

/// A lookup that was paid for.
pub(super) struct Charge {
    full_at: Arc<AtomicU64>,
    interval: u64,
}

impl Budget {
    pub(super) fn new(burst: u32, per_second: u32, now: Instant) -> Self {
        let interval = SECOND / u64::from(per_second.max(1));
        let window = interval.max(1) * u64::from(burst.max(1));
        let full_at = Cache::builder()
            .max_capacity(ADDRESSES_MAX)
            // By how often they come, the newest would not be remembered at all.
            .eviction_policy(EvictionPolicy::lru())
            // After that long a bucket is full, as a new one is.
            .time_to_idle(Duration::from_micros(window) + Duration::from_secs(1))
            .build();
        Self { full_at, begun: now, interval: interval.max(1), window }
    }

    /// Takes a lookup from an address's bucket; `None` when it is empty.
    pub(super) fn charge(&self, address: IpAddr, now: Instant) -> Option<Charge> {
        let full_at = self.full_at.get_with(network(address), Arc::default);
        let now = u64::try_from(now.saturating_duration_since(self.begun).as_micros()).unwrap_or(u64::MAX);
        let take = |full_at: u64| {
            let after = full_at.max(now).saturating_add(self.interval);
            (after - now <= self.window).then_some(after)
        };
        full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok()?;
        Some(Charge { full_at, interval: self.interval })
    }
}

impl Charge {
    /// Puts the lookup back.
    pub(super) fn give_back(self) {
        let give = |full_at: u64| Some(full_at.saturating_sub(self.interval));
        // The closure never declines.
        let _ = self.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, give);
    }
}

fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & NETWORK).into(),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_may_cause_a_burst_and_then_some_each_second() {
        let begun = Instant::now();
        let budget = Budget::new(10, 2, begun);
        let (client, other) = (address("192.0.2.1"), address("192.0.2.2"));
        let at = |millis| begun + Duration::from_millis(millis);
        let taken = |client, millis| (0..20).filter(|_| budget.charge(client, at(millis)).is_some()).count();
        assert_eq!((taken(client, 0), taken(other, 0)), (10, 10));
        assert_eq!([499, 500, 2000].map(|millis| taken(client, millis)), [0, 1, 3]);
        assert_eq!(taken(client, 3_600_000), 10, "it never holds more than a burst");
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let begun = Instant::now();
        let budget = Budget::new(1, 1, begun);
        for _ in 0..5 {
            budget.charge(address("192.0.2.1"), begun).unwrap().give_back();
        }
        let kept = budget.charge(address("::ffff:192.0.2.1"), begun);
        assert!(kept.is_some() && budget.charge(address("192.0.2.1"), begun).is_none());
    }

    #[test]
    fn a_network_of_ipv6_is_one_client_and_many_take_bounded_room() {
        let begun = Instant::now();
        let budget = Budget::new(1, 1, begun);
        let first = budget.charge(address("2001:db8:0:1::1"), begun);
        assert!(first.is_some() && budget.charge(address("2001:db8:0:1:ffff::2"), begun).is_none());
        assert!(budget.charge(address("2001:db8:0:2::1"), begun).is_some());
        for client in 0..200_000_u32 {
            budget.charge(IpAddr::from(client.to_be_bytes()), begun);
        }
        budget.full_at.run_pending_tasks();
        assert!(budget.full_at.entry_count() <= ADDRESSES_MAX, "{}", budget.full_at.entry_count());
    }
}
