//! hyper reads what is forwarded as the same requests that were sent.

use http::Uri;
use keygate_test_servers::{ReadRequest, mutated_requests, read_requests, sent_request};
use proptest::collection::vec;
use proptest::prelude::*;

use super::forwarded::{ForwardedRequest, forward};
use crate::config::ListenerLimits;

/// A request that must be read after the one under test.
const NEXT: &[u8] = b"GET /next HTTP/1.1\r\nHost: next\r\n\r\n";

/// What hyper reads of a request that is forwarded; fails unless the next request follows it.
fn understood(request: &ForwardedRequest) -> Option<ReadRequest> {
    let mut read = read_requests(&[&request.head[..], &request.body, NEXT].concat()).0;
    // hyper closes a connection of HTTP/1.0.
    if request.head.windows(11).any(|window| window == b" HTTP/1.1\r\n") && !read.is_empty() {
        let next = read.pop().unwrap();
        assert_eq!((next.method.as_str(), next.target.as_str()), ("GET", "/next"), "{request:?}");
    }
    assert!(read.len() <= 1, "{request:?}: {read:?}");
    read.pop()
}

/// Splits bytes into pieces of sizes that repeat.
fn pieces<'b>(mut bytes: &'b [u8], sizes: &[usize]) -> Vec<&'b [u8]> {
    let mut sizes = sizes.iter().cycle();
    let mut pieces = Vec::new();
    while !bytes.is_empty() {
        let (piece, rest) = bytes.split_at(bytes.len().min(*sizes.next().unwrap()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

/// The request line of a head, and its fields in lower case, as they are written.
fn written(request: &ForwardedRequest) -> (String, Vec<(String, Vec<u8>)>) {
    let head: String = request.head.iter().copied().map(char::from).collect();
    let mut lines = head.trim_end_matches("\r\n").split("\r\n");
    let line = lines.next().unwrap().to_owned();
    let bytes = |text: &str| text.chars().map(|character| character as u8).collect();
    let fields = lines.map(|line| line.split_once(": ").unwrap_or_else(|| panic!("{head:?}")));
    let mut fields: Vec<_> = fields.map(|(name, value)| (name.to_ascii_lowercase(), bytes(value))).collect();
    fields.sort();
    (line, fields)
}

proptest! {
    #[test]
    fn hyper_reads_the_requests_that_were_sent(sent in vec(sent_request(), 1..4), sizes in vec(1_usize..80, 1..6)) {
        let bytes: Vec<u8> = sent.iter().flat_map(|sent| sent.bytes.clone()).collect();
        let forwarded = forward(pieces(&bytes, &sizes), &ListenerLimits::default());
        prop_assert_eq!(forwarded.refusal, None);
        prop_assert_eq!(forwarded.requests.len(), sent.len());
        for (request, sent) in forwarded.requests.iter().zip(sent) {
            prop_assert!(request.is_complete);
            prop_assert_eq!(understood(request), Some(sent.meaning));
        }
    }

    #[test]
    fn hyper_reads_nothing_else_in_mutated_requests(bytes in mutated_requests()) {
        for request in forward([&bytes[..]], &ListenerLimits::default()).requests {
            if !request.is_complete {
                let read = read_requests(&[&request.head[..], &request.body].concat()).0;
                prop_assert_eq!(read, vec![]);
                continue;
            }
            let (line, fields) = written(&request);
            let (method, rest) = line.split_once(' ').unwrap();
            let (target, _version) = rest.split_once(' ').unwrap();
            match understood(&request) {
                Some(read) => {
                    prop_assert_eq!((read.method.as_str(), read.target.as_str()), (method, target));
                    prop_assert_eq!(&read.fields, &fields);
                    if !fields.iter().any(|(name, _)| name == "transfer-encoding") {
                        prop_assert_eq!(&read.body, &request.body);
                    }
                }
                // hyper has a narrower idea of targets.
                None => prop_assert!(target.parse::<Uri>().is_err(), "{request:?}"),
            }
        }
    }
}
