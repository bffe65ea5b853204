//! What a request goes through, each step alone, the whole decision, and all together.

use std::hint::black_box;

use http::Method;
use keygate::gateway::forward::forwarded_for;
use keygate::gateway::path::NormalPath;
use keygate::gateway::route::RouteTable;
use keygate::id::RequestId;
use keygate::verifier::ConnectionMemory;
use keygate::wire::extract::extract;

use super::exchange::Exchange;
use super::parts::{Charging, Credential, PEER, Parts, routing, service_target, services};
use super::request::{Request, forward, send_back, to_forward, to_send_back};
use super::traffic::{Sight, Traffic};

/// One thing that is done over and over.
pub(crate) struct Stage {
    /// What is done, as it stands in tables and in the baseline.
    pub(crate) name: &'static str,
    /// Sets up what is needed to do it so many times. Each call of the result does it once.
    pub(crate) prepare: fn(usize) -> Box<dyn FnMut()>,
}

/// All stages, in the order of a request.
pub(crate) const STAGES: &[Stage] = &[
    Stage { name: "normalise a path", prepare: |_| normalise("/v1/orders/4711") },
    Stage { name: "normalise a path that reads two ways", prepare: |_| normalise("/v1//Orders/%34711/./x") },
    Stage { name: "match 1 route", prepare: |_| match_route(1) },
    Stage { name: "match 1000 routes", prepare: |_| match_route(1000) },
    Stage { name: "extract a credential", prepare: |_| extract_credential() },
    Stage { name: "classify an issued key", prepare: |_| classify(Credential::Key) },
    Stage { name: "classify a JWT", prepare: |_| classify(Credential::Jwt) },
    Stage { name: "refuse a forged key", prepare: |calls| verify(Credential::Forged, Sight::Process, calls) },
    Stage { name: "refuse an unknown key", prepare: |calls| verify(Credential::Garbage, Sight::Process, calls) },
    Stage { name: "verify a key on first sight", prepare: |calls| verify(Credential::Key, Sight::First, calls) },
    Stage { name: "verify a key seen before", prepare: |calls| verify(Credential::Key, Sight::Process, calls) },
    Stage {
        name: "verify a key on its connection",
        prepare: |calls| verify(Credential::Key, Sight::Connection, calls),
    },
    Stage {
        name: "verify an imported key on first sight",
        prepare: |calls| verify(Credential::Imported, Sight::First, calls),
    },
    Stage {
        name: "verify an imported key seen before",
        prepare: |calls| verify(Credential::Imported, Sight::Process, calls),
    },
    Stage {
        name: "verify an imported key on its connection",
        prepare: |calls| verify(Credential::Imported, Sight::Connection, calls),
    },
    Stage { name: "verify a JWT on first sight", prepare: |calls| verify(Credential::Jwt, Sight::First, calls) },
    Stage { name: "verify a JWT seen before", prepare: |calls| verify(Credential::Jwt, Sight::Process, calls) },
    Stage {
        name: "verify a JWT on its connection",
        prepare: |calls| verify(Credential::Jwt, Sight::Connection, calls),
    },
    Stage {
        name: "verify a macaroon on first sight",
        prepare: |calls| verify(Credential::Macaroon, Sight::First, calls),
    },
    Stage {
        name: "verify a macaroon seen before",
        prepare: |calls| verify(Credential::Macaroon, Sight::Process, calls),
    },
    Stage {
        name: "verify a macaroon on its connection",
        prepare: |calls| verify(Credential::Macaroon, Sight::Connection, calls),
    },
    Stage { name: "charge 1 limit", prepare: |_| charge(&[]) },
    Stage { name: "charge 3 limits", prepare: |_| charge(&["burst", "everybody"]) },
    Stage { name: "decide: a key on first sight", prepare: |calls| decide(Credential::Key, Sight::First, calls) },
    Stage { name: "decide: a key seen before", prepare: |calls| decide(Credential::Key, Sight::Process, calls) },
    Stage {
        name: "decide: a key on its connection",
        prepare: |calls| decide(Credential::Key, Sight::Connection, calls),
    },
    Stage {
        name: "decide: an imported key on first sight",
        prepare: |calls| decide(Credential::Imported, Sight::First, calls),
    },
    Stage {
        name: "decide: an imported key seen before",
        prepare: |calls| decide(Credential::Imported, Sight::Process, calls),
    },
    Stage {
        name: "decide: an imported key on its connection",
        prepare: |calls| decide(Credential::Imported, Sight::Connection, calls),
    },
    Stage { name: "decide: a JWT on first sight", prepare: |calls| decide(Credential::Jwt, Sight::First, calls) },
    Stage { name: "decide: a JWT seen before", prepare: |calls| decide(Credential::Jwt, Sight::Process, calls) },
    Stage {
        name: "decide: a JWT on its connection",
        prepare: |calls| decide(Credential::Jwt, Sight::Connection, calls),
    },
    Stage {
        name: "decide: a macaroon on first sight",
        prepare: |calls| decide(Credential::Macaroon, Sight::First, calls),
    },
    Stage {
        name: "decide: a macaroon seen before",
        prepare: |calls| decide(Credential::Macaroon, Sight::Process, calls),
    },
    Stage {
        name: "decide: a macaroon on its connection",
        prepare: |calls| decide(Credential::Macaroon, Sight::Connection, calls),
    },
    Stage { name: "decide: a forged key", prepare: |calls| decide(Credential::Forged, Sight::Process, calls) },
    Stage { name: "decide: an unknown key", prepare: |calls| decide(Credential::Garbage, Sight::Process, calls) },
    Stage { name: "decide: no credential", prepare: |_| decide_without() },
    Stage { name: "copy a request head", prepare: |_| copy_request() },
    Stage { name: "copy and edit a request head", prepare: |_| edit_request() },
    Stage { name: "copy an answer's head", prepare: |_| copy_answer() },
    Stage { name: "copy and edit an answer's head", prepare: |_| edit_answer(None) },
    Stage { name: "copy and edit an answer's head with 1 limit", prepare: |_| edit_answer(Some(&[])) },
    Stage {
        name: "copy and edit an answer's head with 3 limits",
        prepare: |_| edit_answer(Some(&["burst", "everybody"])),
    },
    Stage { name: "whole exchange: a key seen before", prepare: |_| exchange(Credential::Key, Sight::Process, 200) },
    Stage {
        name: "whole exchange: a key on its connection",
        prepare: |_| exchange(Credential::Key, Sight::Connection, 200),
    },
    Stage { name: "whole exchange: a JWT seen before", prepare: |_| exchange(Credential::Jwt, Sight::Process, 200) },
    Stage {
        name: "whole exchange: a JWT on its connection",
        prepare: |_| exchange(Credential::Jwt, Sight::Connection, 200),
    },
    Stage { name: "whole exchange: a forged key", prepare: |_| exchange(Credential::Forged, Sight::Process, 401) },
    Stage { name: "whole exchange: an unknown key", prepare: |_| exchange(Credential::Garbage, Sight::Process, 401) },
];

