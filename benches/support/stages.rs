//! The stages of a request: single steps, complete authorizations, and whole exchanges.

use std::hint::black_box;

use http::Method;
use keygate::id::RequestId;
use keygate::pipeline::headers::forwarded_for;
use keygate::pipeline::path::NormalPath;
use keygate::pipeline::route::{RouteMatcher, RouteTable};
use keygate::verifier::ConnectionMemory;
use keygate::wire::credential_locations::CredentialLocations;
use keygate::wire::extract::extract;

use super::exchange::{Client, FastClient};
use super::layer::LayerClient;
use super::parts::{ChargeFixture, Credential, PEER, Parts, routing, service_target, services};
use super::request::{Request, edit_for_client, edit_for_upstream, pingora_request, pingora_response};
use super::traffic::{Proof, Traffic};

/// A measured operation.
pub(crate) struct Stage {
    /// The name in reports and in the baseline.
    pub(crate) name: &'static str,
    /// Sets the stage up for this number of iterations. Each call of the returned closure is one iteration.
    pub(crate) prepare: fn(usize) -> Box<dyn FnMut()>,
}

/// All stages, roughly in the order in which a request passes them.
pub(crate) const STAGES: &[Stage] = &[
    Stage { name: "normalize a path", prepare: |_| normalize("/v1/orders/4711") },
    Stage { name: "normalize an ambiguous path", prepare: |_| normalize("/v1//Orders/%34711/./x") },
    Stage { name: "match 1 route", prepare: |_| match_route(1) },
    Stage { name: "match 1000 routes", prepare: |_| match_route(1000) },
    Stage { name: "extract a credential", prepare: |_| extract_credential() },
    Stage { name: "classify an issued key", prepare: |_| classify(Credential::Key) },
    Stage { name: "classify a JWT", prepare: |_| classify(Credential::Jwt) },
    Stage { name: "deny a forged key", prepare: |n| verify(Credential::Forged, Proof::Process, n) },
    Stage { name: "deny an unknown key", prepare: |n| verify(Credential::Unknown, Proof::Process, n) },
    Stage { name: "verify a key, full verification", prepare: |n| verify(Credential::Key, Proof::None, n) },
    Stage { name: "verify a key, proof cached", prepare: |n| verify(Credential::Key, Proof::Process, n) },
    Stage { name: "verify a key, proof at the connection", prepare: |n| verify(Credential::Key, Proof::Connection, n) },
    Stage {
        name: "verify an imported key, full verification",
        prepare: |n| verify(Credential::Imported, Proof::None, n),
    },
    Stage {
        name: "verify an imported key, proof cached",
        prepare: |n| verify(Credential::Imported, Proof::Process, n),
    },
    Stage {
        name: "verify an imported key, proof at the connection",
        prepare: |n| verify(Credential::Imported, Proof::Connection, n),
    },
    Stage { name: "verify a JWT, full verification", prepare: |n| verify(Credential::Jwt, Proof::None, n) },
    Stage { name: "verify a JWT, proof cached", prepare: |n| verify(Credential::Jwt, Proof::Process, n) },
    Stage { name: "verify a JWT, proof at the connection", prepare: |n| verify(Credential::Jwt, Proof::Connection, n) },
    Stage { name: "verify a macaroon, full verification", prepare: |n| verify(Credential::Macaroon, Proof::None, n) },
    Stage { name: "verify a macaroon, proof cached", prepare: |n| verify(Credential::Macaroon, Proof::Process, n) },
    Stage {
        name: "verify a macaroon, proof at the connection",
        prepare: |n| verify(Credential::Macaroon, Proof::Connection, n),
    },
    Stage { name: "charge 1 limit", prepare: |_| charge(&[]) },
    Stage { name: "charge 3 limits", prepare: |_| charge(&["burst", "everybody"]) },
    Stage { name: "authorize: a key, full verification", prepare: |n| authorize(Credential::Key, Proof::None, n) },
    Stage { name: "authorize: a key, proof cached", prepare: |n| authorize(Credential::Key, Proof::Process, n) },
    Stage {
        name: "authorize: a key, proof at the connection",
        prepare: |n| authorize(Credential::Key, Proof::Connection, n),
    },
    Stage {
        name: "authorize: an imported key, full verification",
        prepare: |n| authorize(Credential::Imported, Proof::None, n),
    },
    Stage {
        name: "authorize: an imported key, proof cached",
        prepare: |n| authorize(Credential::Imported, Proof::Process, n),
    },
    Stage {
        name: "authorize: an imported key, proof at the connection",
        prepare: |n| authorize(Credential::Imported, Proof::Connection, n),
    },
    Stage { name: "authorize: a JWT, full verification", prepare: |n| authorize(Credential::Jwt, Proof::None, n) },
    Stage { name: "authorize: a JWT, proof cached", prepare: |n| authorize(Credential::Jwt, Proof::Process, n) },
    Stage {
        name: "authorize: a JWT, proof at the connection",
        prepare: |n| authorize(Credential::Jwt, Proof::Connection, n),
    },
    Stage {
        name: "authorize: a macaroon, full verification",
        prepare: |n| authorize(Credential::Macaroon, Proof::None, n),
    },
    Stage {
        name: "authorize: a macaroon, proof cached",
        prepare: |n| authorize(Credential::Macaroon, Proof::Process, n),
    },
    Stage {
        name: "authorize: a macaroon, proof at the connection",
        prepare: |n| authorize(Credential::Macaroon, Proof::Connection, n),
    },
    Stage { name: "authorize: a forged key", prepare: |n| authorize(Credential::Forged, Proof::Process, n) },
    Stage { name: "authorize: an unknown key", prepare: |n| authorize(Credential::Unknown, Proof::Process, n) },
    Stage { name: "authorize: no credential", prepare: |_| authorize_without_credential() },
    Stage { name: "copy a request head", prepare: |_| copy_request() },
    Stage { name: "copy and edit a request head", prepare: |_| edit_request() },
    Stage { name: "copy a response head", prepare: |_| copy_response() },
    Stage { name: "copy and edit a response head", prepare: |_| edit_response(None) },
    Stage { name: "copy and edit a response head with 1 limit", prepare: |_| edit_response(Some(&[])) },
    Stage {
        name: "copy and edit a response head with 3 limits",
        prepare: |_| edit_response(Some(&["burst", "everybody"])),
    },
    Stage { name: "whole exchange: a key, proof cached", prepare: |_| exchange(Credential::Key, Proof::Process, 200) },
    Stage {
        name: "whole exchange: a key, proof at the connection",
        prepare: |_| exchange(Credential::Key, Proof::Connection, 200),
    },
    Stage { name: "whole exchange on the fast path: a key, proof at the connection", prepare: |_| fast_exchange() },
    Stage { name: "whole exchange: a JWT, proof cached", prepare: |_| exchange(Credential::Jwt, Proof::Process, 200) },
    Stage {
        name: "whole exchange: a JWT, proof at the connection",
        prepare: |_| exchange(Credential::Jwt, Proof::Connection, 200),
    },
    Stage { name: "whole exchange: a forged key", prepare: |_| exchange(Credential::Forged, Proof::Process, 401) },
    Stage { name: "layer: copy a request", prepare: |_| layer_copy() },
    Stage { name: "layer: copy a request, a key, proof cached", prepare: |_| layer() },
    Stage { name: "whole exchange: an unknown key", prepare: |_| exchange(Credential::Unknown, Proof::Process, 401) },
];

