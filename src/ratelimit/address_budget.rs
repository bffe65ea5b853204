//! How many events each client address may cause: one bucket for each address, in the memory of this process.

use std::net::IpAddr;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use super::{BucketOwner, Charge, Limit, Local, NamedLimit};
use crate::cidr::client_network;
use crate::clock::Clock;
use crate::id::TenantId;

/// Addresses whose buckets are kept, some 300 bytes each. Beyond it the fullest of a few buckets is evicted for a new one.
const ADDRESSES_MAX: usize = 65_536;

/// One bucket for each IPv4 address and each IPv6 /64, for all tenants.
pub struct AddressBudget {
    buckets: Local,
    limit: NamedLimit,
}

impl AddressBudget {
    /// Buckets that hold `burst` events and are refilled at `per_second`, each 1 or more.
    pub fn new(burst: u32, per_second: u32, clock: Arc<dyn Clock>) -> Self {
        let quota = NonZeroU64::new(burst.into()).unwrap_or(NonZeroU64::MIN);
        let window = Duration::from_secs(quota.get()) / per_second.max(1);
        let limit = NamedLimit { name: "address".into(), limit: Limit::new(quota, window) };
        Self { buckets: Local::new(ADDRESSES_MAX, clock), limit }
    }

    /// Takes one event from an address's bucket. False if it is empty.
    pub fn charge(&self, address: IpAddr) -> bool {
        self.buckets.charge(&self.event(address, 1)).admitted
    }

    /// Returns one event to an address's bucket.
    pub fn refund(&self, address: IpAddr) {
        self.buckets.refund(&self.event(address, 1));
    }

    /// The time until an address's bucket holds an event; zero if it holds one.
    pub fn wait(&self, address: IpAddr) -> Duration {
        let decision = self.buckets.charge(&self.event(address, 0));
        let Some(outcome) = decision.outcomes.first().filter(|outcome| outcome.remaining == 0) else {
            return Duration::ZERO;
        };
        let limit = &self.limit.limit;
        let interval = limit.window() / u32::try_from(limit.quota().get()).unwrap_or(u32::MAX);
        outcome.reset().saturating_sub(limit.window().saturating_sub(interval))
    }

    fn event(&self, address: IpAddr, cost: u64) -> Charge<'_> {
        let owner = BucketOwner::Address(TenantId::NIL, client_network(address));
        Charge { owner, limits: std::slice::from_ref(&self.limit), cost }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{ManualClock, Timestamp};

    fn clock() -> Arc<ManualClock> {
        Arc::new(ManualClock::new(Timestamp::from_timestamp(1_800_000_000, 0).unwrap()))
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn address_may_cause_a_burst_and_then_the_refill_rate() {
        let (clock, begun) = (clock(), clock().now());
        let budget = AddressBudget::new(10, 2, clock.clone());
        let (client, other) = (address("192.0.2.1"), address("192.0.2.2"));
        let taken = |client, millis| {
            clock.set(begun + Duration::from_millis(millis));
            (0..20).filter(|_| budget.charge(client)).count()
        };
        assert_eq!((taken(client, 0), taken(other, 0)), (10, 10));
        assert_eq!([499, 500, 2000].map(|millis| taken(client, millis)), [0, 1, 3]);
        assert_eq!(taken(client, 3_600_000), 10, "it never holds more than a burst");
    }

    #[test]
    fn refunded_event_can_be_charged_again() {
        let budget = AddressBudget::new(1, 1, clock());
        for _ in 0..5 {
            assert!(budget.charge(address("192.0.2.1")));
            budget.refund(address("192.0.2.1"));
        }
        assert!(budget.charge(address("::ffff:192.0.2.1")) && !budget.charge(address("192.0.2.1")));
    }

    #[test]
    fn wait_is_the_time_until_an_event_is_left() {
        let (clock, begun) = (clock(), clock().now());
        let budget = AddressBudget::new(2, 2, clock.clone());
        let client = address("192.0.2.1");
        assert_eq!(budget.wait(client), Duration::ZERO);
        assert!(budget.charge(client));
        assert_eq!(budget.wait(client), Duration::ZERO);
        assert!(budget.charge(client));
        assert_eq!(budget.wait(client), Duration::from_millis(500));
        clock.set(begun + Duration::from_millis(400));
        assert_eq!(budget.wait(client), Duration::from_millis(100));
        clock.set(begun + Duration::from_millis(500));
        assert_eq!(budget.wait(client), Duration::ZERO);
        assert!(budget.charge(client) && !budget.charge(client));
    }

    #[test]
    fn ipv6_network_is_one_client_and_the_number_of_buckets_is_bounded() {
        let budget = AddressBudget::new(1, 1, clock());
        assert!(budget.charge(address("2001:db8:0:1::1")) && !budget.charge(address("2001:db8:0:1:ffff::2")));
        assert!(budget.charge(address("2001:db8:0:2::1")));
        for client in 0..200_000_u32 {
            budget.charge(IpAddr::from(client.to_be_bytes()));
        }
        assert!(budget.buckets.len() <= ADDRESSES_MAX, "{}", budget.buckets.len());
    }
}
