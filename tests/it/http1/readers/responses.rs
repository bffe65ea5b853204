//! Generated responses: the client of a path reads what a client of the upstream itself reads, or an error.

use std::collections::BTreeSet;
use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use keygate_test_servers::{ReadResponse, WAIT_TIMEOUT, read_response};
use proptest::prelude::*;

use super::super::{generated_cases, serve_path};
use super::generated_response::{Case, case};
use crate::support::keygate::Keygate;
use crate::support::raw_upstream::read_head;

/// The number of generated responses.
const CASES: u32 = 400;

/// Fields of the connection and of the framing, and those that Keygate sets.
const EDITED: [&str; 10] = [
    "connection",
    "content-length",
    // pingora replaces that of the upstream.
    "date",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-request-id",
];

/// Responses that hyper reads, and Keygate replaces by 502 or breaks off: whether a response is such a one.
const STRICTER: &[fn(&Case, &ReadResponse) -> bool] = &[
    // No request has an `Upgrade` field, so a switch of protocols is invalid.
    |_, response| response.status == 101,
    // Fields of the framing must be unambiguous, also those of a response without a body.
    |case, response| {
        let lengths: BTreeSet<_> = list(response, "content-length").iter().map(|value| number(value)).collect();
        let codings = list(response, "transfer-encoding");
        let is_chunked = codings.len() == 1 && codings[0].eq_ignore_ascii_case("chunked");
        let is_old = case.bytes.windows(9).any(|window| window == b"HTTP/1.0 ");
        let is_wrong_coding = !codings.is_empty() && (!is_chunked || !lengths.is_empty() || is_old);
        is_wrong_coding || lengths.len() > 1 || lengths.contains(&None)
    },
    // The same is true of interim responses.
    |case, _| has_wrong_interim(&case.bytes),
];

/// Responses that Keygate passes on, and hyper does not read: whether a response is such a one.
const LAXER: &[fn(&Case) -> bool] = &[];

/// Responses that the fast path refuses, and pingora's proxy passes on: whether a response is such a one.
const ONLY_BY_PROXY: &[fn(&ReadResponse) -> bool] = &[
    // pingora drops a length beside a transfer coding before Keygate sees the head (RFC 9112 section 6.3 allows both answers).
    |response| !list(response, "transfer-encoding").is_empty() && !list(response, "content-length").is_empty(),
];

/// Whether there is an interim response with fields of the framing that are malformed.
fn has_wrong_interim(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes).to_ascii_lowercase();
    let is_final = |line: &&str| {
        line.starts_with("http/1.") && line.split(' ').nth(1).is_none_or(|status| !status.starts_with('1'))
    };
    let interim = text.lines().take_while(|line| !is_final(line));
    let mut fields = interim.filter_map(|line| line.split_once(':'));
    fields.any(|(name, value)| match name {
        "content-length" => number(value.trim()).is_none(),
        "transfer-encoding" => value.trim() != "chunked",
        _ => false,
    })
}

/// The members of a list.
fn list(response: &ReadResponse, name: &str) -> Vec<String> {
    let values = response.fields.iter().filter(|(field, _)| field == name).map(|(_, value)| value);
    let values = values.map(|value| String::from_utf8_lossy(value).into_owned());
    values.flat_map(|value| value.split(',').map(|member| member.trim().to_owned()).collect::<Vec<_>>()).collect()
}

/// A number of digits only.
fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|_| !text.starts_with('+'))
}

/// The status, the fields and the body.
type Meaning<'a> = (u16, Vec<(String, Vec<u8>)>, &'a [u8]);

/// What a client reads.
#[derive(Debug, PartialEq, Eq)]
enum Reading {
    /// No response, a part of one, or one in which Keygate says that the upstream has failed.
    Failed(String),
    Whole(ReadResponse),
}

impl Reading {
    fn new(method: &str, bytes: &[u8]) -> Self {
        match read_response(method, bytes) {
            Err(error) | Ok(ReadResponse { failure: Some(error), .. }) => Self::Failed(error),
            Ok(response) if is_own(&response) => Self::Failed(format!("{} by Keygate", response.status)),
            Ok(response) => Self::Whole(response),
        }
    }

    /// The parts that an intermediary must not change. `None` for a failure.
    fn meaning(&self) -> Option<Meaning<'_>> {
        let Self::Whole(response) = self else { return None };
        let options = response.fields.iter().filter(|(name, _)| name == "connection").map(|(_, value)| value);
        let options = options.flat_map(|value| value.split(|byte| *byte == b','));
        let named: Vec<_> = options.map(|option| option.trim_ascii().to_ascii_lowercase()).collect();
        let is_kept = |name: &str| !EDITED.contains(&name) && !named.iter().any(|option| option == name.as_bytes());
        let fields = response.fields.iter().filter(|(name, _)| is_kept(name)).cloned().collect();
        Some((response.status, fields, &response.body))
    }
}