/// The number of warm-up iterations. They fill the caches.
const WARM_UP: usize = 20;

/// Runs the warm-up of a stage and returns its closure.
fn warmed(mut iterate: impl FnMut() + 'static) -> Box<dyn FnMut()> {
    for _ in 0..WARM_UP {
        iterate();
    }
    Box::new(iterate)
}

fn normalize(path: &'static str) -> Box<dyn FnMut()> {
    warmed(move || {
        black_box(NormalPath::parse(black_box(path)));
    })
}

/// Matches the routes in turn, one per iteration.
fn match_route(count: usize) -> Box<dyn FnMut()> {
    let config = services(count);
    let routes = RouteTable::new(config.routes.iter().map(|route| (RouteMatcher::from(route), ())));
    let targets = (0..count).map(service_target).map(|(host, path)| (host + ":443", path));
    let targets: Vec<_> = targets.collect();
    let mut number = 0;
    warmed(move || {
        let (host, path) = &targets[number];
        let path = NormalPath::parse(path).expect("the path is valid");
        assert!(routes.find(black_box(host), &Method::GET, black_box(&path)).is_some());
        number = (number + 1) % count;
    })
}

fn extract_credential() -> Box<dyn FnMut()> {
    let request = Request::new(Some(&Parts::new().credential(Credential::Key)));
    let locations = CredentialLocations::standard();
    warmed(move || assert!(matches!(extract(locations, black_box(&request.headers), None), Ok(Some(_)))))
}

