//! Mutated requests pass through the gateway to real servers: none of these sees a request that was not sent.
//!
//! The seeds have requests to `/smuggled` in bodies, chunk extensions, trailers and field values. The gateway requires a credential for
//! that path, and no mutation has one: so a server that sees it was told by bytes that the gateway took for something else.
//! `KEYGATE_MUTATIONS` is the number of mutations for each server, by default 2,000.

mod mutations;
mod seeds;
mod servers;

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use keygate_test_servers::{WAIT_TIMEOUT, eventually};
use serde_json::json;

use crate::support::keygate::Keygate;
use mutations::Mutation;
use servers::{Kind, Origin, Seen};

/// The number of mutations between two checks of what the origin has seen.
const BATCH: u64 = 500;
/// Concurrent clients.
const CLIENTS: u64 = 4;
/// The number of mutations after which a client checks that requests and responses still belong together.
const PROBE_EACH: u64 = 20;

/// What an origin has seen in all.
#[derive(Debug, Default)]
struct Totals {
    sent: u64,
    accepted: usize,
    refused: usize,
    ids: HashSet<String>,
}

fn gateway(origin: &Origin) -> Keygate {
    let gateway = json!({
        "routes": [
            {"name": "all", "upstream": "origin", "auth": "none"},
            {"name": "smuggled", "path_prefix": "/smuggled", "upstream": "origin"},
        ],
        "upstreams": {"origin": {"endpoints": [origin.url()]}}
    });
    Keygate::serve(&gateway, &json!({}))
}

/// Sends bytes, then nothing more, and returns what the gateway answers until it closes the connection.
fn exchange<'b>(address: &str, pieces: impl IntoIterator<Item = &'b [u8]>) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(WAIT_TIMEOUT)).unwrap();
    stream.set_nodelay(true).unwrap();
    for piece in pieces {
        // The gateway may have refused the request already.
        if stream.write_all(piece).is_err() {
            break;
        }
    }
    let _ = stream.shutdown(Shutdown::Write);
    let mut response = Vec::new();
    match stream.read_to_end(&mut response) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("the connection stays open"),
        _ => response,
    }
}

/// A request of its own, whose response must be its own, unless the origin answers requests that were not sent.
fn probe(kind: Kind, address: &str, name: &str) {
    let request = format!("GET /echo/{name} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    let response = String::from_utf8_lossy(&exchange(address, [request.as_bytes()])).into_owned();
    if kind == Kind::Careless {
        return;
    }
    assert_eq!(response.matches("HTTP/1.1 ").count(), 1, "{name}: {response}");
    assert_eq!(response.matches("/echo/").count(), 1, "{name}: {response}");
    assert!(response.contains(&format!("/echo/{name}")), "{name}: {response}");
}

fn send_mutations(kind: Kind, address: &str, indices: &Range<u64>) {
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let indices = indices.clone();
            scope.spawn(move || {
                for index in indices.filter(|index| index % CLIENTS == client) {
                    let mutation = Mutation::new(index);
                    exchange(address, mutation.pieces());
                    if (index / CLIENTS).is_multiple_of(PROBE_EACH) {
                        probe(kind, address, &format!("probe-{index}"));
                    }
                }
            });
        }
    });
}

/// Judges what an origin has seen since the last time.
fn judge(kind: Kind, seen: &[Seen], totals: &mut Totals, sent: &Range<u64>) {
    for request in seen {
        let path = request.target.split(['/', '?', '#', ';']).nth(1).unwrap_or_default();
        assert!(
            path != "smuggled",
            "{kind:?} has seen {request:?}, which was not sent, in mutations {sent:?}: {seen:#?}"
        );
        // The gateway answers these.
        assert!(!["CONNECT", "TRACE"].contains(&&*request.method), "{kind:?} has seen {request:?}");
        if !request.is_accepted() {
            totals.refused += 1;
            continue;
        }
        totals.accepted += 1;
        // The gateway gives an id to each request that it forwards.
        let id = request.id.clone().unwrap_or_else(|| {
            panic!("{kind:?} has seen {request:?}, which was not forwarded, in mutations {sent:?}: {seen:#?}")
        });
        assert!(totals.ids.insert(id), "{kind:?} has seen {request:?} twice, in mutations {sent:?}: {seen:#?}");
    }
}

fn run(kind: Kind) {
    if let Some(origin) = Origin::start(kind) {
        pass_mutations(origin);
    }
}

fn pass_mutations(mut origin: Origin) {
    let kind = origin.kind;
    let mut keygate = gateway(&origin);
    let address = keygate.gateway.trim_start_matches("http://").to_owned();
    let count: u64 = std::env::var("KEYGATE_MUTATIONS").map_or(2_000, |count| count.parse().unwrap());
    let mut totals = Totals::default();
    while totals.sent < count {
        let indices = totals.sent..count.min(totals.sent + BATCH);
        send_mutations(kind, &address, &indices);
        totals.sent = indices.end;
        // The origin writes its log in order, or nearly so.
        let last = format!("last-{}", indices.end);
        probe(kind, &address, &last);
        let mut seen = Vec::new();
        eventually("the origin logs the last request", || {
            seen.extend(origin.take());
            seen.iter().any(|request| request.target.ends_with(&last))
        });
        judge(kind, &seen, &mut totals, &indices);
    }
    let Totals { sent, accepted, refused, .. } = totals;
    eprintln!("{kind:?}: {sent} mutations, {accepted} requests accepted by the origin, {refused} refused by it");
    assert!(!keygate.whole_log().contains("defect"), "{kind:?}: a request has panicked");
    // A gateway that refuses everything proves nothing.
    assert!(accepted as u64 > sent / 4, "{kind:?} has accepted {accepted} requests of {sent} connections");
}

#[test]
fn nginx_sees_no_request_that_was_not_sent() {
    run(Kind::Nginx);
}

#[test]
fn apache_sees_no_request_that_was_not_sent() {
    run(Kind::Apache);
}

#[test]
fn origin_behind_haproxy_sees_no_request_that_was_not_sent() {
    run(Kind::Haproxy);
}

#[test]
fn origin_behind_varnish_sees_no_request_that_was_not_sent() {
    run(Kind::Varnish);
}

#[test]
fn python_sees_no_request_that_was_not_sent() {
    run(Kind::Python);
}

#[test]
fn node_sees_no_request_that_was_not_sent() {
    run(Kind::Node);
}

#[test]
fn origin_that_takes_bodies_for_requests_is_noticed() {
    let Some(origin) = Origin::start(Kind::Careless) else { return };
    let judged = catch_unwind(AssertUnwindSafe(|| pass_mutations(origin)));
    let message = *judged.unwrap_err().downcast::<String>().unwrap();
    assert!(message.contains("\"/smuggled\" }, which was not sent"), "{message}");
}
