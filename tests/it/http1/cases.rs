//! One table of raw requests: the statuses of the answers, and what the upstream receives.

use serde_json::{Value, json};

use super::{Gateway, start, statuses};
use crate::support::listeners::ListenerKind;
use crate::support::raw_upstream::RawUpstream;

/// A request, the statuses of its answers, and the summaries of the requests that the upstream receives.
pub(super) struct Case {
    pub(super) raw: Vec<u8>,
    statuses: Vec<u16>,
    forwarded: Vec<String>,
}

fn case(raw: impl AsRef<[u8]>, statuses: &[u16], forwarded: &[&str]) -> Case {
    let forwarded = forwarded.iter().map(|text| (*text).to_owned()).collect();
    Case { raw: raw.as_ref().to_vec(), statuses: statuses.to_vec(), forwarded }
}

/// A request that is refused, and nothing after it is read.
fn refused(status: u16, raw: impl AsRef<[u8]>) -> Case {
    let smuggled = b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";
    case([raw.as_ref(), smuggled].concat(), &[status], &[])
}

/// A request head with these lines and `Host`.
fn get(lines: &[&str]) -> String {
    with_line("GET /a HTTP/1.1", &[&["Host: h"], lines].concat())
}

fn with_line(line: &str, lines: &[&str]) -> String {
    [&[line], lines, &["", ""]].concat().join("\r\n")
}

fn post(lines: &[&str], body: &str) -> String {
    format!("{}{body}", with_line("POST /a HTTP/1.1", &[&["Host: h", "Connection: close"], lines].concat()))
}

fn request_lines() -> Vec<Case> {
    let line = |line: &str| with_line(line, &["Host: h"]);
    let mut cases = vec![
        case(
            with_line("GET /a?b=c%20d&e=/f HTTP/1.1", &["Host: h", "Connection: close"]),
            &[200],
            &["GET /a?b=c%20d&e=/f"],
        ),
        case(with_line("GET http://h/a HTTP/1.1", &["Host: h", "Connection: close"]), &[200], &["GET /a"]),
        case(with_line("GET HTTP://H:80/a HTTP/1.1", &["Host: h:80", "Connection: close"]), &[200], &["GET /a"]),
        case(with_line("GET http://h HTTP/1.1", &["Host: h", "Connection: close"]), &[200], &["GET /"]),
        case(with_line("GET http://h?q HTTP/1.1", &["Host: h", "Connection: close"]), &[200], &["GET /?q"]),
        case(with_line("PURGE /a HTTP/1.1", &["Host: h", "Connection: close"]), &[200], &["PURGE /a"]),
        case(with_line("get /a HTTP/1.1", &["Host: h", "Connection: close"]), &[200], &["get /a"]),
        case(format!("\r\n{}", with_line("GET /a HTTP/1.1", &["Host: h", "Connection: close"])), &[200], &["GET /a"]),
        case("GET /a HTTP/1.0\r\n\r\n", &[200], &["GET /a"]),
        case("GET /a HTTP/1.0\r\nHost: h\r\n\r\n", &[200], &["GET /a"]),
        case("HEAD /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", &[200], &["HEAD /a"]),
        case("GET /%zz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", &[404], &[]),
        refused(505, line("GET /a HTTP/2.0")),
        refused(505, line("GET /a HTTP/1.2")),
        refused(505, line("GET /a HTTP/0.9")),
        refused(505, line("GET /a HTTP/3.0")),
        refused(405, line("CONNECT h:443 HTTP/1.1")),
        refused(405, line("CONNECT /a HTTP/1.1")),
        refused(405, line("TRACE /a HTTP/1.1")),
        refused(414, line(&format!("GET /{} HTTP/1.1", "a".repeat(9000)))),
        refused(414, format!("GET /{}", "a".repeat(40_000))),
        refused(414, "a".repeat(40_000)),
    ];
    cases.extend(
        [
            "GET",
            "GET /a",
            "GET /a ",
            "GET  /a HTTP/1.1",
            "GET /a  HTTP/1.1",
            "GET\t/a\tHTTP/1.1",
            " GET /a HTTP/1.1",
            "GET /a HTTP/1.1 ",
            "GET /a b HTTP/1.1",
            "GET /a#b HTTP/1.1",
            "GET #a HTTP/1.1",
            "GET a HTTP/1.1",
            "GET * HTTP/1.1",
            "POST * HTTP/1.1",
            "GET h:80 HTTP/1.1",
            "GET ftp://h/a HTTP/1.1",
            "GET http:/h/a HTTP/1.1",
            "GET http:///a HTTP/1.1",
            "GET http://u@h/a HTTP/1.1",
            "GET http://h:x/a HTTP/1.1",
            "GET http://other/a HTTP/1.1",
            "GET http://h:80/a HTTP/1.1",
            "GET //h\\a HTTP/1.1\u{7f}",
            "GET /a http/1.1",
            "GET /a HTTP/1",
            "GET /a HTTP/11",
            "GET /a HTTP/1.10",
            "GET /a HTTP/ 1.1",
            "GET /a HTTP/a.b",
            "GET /a HTTPS/1.1",
            "G(T /a HTTP/1.1",
            "GET: /a HTTP/1.1",
            "G\u{e9}T /a HTTP/1.1",
            "GET /\u{e9} HTTP/1.1",
            "GET /\u{0} HTTP/1.1",
            "GET /\u{7f} HTTP/1.1",
            "GET /a\u{b}HTTP/1.1",
            "GET /a HTTP/1.1\u{0}",
            "{\"a\":1}",
            "\u{16}\u{3}\u{1}",
        ]
        .iter()
        .map(|text| refused(400, line(text))),
    );
    cases.extend([refused(400, "\n"), refused(400, "\r\n\r\n"), refused(400, "GET /a HTTP/1.1\nHost: h\n\n")]);
    cases
}

