//! Load balancing: selects an endpoint by the policy of the upstream.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{Ipv6Addr, SocketAddr as InetAddress};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pingora::lb::selection::{BackendIter, BackendSelection, Consistent};
use pingora::lb::{Backend, Extensions};
use pingora::protocols::l4::socket::SocketAddr;
use smallvec::SmallVec;

use super::endpoint::Endpoint;
use super::round_robin::RoundRobin;
use super::tried::{Tier, Tried};
use crate::config::BalancingPolicy;

/// Points on the ring for each unit of weight (ketama).
const POINTS: usize = 160;

/// The endpoints of an upstream at a time. A request keeps the set that it began with.
pub(super) struct EndpointSet {
    pub(super) endpoints: Vec<Arc<Endpoint>>,
    selector: Selector,
    /// The first endpoint of the next scan that follows no policy.
    next: AtomicUsize,
}

enum Selector {
    RoundRobin(RoundRobin),
    /// The first endpoint of the next scan, so that endpoints with equal load take turns.
    LeastRequests(AtomicUsize),
    ConsistentHash {
        ring: Arc<Consistent>,
        points: usize,
    },
}

/// The index of an endpoint in its set, which a selector returns.
#[derive(Clone, Copy)]
struct Index(usize);

/// Why no endpoint is selected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unselected {
    /// All that could be selected have their maximum of requests in flight.
    Full,
    /// None is left.
    Exhausted,
}

impl EndpointSet {
    /// The set of the endpoints that backends carry.
    pub(super) fn new(backends: &BTreeSet<Backend>, policy: BalancingPolicy) -> Self {
        let endpoints: Vec<_> =
            backends.iter().filter_map(|backend| backend.ext.get::<Arc<Endpoint>>().cloned()).collect();
        let selector = Selector::new(&endpoints, policy);
        Self { endpoints, selector, next: AtomicUsize::new(0) }
    }

    /// Selects an endpoint and counts a request in flight there. Available endpoints come first; if none is left, those that are ejected
    /// or unhealthy are used all the same.
    ///
    /// # Errors
    /// [`Unselected`].
    pub(super) fn select(&self, key: &[u8], tried: &Tried, max: Option<u32>) -> Result<usize, Unselected> {
        for tier in Tier::ALL {
            let mut is_full = false;
            let admits = |index: usize| tried.is_in(tier, index, || self.endpoints[index].is_available());
            let mut enter = |index: usize| {
                let is_entered = self.endpoints[index].try_enter(max);
                is_full |= !is_entered;
                is_entered
            };
            if let Some(index) = self.select_of(key, tried.is_empty(), admits, &mut enter) {
                return Ok(index);
            }
            if is_full {
                return Err(Unselected::Full);
            }
        }
        Err(Unselected::Exhausted)
    }

    fn select_of(
        &self,
        key: &[u8],
        is_first: bool,
        admits: impl Fn(usize) -> bool,
        enter: &mut dyn FnMut(usize) -> bool,
    ) -> Option<usize> {
        let count = self.endpoints.len();
        match &self.selector {
            // A retry takes no turn, or the next request would meet the endpoint that has failed.
            Selector::RoundRobin(_) if !is_first => self.select_any(admits, enter),
            Selector::RoundRobin(selector) => {
                let turns = (0..count).filter_map(|_| selector.turn());
                let mut turns = turns.filter(|index| self.endpoints[*index].slow_start.takes_turn());
                turns.find(|index| admits(*index) && enter(*index)).or_else(|| self.select_any(admits, enter))
            }
            Selector::LeastRequests(next) => {
                let first = next.fetch_add(1, Ordering::Relaxed);
                let order = (0..count).map(|offset| first.wrapping_add(offset) % count);
                let mut loads: SmallVec<[(u64, usize); 16]> =
                    order.filter(|index| admits(*index)).map(|index| (self.endpoints[index].load(), index)).collect();
                loads.sort_by_key(|(load, _)| *load);
                loads.iter().map(|(_, index)| *index).find(|index| enter(*index))
            }
            Selector::ConsistentHash { ring, points } => {
                let hash = hash_of(key);
                let found = distinct(ring.iter(key), *points, count, |index| {
                    admits(index) && self.endpoints[index].slow_start.takes_hash(hash) && enter(index)
                });
                found.or_else(|| self.select_any(admits, enter))
            }
        }
    }

    /// An endpoint that is admitted, whatever its turn and its share are.
    fn select_any(&self, admits: impl Fn(usize) -> bool, enter: &mut dyn FnMut(usize) -> bool) -> Option<usize> {
        let (count, first) = (self.endpoints.len(), self.next.fetch_add(1, Ordering::Relaxed));
        let mut order = (0..count).map(|offset| first.wrapping_add(offset) % count);
        order.find(|index| admits(*index) && enter(*index))
    }
}

impl Selector {
    fn new(endpoints: &[Arc<Endpoint>], policy: BalancingPolicy) -> Self {
        match policy {
            BalancingPolicy::RoundRobin => {
                let weights: Vec<_> = endpoints.iter().map(|endpoint| endpoint.weight).collect();
                Self::RoundRobin(RoundRobin::new(&weights))
            }
            BalancingPolicy::LeastRequests => Self::LeastRequests(AtomicUsize::new(0)),
            BalancingPolicy::ConsistentHash => {
                let backends = indexed(endpoints);
                let points = backends.iter().map(|backend| backend.weight * POINTS).sum();
                Self::ConsistentHash { ring: Arc::new(Consistent::build(&backends)), points }
            }
        }
    }
}

/// The endpoints as a selector takes them, with their indexes.
fn indexed(endpoints: &[Arc<Endpoint>]) -> BTreeSet<Backend> {
    let backend = |(index, endpoint): (usize, &Arc<Endpoint>)| {
        let mut ext = Extensions::new();
        ext.insert(Index(index));
        let addr = SocketAddr::Inet(ring_address(endpoint.address()));
        Backend { addr, weight: usize::try_from(endpoint.weight).unwrap_or(1), ext }
    };
    endpoints.iter().enumerate().map(backend).collect()
}

/// The address of an endpoint on the ring, which supports IP addresses only: a Unix socket has one that is made from its path.
fn ring_address(address: &SocketAddr) -> InetAddress {
    match address {
        SocketAddr::Inet(address) => *address,
        SocketAddr::Unix(address) => {
            let hash =
                hash_of(address.as_pathname().map(|path| path.as_os_str().as_encoded_bytes()).unwrap_or_default());
            // Of the range for documentation (RFC 3849), which no server has.
            InetAddress::new(Ipv6Addr::from((0x2001_0db8_u128 << 96) | u128::from(hash)).into(), 1)
        }
    }
}

fn index_of(backend: Option<&Backend>) -> Option<usize> {
    backend?.ext.get::<Index>().map(|index| index.0)
}

/// The same for equal keys in all processes.
fn hash_of(key: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

/// The first of the distinct indexes on a ring that is accepted.
fn distinct(
    mut ring: impl BackendIter,
    points: usize,
    count: usize,
    mut accept: impl FnMut(usize) -> bool,
) -> Option<usize> {
    let mut seen: SmallVec<[usize; 8]> = SmallVec::new();
    for _ in 0..points {
        let index = index_of(ring.next())?;
        if seen.contains(&index) {
            continue;
        }
        if accept(index) {
            return Some(index);
        }
        seen.push(index);
        if seen.len() == count {
            break;
        }
    }
    None
}
