//! Host names in normal form.

use std::borrow::Cow;
use std::net::Ipv6Addr;

/// Normalizes a host: lower case, without port and trailing dot; an IPv6 address in brackets and in its shortest form.
///
/// Returns `None` for text that cannot be a host. An absent host is empty; no route can name it.
pub fn normal_host(host: &str) -> Option<Cow<'_, str>> {
    if let Some(rest) = host.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let address: Ipv6Addr = address.parse().ok()?;
        return is_port(port).then(|| ["[", &address.to_string(), "]"].concat().into());
    }
    // One pass, because every request comes here. `label` is the length of the current label.
    let (mut label, mut is_lower, mut end) = (0_usize, true, host.len());
    for (at, byte) in host.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => label += 1,
            b'A'..=b'Z' => (label, is_lower) = (label + 1, false),
            b'.' if label > 0 => label = 0,
            b':' => {
                end = at;
                break;
            }
            _ => return None,
        }
    }
    let (name, port) = host.split_at(end);
    if !is_port(port) || (name.is_empty() && !host.is_empty()) {
        return None;
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    Some(if is_lower { name.into() } else { name.to_ascii_lowercase().into() })
}

/// Whether the text after a host is a port. RFC 3986 section 3.2.3 allows an empty port, with or without the colon.
fn is_port(text: &str) -> bool {
    text.is_empty()
        || text.strip_prefix(':').is_some_and(|port| port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_normalized() {
        for (host, normal) in [
            ("example.com", Some("example.com")),
            ("EXAMPLE.com.:443", Some("example.com")),
            ("example.com:", Some("example.com")),
            ("127.0.0.1:80", Some("127.0.0.1")),
            ("[::1]", Some("[::1]")),
            ("[0::1]:80", Some("[::1]")),
            ("", Some("")),
        ] {
            assert_eq!(normal_host(host).as_deref(), normal, "{host}");
        }
        for host in
            ["a..", ".", ":80", "a:b", "a:80:90", "a:123456", "[::1", "[::1]x", "[a.b]", "u@a", "a/b", "é", "::1"]
        {
            assert_eq!(normal_host(host), None, "{host}");
        }
    }
}