fn classify(kind: Credential) -> Box<dyn FnMut()> {
    let credential = Parts::new().credential(kind);
    let routing = routing();
    warmed(move || {
        black_box(routing.classify(black_box(&credential)).kind());
    })
}

fn verify(kind: Credential, proof: Proof, iterations: usize) -> Box<dyn FnMut()> {
    let mut traffic = Traffic::new(kind, proof, iterations + WARM_UP);
    warmed(move || assert_eq!(traffic.verify().outcome.is_ok(), kind.is_valid()))
}

/// Charges the limit of a key and the limits `names`.
fn charge(names: &'static [&'static str]) -> Box<dyn FnMut()> {
    let fixture = ChargeFixture::new(names);
    warmed(move || {
        black_box(fixture.charge());
    })
}

fn authorize(kind: Credential, proof: Proof, iterations: usize) -> Box<dyn FnMut()> {
    let mut traffic = Traffic::new(kind, proof, iterations + WARM_UP);
    warmed(move || assert_eq!(traffic.authorize().is_ok(), kind.is_valid()))
}

fn authorize_without_credential() -> Box<dyn FnMut()> {
    let parts = Parts::new();
    let request = Request::new(None);
    let mut connection = ConnectionMemory::default();
    warmed(move || assert!(parts.authorize(black_box(&request.head()), &mut connection).is_err()))
}

fn copy_request() -> Box<dyn FnMut()> {
    let request = pingora_request(&Parts::new().credential(Credential::Key));
    warmed(move || {
        black_box(request.clone());
    })
}

fn edit_request() -> Box<dyn FnMut()> {
    let parts = Parts::new();
    let verdict = parts.verdict();
    let request = pingora_request(&parts.credential(Credential::Key));
    let (peer, request_id) = (forwarded_for(PEER), RequestId::random());
    warmed(move || {
        let mut request = request.clone();
        edit_for_upstream(&mut request, black_box(&verdict), peer.clone(), &request_id);
        black_box(request);
    })
}

fn copy_response() -> Box<dyn FnMut()> {
    let response = pingora_response();
    warmed(move || {
        black_box(response.clone());
    })
}

/// Edits a response head, with the fields of the limit of a key and of the limits `names`, or without limits if `None`.
fn edit_response(names: Option<&[&str]>) -> Box<dyn FnMut()> {
    let limits = names.map(|names| ChargeFixture::new(names).charge()).unwrap_or_default();
    let response = pingora_response();
    let request_id = RequestId::random();
    warmed(move || {
        let mut response = response.clone();
        edit_for_client(&mut response, black_box(&limits), &request_id);
        black_box(response);
    })
}

fn exchange(kind: Credential, proof: Proof, status: u16) -> Box<dyn FnMut()> {
    let mut client = Client::new(kind, proof == Proof::Connection);
    warmed(move || assert_eq!(client.send(), status))
}

fn fast_exchange() -> Box<dyn FnMut()> {
    let mut client = FastClient::new();
    warmed(move || assert!(client.send()))
}

fn layer_copy() -> Box<dyn FnMut()> {
    let client = LayerClient::new();
    warmed(move || {
        black_box(client.copy());
    })
}

fn layer() -> Box<dyn FnMut()> {
    let mut client = LayerClient::new();
    warmed(move || assert_eq!(client.send(), 200))
}
