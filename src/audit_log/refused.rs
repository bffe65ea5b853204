//! Counts refused calls of the admin API by client and minute, so that strangers cannot fill the database.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::audit::Refusal;
use crate::clock::Timestamp;
use crate::request_context::{Principal, RequestContext};

/// Maximum number of clients that are counted apart in a minute, and so of rows a minute, but for one.
const CLIENTS_MAX: usize = 100;
/// Maximum number of routes of a client.
const ROUTES_MAX: usize = 8;
/// The bits of an IPv6 address that name a network.
const IPV6_NETWORK: u128 = !(u64::MAX as u128);

/// A refused call.
#[derive(Debug, Clone, Copy)]
pub struct RefusedCall<'a> {
    /// The HTTP status, one of a few.
    pub status: u16,
    /// The method and the route, such as `POST /v2alpha1/admin/issuedApiKeys`; never a path, which may contain a credential.
    pub route: &'a str,
    /// The time of the call.
    pub time: Timestamp,
}

/// The calls since the last row.
#[derive(Default)]
pub struct RefusedCalls(Mutex<Clients>);

/// The calls by address and principal; `None` for all that are not counted apart.
type Clients = HashMap<Option<(IpAddr, String)>, Refusal>;

impl RefusedCalls {
    /// Counts a call. `context` says who made it.
    pub fn note(&self, context: &RequestContext, call: &RefusedCall<'_>) {
        let mut clients = self.clients();
        let address = context.client_ip.map(network);
        let client = address.map(|address| (address, context.principal.name().into_owned()));
        let client = client.filter(|client| clients.len() < CLIENTS_MAX || clients.contains_key(&Some(client.clone())));
        let refusal = clients.entry(client.clone()).or_insert_with(|| Refusal {
            principal: if client.is_some() { context.principal.clone() } else { Principal::Anonymous },
            client_ip: client.map(|(address, _)| address),
            request_id: context.request_id.as_str().to_owned(),
            statuses: Vec::new(),
            routes: Vec::new(),
            first: call.time,
            last: call.time,
        });
        add(refusal, call);
    }

    /// Takes what was counted.
    pub fn take(&self) -> Vec<Refusal> {
        std::mem::take(&mut *self.clients()).into_values().collect()
    }

    fn clients(&self) -> MutexGuard<'_, Clients> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn add(refusal: &mut Refusal, call: &RefusedCall<'_>) {
    refusal.last = refusal.last.max(call.time);
    match refusal.statuses.iter_mut().find(|(status, _)| *status == call.status) {
        Some((_, count)) => *count += 1,
        None => refusal.statuses.push((call.status, 1)),
    }
    if refusal.routes.len() < ROUTES_MAX && !refusal.routes.iter().any(|route| route == call.route) {
        refusal.routes.push(call.route.to_owned());
    }
}

/// The address, or the first one of its network: a client has at least 64 bits of an IPv6 address for itself.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(address) => address.into(),
            None => Ipv6Addr::from_bits(address.to_bits() & IPV6_NETWORK).into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::TenantId;

    fn note(calls: &RefusedCalls, address: &str, status: u16) {
        let context = RequestContext { client_ip: address.parse().ok(), ..RequestContext::system(TenantId::NIL) }
            .with_principal(Principal::Anonymous);
        let call = RefusedCall { status, route: "GET /x", time: Timestamp::UNIX_EPOCH };
        calls.note(&context, &call);
    }

    #[test]
    fn calls_are_counted_by_client() {
        let calls = RefusedCalls::default();
        for address in ["192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"] {
            note(&calls, address, 401);
        }
        note(&calls, "192.0.2.1", 403);
        let mut taken = calls.take();
        taken.sort_by_key(|refusal| refusal.client_ip);
        let counted: Vec<_> =
            taken.iter().map(|refusal| (refusal.client_ip.unwrap().to_string(), refusal.statuses.clone())).collect();
        assert_eq!(
            counted,
            [
                ("192.0.2.1".to_owned(), vec![(401, 2), (403, 1)]),
                ("2001:db8::".to_owned(), vec![(401, 2)]),
                ("2001:db8:0:1::".to_owned(), vec![(401, 1)])
            ]
        );
        assert!(calls.take().is_empty());
    }

    #[test]
    fn a_flood_from_many_addresses_makes_a_bounded_number_of_rows() {
        let calls = RefusedCalls::default();
        for number in 0..10_000_u32 {
            note(&calls, &std::net::Ipv4Addr::from_bits(number).to_string(), 401);
        }
        note(&calls, "0.0.0.0", 401);
        let taken = calls.take();
        assert_eq!(taken.len(), CLIENTS_MAX + 1);
        let total: u64 = taken.iter().flat_map(|refusal| &refusal.statuses).map(|(_, count)| count).sum();
        assert_eq!(total, 10_001, "every call is counted");
        let rest = taken.iter().find(|refusal| refusal.client_ip.is_none()).unwrap();
        assert_eq!(rest.statuses, [(401, 9900)]);
    }
}
