//! Heads of responses of HTTP/1.1: what a client gets has one meaning, the same as that of the upstream.

use http::Method;
use keygate::gateway::{TranslatedResponse, translate_response};

/// A head that is passed on reads as the same response, however it is read again; and its framing is written once.
pub fn http1_response(bytes: &[u8]) {
    for method in [Method::GET, Method::HEAD] {
        for closes in [false, true] {
            if let Some(response) = translate_response(bytes, &method, closes) {
                check(&response, &method, closes);
                check_prefixes(bytes, &response, &method);
            }
        }
    }
}

fn check(response: &TranslatedResponse, method: &Method, closes: bool) {
    let head = response.head.strip_suffix(b"\r\n\r\n").expect("an empty line ends a head");
    let text = String::from_utf8_lossy(head);
    let lines: Vec<&str> = text.split("\r\n").collect();
    for line in &lines {
        assert!(!line.contains(['\r', '\n', '\0']), "{response:?}");
    }
    assert!(lines[0].starts_with(&format!("HTTP/1.1 {} ", response.status.as_str())), "{response:?}");
    let values = |wanted: &str| -> Vec<&str> {
        let fields = lines[1..].iter().filter_map(|line| line.split_once(": "));
        fields.filter(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value).collect()
    };
    let (lengths, codings) = (values("content-length"), values("transfer-encoding"));
    assert!(lengths.len() + codings.len() <= 1, "{response:?}");
    assert_eq!(codings == ["chunked"], response.is_chunked, "{response:?}");
    match response.body {
        // A response without a body may have the length of what a GET would return.
        Some(0) => {}
        Some(length) => assert_eq!(lengths, [length.to_string()], "{response:?}"),
        None => assert!(lengths.is_empty(), "{response:?}"),
    }
    if !response.status.is_informational() {
        assert_eq!(values("connection").contains(&"close"), closes, "{response:?}");
        assert!(!values("date").is_empty(), "{response:?}");
    }
    // A client that reads it as the gateway reads responses of upstreams understands the same.
    let again = translate_response(&response.head, method, closes).expect("it is valid");
    let meaning = |response: &TranslatedResponse| (response.status, response.body, response.is_chunked);
    assert_eq!(meaning(&again), meaning(response));
}

/// A part of a head is no head.
fn check_prefixes(bytes: &[u8], response: &TranslatedResponse, method: &Method) {
    for end in [response.length / 2, response.length - 1] {
        assert_eq!(translate_response(&bytes[..end], method, false), None);
    }
}