/// Whether Keygate has made a response.
fn is_own(response: &ReadResponse) -> bool {
    let problem = ("content-type".to_owned(), b"application/problem+json".to_vec());
    matches!(response.status, 502..=504) && response.fields.contains(&problem)
}

/// An upstream that answers each connection with the bytes of the current case, and closes it.
struct Scripted {
    url: String,
    case: Arc<Mutex<Option<Case>>>,
}

impl Scripted {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let case: Arc<Mutex<Option<Case>>> = Arc::default();
        let shared = Arc::clone(&case);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let case = Arc::clone(&shared);
                std::thread::spawn(move || serve(&stream.unwrap(), &case));
            }
        });
        Self { url, case }
    }
}

fn serve(mut stream: &TcpStream, case: &Mutex<Option<Case>>) {
    stream.set_nodelay(true).unwrap();
    let mut reader = BufReader::new(stream);
    if read_head(&mut reader).is_none() {
        return;
    }
    let case = case.lock().unwrap().clone().unwrap();
    for piece in case.bytes.chunks(case.piece.min(case.bytes.len().max(1))) {
        if stream.write_all(piece).is_err() {
            return;
        }
    }
    let _ = stream.shutdown(Shutdown::Write);
    let _ = reader.read_to_end(&mut Vec::new());
}

struct Path {
    keygate: Keygate,
    upstream: Scripted,
}

impl Path {
    fn start(fast_path: bool) -> Self {
        let upstream = Scripted::start();
        Self { keygate: serve_path(fast_path, &upstream.url), upstream }
    }

    /// What a client receives of the response.
    fn exchange(&self, case: &Case) -> Vec<u8> {
        *self.upstream.case.lock().unwrap() = Some(case.clone());
        let address = self.keygate.gateway.strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(WAIT_TIMEOUT)).unwrap();
        let request = format!("{} / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", case.method);
        stream.write_all(request.as_bytes()).unwrap();
        let mut received = Vec::new();
        // A response that is broken off may end with a reset.
        let _ = stream.read_to_end(&mut received);
        received
    }
}

fn check(case: &Case, received: &[u8]) -> Result<Reading, String> {
    let (direct, reading) = (Reading::new(case.method, &case.bytes), Reading::new(case.method, received));
    let is_as_expected = match (&direct, &reading) {
        (_, Reading::Whole(response)) if !response.trailers.is_empty() => false,
        (Reading::Failed(_), Reading::Failed(_)) => true,
        (Reading::Whole(response), Reading::Failed(_)) => STRICTER.iter().any(|applies| applies(case, response)),
        (Reading::Failed(_), Reading::Whole(_)) => LAXER.iter().any(|applies| applies(case)),
        (Reading::Whole(_), Reading::Whole(_)) => direct.meaning() == reading.meaning(),
    };
    if is_as_expected { Ok(reading) } else { Err(format!("from the upstream: {direct:?}\nfrom Keygate: {reading:?}")) }
}

/// Checks a response on both paths.
fn check_both(paths: &[Path; 2], case: &Case) -> Result<(), String> {
    let [fast, proxy] = paths.each_ref().map(|path| check(case, &path.exchange(case)));
    let fast = fast.map_err(|error| format!("the fast path: {error}"))?;
    let proxy = proxy.map_err(|error| format!("the proxy: {error}"))?;
    let is_only_by_proxy = match (&fast, Reading::new(case.method, &case.bytes)) {
        (Reading::Failed(_), Reading::Whole(sent)) => ONLY_BY_PROXY.iter().any(|applies| applies(&sent)),
        _ => false,
    };
    if fast.meaning() == proxy.meaning() || is_only_by_proxy {
        return Ok(());
    }
    Err(format!("the fast path: {fast:?}\nthe proxy: {proxy:?}"))
}

#[test]
fn generated_responses_have_the_same_meaning_for_all_readers() {
    let paths = [Path::start(true), Path::start(false)];
    let result = generated_cases(CASES).run(&case(), |case| {
        let shown = case.bytes[..case.bytes.len().min(2_000)].escape_ascii();
        let fail = |error| TestCaseError::fail(format!("{} {shown}\n{error}", case.method));
        check_both(&paths, &case).map_err(fail)
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

#[test]
fn response_with_another_transfer_coding_is_passed_on_by_neither_path() {
    let paths = [Path::start(true), Path::start(false)];
    for coding in ["identity", "gzip, chunked", "xchunked", "chunked, gzip", "chunked\r\nTransfer-Encoding: chunked"] {
        let bytes = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: {coding}\r\n\r\n2\r\nhi\r\n0\r\n\r\n").into_bytes();
        let case = Case { method: "GET", bytes, piece: usize::MAX };
        for path in &paths {
            let reading = Reading::new("GET", &path.exchange(&case));
            assert_eq!(reading, Reading::Failed("502 by Keygate".to_owned()), "{coding}");
        }
    }
}