fn fields() -> Vec<Case> {
    let many: Vec<String> = (0..120).map(|index| format!("X-{index}: y")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let large = format!("X: {}", "y".repeat(33_000));
    let mut cases = vec![
        refused(431, get(&many)),
        refused(431, get(&[&large])),
        refused(431, format!("GET /a HTTP/1.1\r\nHost: h\r\nX: {}", "y".repeat(1_000_000))),
        refused(400, with_line("GET /a HTTP/1.1", &[])),
        refused(400, with_line("GET /a HTTP/1.1", &["X-Host: h"])),
        refused(400, get(&["Host: h"])),
        refused(400, get(&["host: other"])),
        refused(400, "GET /a HTTP/1.1\r\nHost: h\nX: y\r\n\r\n"),
        refused(400, "GET /a HTTP/1.1\r\nHost: h\r\nX: y\n\r\n"),
        refused(400, "GET /a HTTP/1.1\r\nHost: h\r\n\n"),
        refused(400, "GET /a HTTP/1.1\r\n Host: h\r\n\r\n"),
        refused(400, "GET /a HTTP/1.1\r\n\tHost: h\r\n\r\n"),
    ];
    cases.extend(
        [
            "a b", "a,b", "a@b", "a/b", "a?b", "a#b", "a\\b", "h:", "h:x", "h:999999", "[::1", "::1]", "[]", "[g::1]",
            "\u{e9}", "a\u{0}", "<a>", "\"a\"",
        ]
        .iter()
        .filter(|host| **host != "h:")
        .map(|host| refused(400, with_line("GET /a HTTP/1.1", &[&format!("Host: {host}")]))),
    );
    cases.extend(
        ["a", "A.Example.Com", "a.example.com:8080", "127.0.0.1", "[::1]", "[::1]:80", "a_b", "xn--nxasmq6b", ""]
            .iter()
            .map(|host| {
                case(
                    with_line("GET /a HTTP/1.1", &[&format!("Host: {host}"), "Connection: close"]),
                    &[200],
                    &["GET /a"],
                )
            }),
    );
    cases.extend(
        [
            "X : y",
            "X\t: y",
            " X: y",
            "X",
            ": y",
            "",
            "X(: y",
            "X@: y",
            "\u{e9}: y",
            "X\u{0}: y",
            "X: y\u{0}",
            "X: \u{1}",
            "X: y\rz",
            "X: y\r",
            "X: \u{7f}",
            "X: a\r\n b",
            "X: a\r\n\tb",
            "X:\r\n b",
            "Content-Length : 5",
            "Transfer-Encoding : chunked",
            "Host : h",
            "X/Y: z",
            "\"X\": y",
            "X;Y: z",
            "X=Y",
            "GET /b HTTP/1.1",
        ]
        .iter()
        .filter(|line| !line.is_empty())
        .map(|line| refused(400, get(&[line]))),
    );
    cases
}

fn framing() -> Vec<Case> {
    vec![
        case(post(&["Content-Length: 2"], "hi"), &[200], &["POST /a hi"]),
        case(post(&["Content-Length: 2, 2"], "hi"), &[200], &["POST /a hi"]),
        case(post(&["Content-Length: 2", "content-length: 02"], "hi"), &[200], &["POST /a hi"]),
        case(post(&["Content-Length: 0"], ""), &[200], &["POST /a"]),
        case(post(&[], ""), &[200], &["POST /a"]),
        case(post(&["Transfer-Encoding: chunked"], "2\r\nhi\r\n0\r\n\r\n"), &[200], &["POST /a hi"]),
        case(post(&["transfer-encoding: Chunked"], "02\r\nhi\r\n000\r\n\r\n"), &[200], &["POST /a hi"]),
        case(post(&["Transfer-Encoding:\tchunked  "], "2;a=b;c\r\nhi\r\n0;d\r\nT: u\r\n\r\n"), &[200], &["POST /a hi"]),
        case(
            post(&["Transfer-Encoding: chunked", "Trailer: T"], "a\r\n0123456789\r\n0\r\nT: 1\r\nU: 2\r\n\r\n"),
            &[200],
            &["POST /a 0123456789"],
        ),
        case(post(&["Transfer-Encoding: chunked"], "0\r\n\r\n"), &[200], &["POST /a"]),
        case(post(&["Transfer-Encoding: chunked"], "0\r\n\tfolded\r\n\r\n"), &[200], &["POST /a"]),
        case(
            with_line("GET /a HTTP/1.1", &["Host: h", "Content-Length: 2", "Connection: close"]) + "hi",
            &[200],
            &["GET /a hi"],
        ),
        // Two requests: the second begins where the first body ends.
        case(
            format!(
                "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 41\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: smuggle\r\n\r\n{}",
                get(&["Connection: close"])
            ),
            &[200, 200],
            &["POST /a GET /smuggled HTTP/1.1\r\nHost: smuggle", "GET /a"],
        ),
        refused(400, "POST /a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        refused(400, "POST /a HTTP/1.0\r\nHost: h\r\nContent-Length: 1, 2\r\n\r\nab"),
    ]
}

/// Framing that is malformed or ambiguous.
fn wrong_framing() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(
        [
            "+2",
            "-2",
            "2.0",
            "2e0",
            "0x2",
            "2 2",
            "2;",
            "2,",
            ",2",
            "2,3",
            "2, 3",
            "two",
            "",
            "\"2\"",
            "18446744073709551616",
            "99999999999999999999",
            "2\u{b}",
            "2\u{a0}",
            "\u{ff12}",
            "2\t2",
        ]
        .iter()
        .map(|value| refused(400, post(&[&format!("Content-Length: {value}")], "hi"))),
    );
    cases.extend(
        [
            &["Content-Length: 2", "Content-Length: 3"][..],
            &["Content-Length: 3", "Content-Length: 2"],
            &["Content-Length: 2", "Content-Length: +2"],
            &["Content-Length: 2", "Transfer-Encoding: chunked"],
            &["Transfer-Encoding: chunked", "Content-Length: 2"],
            &["Transfer-Encoding: chunked", "Content-Length: 0"],
            &["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
            &["Transfer-Encoding: chunked", "Transfer-Encoding: identity"],
            &["Transfer-Encoding: identity"],
            &["Transfer-Encoding: gzip"],
            &["Transfer-Encoding: gzip, chunked"],
            &["Transfer-Encoding: chunked, gzip"],
            &["Transfer-Encoding: chunked, chunked"],
            &["Transfer-Encoding: chunked,"],
            &["Transfer-Encoding: ,chunked"],
            &["Transfer-Encoding: chunked;q=1"],
            &["Transfer-Encoding: xchunked"],
            &["Transfer-Encoding: \"chunked\""],
            &["Transfer-Encoding: \u{b}chunked"],
            &["Transfer-Encoding: \u{a0}chunked"],
            &["Transfer-Encoding:"],
        ]
        .iter()
        .map(|lines| refused(400, post(lines, "0\r\n\r\n"))),
    );
    cases
}

fn wrong_chunks() -> Vec<Case> {
    let extension = format!("2;{}\r\nhi\r\n0\r\n\r\n", "x".repeat(5000));
    [
        "zz\r\n",
        "\r\n",
        "+2\r\nhi\r\n",
        "-1\r\n",
        "0x2\r\nhi\r\n",
        " 2\r\nhi\r\n",
        "2 \r\nhi\r\n",
        "2\nhi\r\n",
        "2\r\nhiX",
        "2\r\nhi\n0\r\n\r\n",
        "2;a\nb\r\nhi\r\n",
        "2;\u{0}\r\nhi\r\n",
        "10000000000000000\r\n",
        "fffffffffffffffff\r\n",
        "0\r\n\n",
        "0\r\nT: a\nU: b\r\n\r\n",
        "0\r\nT: \u{0}\r\n\r\n",
        &extension,
    ]
    .iter()
    .map(|body| refused(400, post(&["Transfer-Encoding: chunked"], body)))
    .collect()
}

/// The whole table.
pub(super) fn all() -> Vec<Case> {
    [request_lines(), fields(), framing(), wrong_framing(), wrong_chunks()].into_iter().flatten().collect()
}

fn check(gateway: &Gateway, kind: ListenerKind, upstream: &RawUpstream, case: &Case) {
    let shown = String::from_utf8_lossy(&case.raw[..case.raw.len().min(200)]).into_owned();
    let response = gateway.send(kind, &case.raw);
    assert_eq!(statuses(&response), case.statuses, "{shown:?}");
    let received = upstream.take_summaries();
    assert_eq!(received, case.forwarded, "{shown:?}");
    if case.forwarded.is_empty() {
        let text = String::from_utf8_lossy(&response).to_ascii_lowercase();
        assert!(text.contains("content-type: application/problem+json\r\n"), "{text}");
        assert!(text.contains("connection: close\r\n") && text.contains("\r\nx-request-id: "), "{text}");
        assert!(!text.contains("pingora"), "{text}");
    }
}

#[tokio::test]
async fn each_raw_request_has_its_answer_and_its_effect() {
    let upstream = RawUpstream::start();
    let mut gateway = start(&upstream, &json!({}));
    let cases = all();
    assert!(cases.len() >= 150, "{} cases", cases.len());
    for kind in ListenerKind::each() {
        for case in &cases {
            check(&gateway, kind, &upstream, case);
        }
    }
    let refused = cases.iter().filter(|case| case.forwarded.is_empty()).count() * ListenerKind::ALL.len();
    let unrefused = gateway.requests("denial=\"\"").await;
    assert_eq!(gateway.requests("").await - unrefused, refused as u64);
    let log = gateway.keygate.whole_log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let logged = lines.filter(|line| line["fields"]["denial"].is_string() || line["denial"].is_string()).count();
    assert_eq!(logged, refused, "{log}");
}
