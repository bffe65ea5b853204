//! The stages of a request: each step alone, routing and authorization together, and the whole exchange.

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
use super::parts::{Charging, Credential, PEER, Parts, routing, service_target, services};
use super::request::{Request, forward, send_back, to_forward, to_send_back};
use super::traffic::{Proof, Traffic};

/// One measured operation.
pub(crate) struct Stage {
    /// The name in tables and in the baseline.
    pub(crate) name: &'static str,
    /// Sets up what this number of operations needs. Each call of the result is one operation.
    pub(crate) prepare: fn(usize) -> Box<dyn FnMut()>,
}

/// All stages, in the order of a request.
pub(crate) const STAGES: &[Stage] = &[
    Stage { name: "normalize a path", prepare: |_| normalize("/v1/orders/4711") },
    Stage { name: "normalize an ambiguous path", prepare: |_| normalize("/v1//Orders/%34711/./x") },
    Stage { name: "match 1 route", prepare: |_| match_route(1) },
    Stage { name: "match 1000 routes", prepare: |_| match_route(1000) },
    Stage { name: "extract a credential", prepare: |_| extract_credential() },
    Stage { name: "classify an issued key", prepare: |_| classify(Credential::Key) },
    Stage { name: "classify a JWT", prepare: |_| classify(Credential::Jwt) },
    Stage { name: "deny a forged key", prepare: |calls| verify(Credential::Forged, Proof::Process, calls) },
    Stage { name: "deny an unknown key", prepare: |calls| verify(Credential::Unknown, Proof::Process, calls) },
    Stage { name: "verify a key, full verification", prepare: |calls| verify(Credential::Key, Proof::None, calls) },
    Stage { name: "verify a key, proof cached", prepare: |calls| verify(Credential::Key, Proof::Process, calls) },
    Stage {
        name: "verify a key, proof at the connection",
        prepare: |calls| verify(Credential::Key, Proof::Connection, calls),
    },
    Stage {
        name: "verify an imported key, full verification",
        prepare: |calls| verify(Credential::Imported, Proof::None, calls),
    },
    Stage {
        name: "verify an imported key, proof cached",
        prepare: |calls| verify(Credential::Imported, Proof::Process, calls),
    },
    Stage {
        name: "verify an imported key, proof at the connection",
        prepare: |calls| verify(Credential::Imported, Proof::Connection, calls),
    },
    Stage { name: "verify a JWT, full verification", prepare: |calls| verify(Credential::Jwt, Proof::None, calls) },
    Stage { name: "verify a JWT, proof cached", prepare: |calls| verify(Credential::Jwt, Proof::Process, calls) },
    Stage {
        name: "verify a JWT, proof at the connection",
        prepare: |calls| verify(Credential::Jwt, Proof::Connection, calls),
    },
    Stage {
        name: "verify a macaroon, full verification",
        prepare: |calls| verify(Credential::Macaroon, Proof::None, calls),
    },
    Stage {
        name: "verify a macaroon, proof cached",
        prepare: |calls| verify(Credential::Macaroon, Proof::Process, calls),
    },
    Stage {
        name: "verify a macaroon, proof at the connection",
        prepare: |calls| verify(Credential::Macaroon, Proof::Connection, calls),
    },
    Stage { name: "charge 1 limit", prepare: |_| charge(&[]) },
    Stage { name: "charge 3 limits", prepare: |_| charge(&["burst", "everybody"]) },
    Stage {
        name: "authorize: a key, full verification",
        prepare: |calls| authorize(Credential::Key, Proof::None, calls),
    },
    Stage {
        name: "authorize: a key, proof cached",
        prepare: |calls| authorize(Credential::Key, Proof::Process, calls),
    },
    Stage {
        name: "authorize: a key, proof at the connection",
        prepare: |calls| authorize(Credential::Key, Proof::Connection, calls),
    },
    Stage {
        name: "authorize: an imported key, full verification",
        prepare: |calls| authorize(Credential::Imported, Proof::None, calls),
    },
    Stage {
        name: "authorize: an imported key, proof cached",
        prepare: |calls| authorize(Credential::Imported, Proof::Process, calls),
    },
    Stage {
        name: "authorize: an imported key, proof at the connection",
        prepare: |calls| authorize(Credential::Imported, Proof::Connection, calls),
    },
    Stage {
        name: "authorize: a JWT, full verification",
        prepare: |calls| authorize(Credential::Jwt, Proof::None, calls),
    },
    Stage {
        name: "authorize: a JWT, proof cached",
        prepare: |calls| authorize(Credential::Jwt, Proof::Process, calls),
    },
    Stage {
        name: "authorize: a JWT, proof at the connection",
        prepare: |calls| authorize(Credential::Jwt, Proof::Connection, calls),
    },
    Stage {
        name: "authorize: a macaroon, full verification",
        prepare: |calls| authorize(Credential::Macaroon, Proof::None, calls),
    },
    Stage {
        name: "authorize: a macaroon, proof cached",
        prepare: |calls| authorize(Credential::Macaroon, Proof::Process, calls),
    },
    Stage {
        name: "authorize: a macaroon, proof at the connection",
        prepare: |calls| authorize(Credential::Macaroon, Proof::Connection, calls),
    },
    Stage { name: "authorize: a forged key", prepare: |calls| authorize(Credential::Forged, Proof::Process, calls) },
    Stage { name: "authorize: an unknown key", prepare: |calls| authorize(Credential::Unknown, Proof::Process, calls) },
    Stage { name: "authorize: no credential", prepare: |_| authorize_without() },
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

/// Operations before the measurement: enough to fill the caches.
const WARM_UP: usize = 20;

/// The operation after its warm-up.
fn warmed(mut call: impl FnMut() + 'static) -> Box<dyn FnMut()> {
    for _ in 0..WARM_UP {
        call();
    }
    Box::new(call)
}

fn normalize(path: &'static str) -> Box<dyn FnMut()> {
    warmed(move || {
        black_box(NormalPath::parse(black_box(path)));
    })
}

/// Each call matches another route.
fn match_route(count: usize) -> Box<dyn FnMut()> {
    let config = services(count);
    let routes = RouteTable::new(config.routes.iter().map(|route| (RouteMatcher::from(route), ())));
    let asked = (0..count).map(service_target).map(|(host, path)| (host + ":443", path));
    let asked: Vec<_> = asked.collect();
    let mut number = 0;
    warmed(move || {
        let (host, path) = &asked[number];
        let path = NormalPath::parse(path).expect("the path is one");
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

fn verify(kind: Credential, proof: Proof, calls: usize) -> Box<dyn FnMut()> {
    let mut traffic = Traffic::new(kind, proof, calls + WARM_UP);
    warmed(move || assert_eq!(traffic.verify().outcome.is_ok(), kind.is_good()))
}

fn charge(names: &'static [&'static str]) -> Box<dyn FnMut()> {
    let charging = Charging::new(names);
    warmed(move || {
        black_box(charging.charge());
    })
}

fn authorize(kind: Credential, proof: Proof, calls: usize) -> Box<dyn FnMut()> {
    let mut traffic = Traffic::new(kind, proof, calls + WARM_UP);
    warmed(move || assert_eq!(traffic.authorize().is_ok(), kind.is_good()))
}

fn authorize_without() -> Box<dyn FnMut()> {
    let parts = Parts::new();
    let request = Request::new(None);
    let mut connection = ConnectionMemory::default();
    warmed(move || assert!(parts.authorize(black_box(&request.head()), &mut connection).is_err()))
}

fn copy_request() -> Box<dyn FnMut()> {
    let request = to_forward(&Parts::new().credential(Credential::Key));
    warmed(move || {
        black_box(request.clone());
    })
}

fn edit_request() -> Box<dyn FnMut()> {
    let parts = Parts::new();
    let verdict = parts.verdict();
    let request = to_forward(&parts.credential(Credential::Key));
    let (peer, request_id) = (forwarded_for(PEER), RequestId::random());
    warmed(move || {
        let mut request = request.clone();
        forward(&mut request, black_box(&verdict), peer.clone(), &request_id);
        black_box(request);
    })
}

fn copy_response() -> Box<dyn FnMut()> {
    let response = to_send_back();
    warmed(move || {
        black_box(response.clone());
    })
}

/// With the limit of a key and these limits, or without any.
fn edit_response(names: Option<&[&str]>) -> Box<dyn FnMut()> {
    let limits = names.map(|names| Charging::new(names).charge()).unwrap_or_default();
    let response = to_send_back();
    let request_id = RequestId::random();
    warmed(move || {
        let mut response = response.clone();
        send_back(&mut response, black_box(&limits), &request_id);
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