/// How often something is done before it counts: enough for what is remembered to be known.
const WARM_UP: usize = 20;

/// Something that was done a few times, and can be done on.
fn warmed(mut call: impl FnMut() + 'static) -> Box<dyn FnMut()> {
    for _ in 0..WARM_UP {
        call();
    }
    Box::new(call)
}

fn normalise(path: &'static str) -> Box<dyn FnMut()> {
    warmed(move || {
        black_box(NormalPath::parse(black_box(path)));
    })
}

/// Each call asks for another route.
fn match_route(count: usize) -> Box<dyn FnMut()> {
    let routes = RouteTable::new(&services(count).routes);
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
    warmed(move || assert!(matches!(extract(black_box(&request.headers)), Ok(Some(_)))))
}

fn classify(kind: Credential) -> Box<dyn FnMut()> {
    let credential = Parts::new().credential(kind);
    let routing = routing();
    warmed(move || {
        black_box(routing.classify(black_box(&credential)).kind());
    })
}

fn verify(kind: Credential, sight: Sight, calls: usize) -> Box<dyn FnMut()> {
    let mut traffic = Traffic::new(kind, sight, calls + WARM_UP);
    warmed(move || assert_eq!(traffic.verify().outcome.is_ok(), kind.is_good()))
}

fn charge(names: &'static [&'static str]) -> Box<dyn FnMut()> {
    let charging = Charging::new(names);
    warmed(move || {
        black_box(charging.charge());
    })
}

fn decide(kind: Credential, sight: Sight, calls: usize) -> Box<dyn FnMut()> {
    let mut traffic = Traffic::new(kind, sight, calls + WARM_UP);
    warmed(move || assert_eq!(traffic.decide().outcome.is_ok(), kind.is_good()))
}

fn decide_without() -> Box<dyn FnMut()> {
    let parts = Parts::new();
    let request = Request::new(None);
    let mut connection = ConnectionMemory::default();
    warmed(move || assert!(parts.decide(black_box(request.head()), &mut connection).outcome.is_err()))
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

fn copy_answer() -> Box<dyn FnMut()> {
    let answer = to_send_back();
    warmed(move || {
        black_box(answer.clone());
    })
}

/// With a key's own limit and these, or without any.
fn edit_answer(names: Option<&[&str]>) -> Box<dyn FnMut()> {
    let charged = names.map(|names| Charging::new(names).charge()).unwrap_or_default();
    let answer = to_send_back();
    let request_id = RequestId::random();
    warmed(move || {
        let mut answer = answer.clone();
        send_back(&mut answer, black_box(&charged), &request_id);
        black_box(answer);
    })
}

fn exchange(kind: Credential, sight: Sight, status: u16) -> Box<dyn FnMut()> {
    let mut exchange = Exchange::new(kind, sight);
    warmed(move || assert_eq!(exchange.run(), status))
}
