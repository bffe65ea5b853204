//! The guessing budget: how many unsuccessful lookups each client address may still cause.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::id::TenantId;
use crate::ratelimit::{BucketOwner, Charge, Limit, Local, NamedLimit};

/// Addresses whose buckets are kept, some 300 bytes each. Beyond it the fullest of a few buckets is evicted for a new one.
const ADDRESSES_MAX: usize = 65_536;
/// The network part of an IPv6 address. One client usually controls all addresses of a /64.
const NETWORK: u128 = u128::MAX << 64;

/// One bucket for each IPv4 address and each IPv6 /64.
pub(super) struct Budget {
    buckets: Local,
    limit: NamedLimit,
}

impl Budget {
    /// Buckets that hold `burst` lookups and are refilled at `per_second`, each 1 or more.
    pub(super) fn new(burst: u32, per_second: u32, clock: Arc<dyn Clock>) -> Self {
        let quota = NonZeroU64::new(burst.into()).unwrap_or(NonZeroU64::MIN);
        let window = Duration::from_secs(quota.get()) / per_second.max(1);
        let limit = NamedLimit { name: "lookups".into(), limit: Limit::new(quota, window) };
        Self { buckets: Local::new(ADDRESSES_MAX, clock), limit }
    }

    /// Takes one lookup from an address's bucket. False if it is empty.
    pub(super) fn charge(&self, address: IpAddr) -> bool {
        self.buckets.charge(&self.lookup(address)).admitted
    }

    /// Returns one lookup to an address's bucket.
    pub(super) fn refund(&self, address: IpAddr) {
        self.buckets.refund(&self.lookup(address));
    }

    fn lookup(&self, address: IpAddr) -> Charge<'_> {
        // An address has one budget for all tenants.
        let owner = BucketOwner::Address(TenantId::NIL, network(address));
        Charge { owner, limits: std::slice::from_ref(&self.limit), cost: 1 }
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
        let budget = Budget::new(10, 2, clock.clone());
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
    fn refunded_lookup_can_be_charged_again() {
        let budget = Budget::new(1, 1, clock());
        for _ in 0..5 {
            assert!(budget.charge(address("192.0.2.1")));
            budget.refund(address("192.0.2.1"));
        }
        assert!(budget.charge(address("::ffff:192.0.2.1")) && !budget.charge(address("192.0.2.1")));
    }

    #[test]
    fn ipv6_network_is_one_client_and_the_number_of_buckets_is_bounded() {
        let budget = Budget::new(1, 1, clock());
        assert!(budget.charge(address("2001:db8:0:1::1")) && !budget.charge(address("2001:db8:0:1:ffff::2")));
        assert!(budget.charge(address("2001:db8:0:2::1")));
        for client in 0..200_000_u32 {
            budget.charge(IpAddr::from(client.to_be_bytes()));
        }
        assert!(budget.buckets.len() <= ADDRESSES_MAX, "{}", budget.buckets.len());
    }
}
