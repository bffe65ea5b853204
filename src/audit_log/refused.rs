//! Counts refused calls of the admin API by client and minute.

use std::net::IpAddr;

use super::counter::{Counter, client_network, count_call, first_call};
use crate::audit::Refusal;
use crate::clock::Timestamp;
use crate::request_context::RequestContext;

/// Maximum number of clients that are counted apart in a minute, and so of rows a minute, but for one.
const CLIENTS_MAX: usize = 100;
/// Maximum number of routes of a client.
const ROUTES_MAX: usize = 8;

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

/// The calls since the last row, by address and principal.
pub struct RefusedCalls(Counter<(IpAddr, String), Refusal>);

impl Default for RefusedCalls {
    fn default() -> Self {
        Self(Counter::new(CLIENTS_MAX))
    }
}

impl RefusedCalls {
    /// Counts a call. `context` says who made it.
    pub fn note(&self, context: &RequestContext, call: &RefusedCall<'_>) {
        let client = client_network(context).map(|address| (address, context.principal.name().into_owned()));
        let first = |client: Option<(IpAddr, String)>| Refusal {
            calls: first_call(context, client.map(|(address, _)| address), call.time),
            statuses: Vec::new(),
            routes: Vec::new(),
        };
        self.0.note(client, first, |refusal| add(refusal, call));
    }

    /// Takes what was counted.
    pub fn take(&self) -> Vec<Refusal> {
        self.0.take()
    }
}

fn add(refusal: &mut Refusal, call: &RefusedCall<'_>) {
    count_call(&mut refusal.calls, call.time);
    match refusal.statuses.iter_mut().find(|(status, _)| *status == call.status) {
        Some((_, count)) => *count += 1,
        None => refusal.statuses.push((call.status, 1)),
    }
    if refusal.routes.len() < ROUTES_MAX && !refusal.routes.iter().any(|route| route == call.route) {
        refusal.routes.push(call.route.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::TenantId;
    use crate::request_context::Principal;

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
        taken.sort_by_key(|refusal| refusal.calls.client_ip);
        let counted: Vec<_> = taken
            .iter()
            .map(|refusal| (refusal.calls.client_ip.unwrap().to_string(), refusal.statuses.clone()))
            .collect();
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
        let rest = taken.iter().find(|refusal| refusal.calls.client_ip.is_none()).unwrap();
        assert_eq!(rest.statuses, [(401, 9900)]);
    }
}
