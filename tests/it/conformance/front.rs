//! Fronts: where requests arrive that Keygate authorizes.

use std::net::SocketAddr;
use std::sync::Arc;

use keygate_test_servers::Peer;

use super::fixture::Fixture;
use super::http::{Request, Response, exchange, exchange_http2};
use super::row::{Outcome, Row};
use crate::support::listeners::{AsyncStream, ListenerKind, Listeners, Protocol};
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
    destination: Destination,
    upstream: Arc<Upstream>,
    _peer: Option<Peer>,
}

/// Where and how requests are sent.
enum Destination {
    /// By HTTP/1.1 in clear text to an address.
    Address(String),
    /// To a listener of the gateway.
    Gateway(Arc<Listeners>, ListenerKind, Protocol),
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
    /// A listener of the gateway of a fixture.
    pub(crate) fn gateway(fixture: &Fixture, kind: ListenerKind, protocol: Protocol) -> Self {
        Self::new(&GATEWAY, Destination::Gateway(Arc::clone(&fixture.listeners), kind, protocol), fixture)
    }

    /// A service in this process.
    pub(crate) fn service(description: &'static Description, address: SocketAddr, fixture: &Fixture) -> Self {
        Self::new(description, Destination::Address(address.to_string()), fixture)
    }

    /// A peer that listens on a port.
    pub(crate) fn peer(description: &'static Description, port: u16, peer: Peer, fixture: &Fixture) -> Self {
        let destination = Destination::Address(format!("127.0.0.1:{port}"));
        Self { _peer: Some(peer), ..Self::new(description, destination, fixture) }
    }

    fn new(description: &'static Description, destination: Destination, fixture: &Fixture) -> Self {
        Self { description, destination, upstream: Arc::clone(&fixture.upstream), _peer: None }
    }
}

impl Destination {
    async fn exchange(&self, request: &Request) -> Response {
        match self {
            Self::Address(address) => {
                let stream: Box<dyn AsyncStream> = Box::new(tokio::net::TcpStream::connect(address).await.unwrap());
                exchange(stream, request).await
            }
            Self::Gateway(listeners, kind, Protocol::Http1) => {
                exchange(listeners.connect_async(*kind, Protocol::Http1).await, request).await
            }
            Self::Gateway(listeners, kind, Protocol::Http2) => {
                let scheme = if kind.has_tls() { "https" } else { "http" };
                exchange_http2(listeners.connect_async(*kind, Protocol::Http2).await, scheme, request).await
            }
        }
    }
}

impl Front for Listener {
    fn description(&self) -> &'static Description {
        self.description
    }

    async fn send(&self, request: &Request, marker: &str) -> Answer {
        let response = self.destination.exchange(request).await;
        let has_marker = |head: &String| head.lines().next().is_some_and(|line| line.contains(marker));
        Answer { response, forwarded: self.upstream.heads().into_iter().find(has_marker) }
    }
}
