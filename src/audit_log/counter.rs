//! Counts calls in memory until a row is written about them.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

use crate::audit::Calls;
use crate::clock::Timestamp;
use crate::request_context::{Principal, RequestContext};

/// The bits of an IPv6 address that name a network.
const IPV6_NETWORK: u128 = !(u64::MAX as u128);

/// What was counted since the last row, by a bounded number of keys; under `None` what has no key or came after these.
pub(super) struct Counter<K, V> {
    counts: Mutex<HashMap<Option<K>, V>>,
    max: usize,
}

impl<K: Clone + Eq + Hash, V> Counter<K, V> {
    /// A counter of `max` keys.
    pub(super) fn new(max: usize) -> Self {
        Self { counts: Mutex::default(), max }
    }

    /// Counts a call with `add`. `make` makes the value of a new key, or of `None` for all others.
    pub(super) fn note(&self, key: Option<K>, make: impl FnOnce(Option<K>) -> V, add: impl FnOnce(&mut V)) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let is_apart = |key: &K| {
            let apart = counts.len() - usize::from(counts.contains_key(&None));
            apart < self.max || counts.contains_key(&Some(key.clone()))
        };
        let key = key.filter(is_apart);
        add(counts.entry(key.clone()).or_insert_with(|| make(key)));
    }

    /// Takes what was counted.
    pub(super) fn take(&self) -> Vec<V> {
        std::mem::take(&mut *self.counts.lock().unwrap_or_else(PoisonError::into_inner)).into_values().collect()
    }
}

/// The first of the calls of a row, not counted yet. Without an address, the principal is unknown too.
pub(super) fn first_call(context: &RequestContext, client_ip: Option<IpAddr>, time: Timestamp) -> Calls {
    let principal = client_ip.map_or(Principal::Anonymous, |_| context.principal.clone());
    let request_id = context.request_id.as_str().to_owned();
    Calls { principal, client_ip, request_id, count: 0, first: time, last: time }
}

/// Counts a call.
pub(super) fn count_call(calls: &mut Calls, time: Timestamp) {
    calls.count += 1;
    calls.last = calls.last.max(time);
}

/// The client's address, or the first one of its network: a client has at least 64 bits of an IPv6 address for itself.
pub(super) fn client_network(context: &RequestContext) -> Option<IpAddr> {
    let network = |address: IpAddr| match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(address) => address.into(),
            None => Ipv6Addr::from_bits(address.to_bits() & IPV6_NETWORK).into(),
        },
    };
    context.client_ip.map(network)
}
