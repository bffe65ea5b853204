//! What a request goes through, each step alone, the whole decision, and all together.

use std::hint::black_box;

use http::Method;
use keygate::config::UpstreamLimitFields;
use keygate::gateway::path::NormalPath;
use keygate::wire::extract::extract;

use super::exchange::Exchange;
use super::parts::{Charging, Credential, Parts, routes, routing};
use super::request::{Request, forward, send_back, to_forward, to_send_back};

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
    Stage { name: "refuse a forged key", prepare: |_| verify_again(Credential::Forged, false) },
    Stage { name: "refuse an unknown key", prepare: |_| verify_again(Credential::Garbage, false) },
    Stage { name: "verify a key on first sight", prepare: |calls| verify_new(Credential::Key, calls) },
    Stage { name: "verify a key seen before", prepare: |_| verify_again(Credential::Key, true) },
    Stage { name: "verify an imported key seen before", prepare: |_| verify_again(Credential::Imported, true) },
    Stage { name: "verify a JWT on first sight", prepare: |calls| verify_new(Credential::Jwt, calls) },
    Stage { name: "verify a JWT seen before", prepare: |_| verify_again(Credential::Jwt, true) },
    Stage { name: "verify a macaroon on first sight", prepare: |calls| verify_new(Credential::Macaroon, calls) },
    Stage { name: "verify a macaroon seen before", prepare: |_| verify_again(Credential::Macaroon, true) },
    Stage { name: "charge 1 limit", prepare: |_| charge(&[]) },
    Stage { name: "charge 3 limits", prepare: |_| charge(&["burst", "everybody"]) },
    Stage { name: "decide: a key", prepare: |_| decide(Some(Credential::Key), true) },
    Stage { name: "decide: an imported key", prepare: |_| decide(Some(Credential::Imported), true) },
    Stage { name: "decide: a JWT", prepare: |_| decide(Some(Credential::Jwt), true) },
    Stage { name: "decide: a macaroon", prepare: |_| decide(Some(Credential::Macaroon), true) },
    Stage { name: "decide: a forged key", prepare: |_| decide(Some(Credential::Forged), false) },
    Stage { name: "decide: an unknown key", prepare: |_| decide(Some(Credential::Garbage), false) },
    Stage { name: "decide: no credential", prepare: |_| decide(None, false) },
    Stage { name: "copy a request head", prepare: |_| copy_request() },
    Stage { name: "copy and edit a request head", prepare: |_| edit_request() },
    Stage { name: "copy an answer's head", prepare: |_| copy_answer() },
    Stage { name: "copy and edit an answer's head", prepare: |_| edit_answer() },
    Stage { name: "copy an answer's head and add 1 limit", prepare: |_| add_limits(&[]) },
    Stage { name: "copy an answer's head and add 3 limits", prepare: |_| add_limits(&["burst", "everybody"]) },
    Stage { name: "whole exchange: a key", prepare: |_| exchange(Credential::Key, 200) },
    Stage { name: "whole exchange: a JWT", prepare: |_| exchange(Credential::Jwt, 200) },
    Stage { name: "whole exchange: a forged key", prepare: |_| exchange(Credential::Forged, 401) },
    Stage { name: "whole exchange: an unknown key", prepare: |_| exchange(Credential::Garbage, 401) },
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
    let routes = routes(count);
    let asked = |number| (format!("service-{number}.example.com:443"), format!("/v1/resource-{number}/orders/4711"));
    let asked: Vec<_> = (0..count).map(asked).collect();
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

/// Each call verifies another credential.
fn verify_new(kind: Credential, calls: usize) -> Box<dyn FnMut()> {
    let parts = Parts::new();
    let credentials: Vec<_> = (0..calls + WARM_UP).map(|_| parts.credential(kind)).collect();
    let mut credentials = credentials.into_iter();
    warmed(move || {
        let credential = credentials.next().expect("there is one for each call");
        assert!(parts.verify(black_box(&credential)).is_some());
    })
}

/// Each call verifies the same credential.
fn verify_again(kind: Credential, good: bool) -> Box<dyn FnMut()> {
    let parts = Parts::new();
    let credential = parts.credential(kind);
    warmed(move || assert_eq!(parts.verify(black_box(&credential)).is_some(), good))
}

fn charge(names: &'static [&'static str]) -> Box<dyn FnMut()> {
    let charging = Charging::new(names);
    warmed(move || {
        black_box(charging.charge());
    })
}

fn decide(kind: Option<Credential>, good: bool) -> Box<dyn FnMut()> {
    let parts = Parts::new();
    let credential = kind.map(|kind| parts.credential(kind));
    let request = Request::new(credential.as_deref());
    warmed(move || assert_eq!(parts.decide(black_box(request.head())).outcome.is_ok(), good))
}

fn copy_request() -> Box<dyn FnMut()> {
    let request = to_forward(&Parts::new().credential(Credential::Key));
    warmed(move || {
        black_box(request.clone());
    })
}

fn edit_request() -> Box<dyn FnMut()> {
    let parts = Parts::new();
    let credential = parts.credential(Credential::Key);
    let verdict = parts.verify(&credential).expect("the key is good");
    let request = to_forward(&credential);
    warmed(move || {
        let mut request = request.clone();
        forward(&mut request, black_box(&verdict));
        black_box(request);
    })
}

fn copy_answer() -> Box<dyn FnMut()> {
    let answer = to_send_back();
    warmed(move || {
        black_box(answer.clone());
    })
}

fn edit_answer() -> Box<dyn FnMut()> {
    let answer = to_send_back();
    warmed(move || {
        let mut answer = answer.clone();
        send_back(&mut answer);
        black_box(answer);
    })
}

fn add_limits(names: &[&str]) -> Box<dyn FnMut()> {
    let charged = Charging::new(names).charge();
    let answer = to_send_back();
    warmed(move || {
        let mut answer = answer.clone();
        black_box(&charged).add_to(&mut answer, UpstreamLimitFields::Keep);
        black_box(answer);
    })
}

fn exchange(kind: Credential, status: u16) -> Box<dyn FnMut()> {
    let exchange = Exchange::new(kind);
    warmed(move || assert_eq!(exchange.run(), status))
}
