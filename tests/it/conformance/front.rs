//! Fronts: where requests arrive that Keygate authorizes.

use std::net::SocketAddr;
use std::sync::Arc;

use keygate_test_servers::Peer;

use super::fixture::Fixture;
use super::http::{Request, Response, exchange};
use super::row::{Outcome, Row};
use crate::support::upstream::Upstream;

/// A front under test.
pub(crate) trait Front: Send + Sync + 'static {
    /// What is documented of it.
    fn description(&self) -> &'static Description;

    /// Sends a request; `marker` is a part of its query that no other request has.
    fn send(&self, request: &Request, marker: &str) -> impl Future<Output = Answer> + Send;
}

/// What a front does with a request.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) response: Response,
    /// The head that the upstream received; `None` if the request was not forwarded.
    pub(crate) forwarded: Option<String>,
}

/// What a front cannot do, because its server does not allow it.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a property of its own, documented as one")]
pub(crate) struct Description {
    pub(crate) name: &'static str,
    /// Whether the client gets the body of a rejection as Keygate wrote it. Otherwise it gets one with status and code.
    pub(crate) keeps_bodies: bool,
    /// Whether the id in the client's `X-Request-Id` is used. Otherwise the server generates one.
    pub(crate) keeps_request_id: bool,
    /// Whether the upstream gets the client's `Authorization` on routes with `auth: none`.
    pub(crate) keeps_authorization: bool,
    /// Whether Keygate matches the route. Otherwise the service does, and its 404 is its own.
    pub(crate) matches_routes: bool,
    /// Rows that the server itself answers in another way.
    pub(crate) exceptions: &'static [Exception],
}

/// Rows that the server of a front answers in its own way.
#[derive(Debug)]
pub(crate) struct Exception {
    /// How the `note` of the rows begins.
    pub(crate) note: &'static str,
    pub(crate) status: u16,
    pub(crate) reason: &'static str,
}

/// A front that listens on an address and forwards to the recording upstream.
pub(crate) struct Listener {
    description: &'static Description,
    address: String,
    upstream: Arc<Upstream>,
    _peer: Option<Peer>,
}

/// Keygate's own gateway.
pub(crate) const GATEWAY: Description = Description {
    name: "gateway",
    keeps_bodies: true,
    keeps_request_id: true,
    keeps_authorization: true,
    matches_routes: true,
    exceptions: &[],
};

impl Description {
    /// How this front treats a row differently.
    pub(crate) fn exception(&self, row: &Row) -> Option<&'static Exception> {
        self.exceptions.iter().find(|exception| row.note.starts_with(exception.note))
    }

    /// Whether Keygate answers a row that is rejected.
    pub(crate) fn answers(&self, row: &Row) -> bool {
        let is_unrouted = matches!(row.outcome, Outcome::Rejected(rejection) if rejection.code == "route_not_found");
        self.exception(row).is_none() && (self.matches_routes || !is_unrouted)
    }
}

impl Listener {
    /// The gateway of a fixture.
    pub(crate) fn gateway(fixture: &Fixture) -> Self {
        let address = fixture.keygate.gateway.trim_start_matches("http://").to_owned();
        Self { description: &GATEWAY, address, upstream: Arc::clone(&fixture.upstream), _peer: None }
    }

    /// A service in this process.
    pub(crate) fn service(description: &'static Description, address: SocketAddr, fixture: &Fixture) -> Self {
        Self { description, address: address.to_string(), upstream: Arc::clone(&fixture.upstream), _peer: None }
    }

    /// A peer that listens on a port.
    pub(crate) fn peer(description: &'static Description, port: u16, peer: Peer, fixture: &Fixture) -> Self {
        let address = format!("127.0.0.1:{port}");
        Self { description, address, upstream: Arc::clone(&fixture.upstream), _peer: Some(peer) }
    }
}

impl Front for Listener {
    fn description(&self) -> &'static Description {
        self.description
    }

    async fn send(&self, request: &Request, marker: &str) -> Answer {
        let response = exchange(&self.address, request).await;
        let has_marker = |head: &String| head.lines().next().is_some_and(|line| line.contains(marker));
        Answer { response, forwarded: self.upstream.heads().into_iter().find(has_marker) }
    }
}
