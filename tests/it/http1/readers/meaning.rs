//! The meaning of a request: what an intermediary must not change (RFC 9110 sections 4.2.3 and 7.6.1).

use http::Uri;
use keygate_test_servers::ReadRequest;

/// Fields of the connection and of the framing, and those that Keygate sets.
const EDITED: [&str; 16] = [
    "connection",
    "content-length",
    "expect",
    "forwarded",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-api-key",
    "authorization",
    "x-request-id",
];
const EDITED_PREFIXES: [&str; 2] = ["x-forwarded-", "x-keygate-"];

/// Whether a request that an upstream has read is the one that a client has sent.
pub(super) fn has_meaning(received: &ReadRequest, sent: &ReadRequest) -> bool {
    let (mut received, mut sent) = (meaning(received), meaning(sent));
    // Keygate sets `Host` to the name of the upstream if the request has no host.
    if !sent.fields.iter().any(|(name, value)| name == "host" && !value.is_empty()) {
        for request in [&mut received, &mut sent] {
            request.fields.retain(|(name, _)| name != "host");
        }
    }
    received == sent
}

/// A request without what belongs to its connection, and with the normal form of its target.
fn meaning(request: &ReadRequest) -> ReadRequest {
    let options = request.fields.iter().filter(|(name, _)| name == "connection");
    let options = options.flat_map(|(_, value)| value.split(|byte| *byte == b','));
    let named = options.map(|option| String::from_utf8_lossy(option).trim().to_ascii_lowercase());
    let named: Vec<String> = named.filter(|name| name != "host").collect();
    let is_kept = |name: &String| {
        !EDITED.contains(&name.as_str())
            && !EDITED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
            && !named.contains(name)
            // Servers disagree about such names; Keygate removes them.
            && !name.contains(['_', '.'])
    };
    let fields = request.fields.iter().filter(|(name, _)| is_kept(name)).cloned().collect();
    ReadRequest { target: normal_target(request), fields, ..request.clone() }
}

/// The origin form of a target, with a normal path.
fn normal_target(request: &ReadRequest) -> String {
    let Ok(uri) = request.target.parse::<Uri>() else { return request.target.clone() };
    let target = uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
    let (path, query) = target.split_once('?').map_or((&*target, None), |(path, query)| (path, Some(query)));
    // `OPTIONS http://host` means `*`; the parsed form of the target no longer tells it from `OPTIONS http://host/`.
    let path = if path == "*" && request.method == "OPTIONS" { "/".to_owned() } else { normal_path(path) };
    query.map_or(path.clone(), |query| format!("{path}?{query}"))
}

/// A path without empty segments and dot segments, and with the characters that need no escape.
fn normal_path(path: &str) -> String {
    let decoded = decoded(path);
    let mut segments: Vec<&str> = Vec::new();
    let mut ends_with_slash = false;
    for segment in decoded.split('/').skip(1) {
        ends_with_slash = matches!(segment, "" | "." | "..");
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            other => segments.push(other),
        }
    }
    let end = if ends_with_slash && !segments.is_empty() { "/" } else { "" };
    format!("/{}{end}", segments.join("/"))
}

fn decoded(path: &str) -> String {
    let mut text = String::new();
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        text.push_str(&rest[..at]);
        let escape = rest.get(at..at + 3).unwrap_or(&rest[at..=at]);
        match escape.get(1..).and_then(|digits| u8::from_str_radix(digits, 16).ok()).map(char::from) {
            Some(plain) if plain.is_ascii_alphanumeric() || "-._~".contains(plain) => text.push(plain),
            _ => text.push_str(&escape.to_ascii_uppercase()),
        }
        rest = &rest[at + escape.len()..];
    }
    text + rest
}
