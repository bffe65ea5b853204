//! What trusted proxies say about a request: the client's address, its scheme and its host (`X-Forwarded-*`, and `Forwarded` of
//! RFC 7239).
//!
//! Every list is read from the right, because each proxy appends: only what a trusted proxy wrote is read, and nothing that a client
//! put to the left of it changes how that is read. The caller decides whether the sender of the request is a trusted proxy.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::HeaderName;
use http::header::FORWARDED;
use smallvec::SmallVec;

use super::fields::{Fields, text};
use crate::cidr::CidrSet;

/// `X-Forwarded-For`.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// `X-Forwarded-Proto`.
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// `X-Forwarded-Host`.
pub const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// The scheme of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Clear text.
    Http,
    /// TLS.
    Https,
}

impl Scheme {
    /// The name in URLs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// The addresses that a request came through, as far as trusted proxies say it: first `proxy`, which sent the request, and last the
/// client. A proxy at a Unix socket has no address. IPv4 addresses in IPv6 are IPv4 addresses.
///
/// They are the entries of all `X-Forwarded-For` fields from the right, or those of `Forwarded` if there is no `X-Forwarded-For`. The first
/// address that is not trusted is the client. An entry that cannot be read ends the list.
pub fn addresses<F: Fields>(fields: &F, proxy: Option<IpAddr>, trusted: &CidrSet) -> impl Iterator<Item = IpAddr> {
    let is_list = fields.has_field(&X_FORWARDED_FOR);
    let name = if is_list { X_FORWARDED_FOR } else { FORWARDED };
    let mut entries = entries(fields, &name);
    let mut named = move || {
        let entry = entries.next()?;
        node_address(if is_list { entry } else { parameter(entry, "for")? })
    };
    let first = proxy.map(|proxy| proxy.to_canonical()).or_else(&mut named);
    std::iter::successors(first, move |address| if trusted.contains(*address) { named() } else { None })
}

/// The scheme that a trusted proxy names: the last value of `X-Forwarded-Proto`, or `proto` of the last element of `Forwarded`. `None` if it
/// names none, or one that is unknown.
pub fn scheme<F: Fields>(fields: &F) -> Option<Scheme> {
    let named = last_named(fields, &X_FORWARDED_PROTO, "proto")?;
    let is = |names: [&[u8]; 2]| names.iter().any(|name| named.eq_ignore_ascii_case(name));
    // Some proxies name the scheme of a WebSocket.
    match named {
        _ if is([b"https", b"wss"]) => Some(Scheme::Https),
        _ if is([b"http", b"ws"]) => Some(Scheme::Http),
        _ => None,
    }
}

/// The host that a trusted proxy says the client requested: the last value of `X-Forwarded-Host`, or `host` of the last element of
/// `Forwarded`. `None` if it names none, or text that cannot be a host.
pub fn host<F: Fields>(fields: &F) -> Option<&str> {
    let host = last_named(fields, &X_FORWARDED_HOST, "host").and_then(text)?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:[]%".contains(&byte);
    (!host.is_empty() && host.bytes().all(is_plain)).then_some(host)
}

/// The last entry of a list field: the one that the sender of the request appended.
pub fn last_entry<'f, F: Fields>(fields: &'f F, name: &HeaderName) -> Option<&'f [u8]> {
    entries(fields, name).next()
}

/// The address in the identifier of a node (RFC 7239 section 6), without its port: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`,
/// `[2001:db8::1]`, `[2001:db8::1]:80`. `None` for other text, such as `unknown`.
pub fn node_address(identifier: &[u8]) -> Option<IpAddr> {
    let identifier = std::str::from_utf8(identifier).ok()?;
    let address = match identifier.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().ok()?.into(),
        None => match identifier.parse() {
            Ok(address) => address,
            Err(_) => identifier.parse::<SocketAddr>().ok()?.ip(),
        },
    };
    Some(address.to_canonical())
}

/// The last entry of a field, or a parameter of the last element of `Forwarded`. A proxy that sends `X-Forwarded-For` does not write
/// `Forwarded`, so that one may be the client's.
fn last_named<'f, F: Fields>(fields: &'f F, name: &HeaderName, in_forwarded: &str) -> Option<&'f [u8]> {
    match last_entry(fields, name) {
        None if !fields.has_field(&X_FORWARDED_FOR) => parameter(last_entry(fields, &FORWARDED)?, in_forwarded),
        entry => entry,
    }
}

/// The entries of all fields with this name as one list (RFC 9110 section 5.3), from the right.
fn entries<'f, F: Fields>(fields: &'f F, name: &HeaderName) -> impl Iterator<Item = &'f [u8]> + use<'f, F> {
    let values: SmallVec<[&[u8]; 4]> = fields.field_values(name).collect();
    values.into_iter().rev().flat_map(|value| split_from_right(value, b','))
}

/// The value of a parameter of a forwarded-element (RFC 7239 section 4), without quotes. `None` if it is absent, occurs twice or has an
/// escape, which no value that is read here needs.
fn parameter<'e>(element: &'e [u8], name: &str) -> Option<&'e [u8]> {
    let mut values = split_from_right(element, b';').filter_map(|pair| {
        let (found, value) = pair.split_at(pair.iter().position(|byte| *byte == b'=')?);
        found.trim_ascii().eq_ignore_ascii_case(name.as_bytes()).then(|| value[1..].trim_ascii())
    });
    let value = values.next().filter(|_| values.next().is_none())?;
    let bare = if let [b'"', inner @ .., b'"'] = value { inner } else { value };
    (!bare.iter().any(|byte| matches!(byte, b'"' | b'\\'))).then_some(bare)
}

/// The parts of a text between delimiters outside quotes (RFC 9110 section 5.6.4), from the right. How a part is read does not depend on
/// what is left of it.
fn split_from_right(text: &[u8], delimiter: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let mut is_quoted = false;
        let found = text.iter().enumerate().rev().find(|(at, byte)| {
            is_quoted ^= **byte == b'"' && !is_escaped(&text[..*at]);
            **byte == delimiter && !is_quoted
        });
        let (left, part) = match found {
            Some((at, _)) => (Some(&text[..at]), &text[at + 1..]),
            None => (None, text),
        };
        rest = left;
        Some(part.trim_ascii())
    })
}

/// Whether the character after a text is escaped: it follows an odd number of backslashes.
fn is_escaped(before: &[u8]) -> bool {
    before.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

#[cfg(test)]
mod tests {
    use http::header::HOST;
    use proptest::prelude::*;

    use super::*;
    use crate::wire::fields::FieldList;

    const PROXY: &str = "10.0.0.1";

    fn trusted() -> CidrSet {
        CidrSet::parse(&["10.0.0.0/8", "2001:db8:aa::/48"]).unwrap()
    }

    /// The addresses after the proxy's, separated by blanks.
    fn read(fields: &[(&str, &[u8])]) -> String {
        let (fields, trusted) = (FieldList(fields), trusted());
        let at_socket: Vec<_> = addresses(&fields, None, &trusted).collect();
        let addresses = addresses(&fields, PROXY.parse().ok(), &trusted);
        let addresses: Vec<_> = addresses.collect();
        assert_eq!((addresses[0].to_string().as_str(), &addresses[1..]), (PROXY, &*at_socket));
        let named: Vec<_> = at_socket.iter().map(ToString::to_string).collect();
        named.join(" ")
    }

    fn x_forwarded_for(values: &[&[u8]]) -> String {
        let fields: Vec<_> = values.iter().map(|value| ("X-Forwarded-For", *value)).collect();
        read(&fields)
    }

    fn forwarded(value: &str) -> String {
        read(&[("forwarded", value.as_bytes())])
    }

    #[test]
    fn client_is_the_right_most_untrusted_entry() {
        for (values, expected) in [
            (&[&b"192.0.2.1"[..]][..], "192.0.2.1"),
            (&[b"192.0.2.9, 192.0.2.1"], "192.0.2.1"),
            (&[b"192.0.2.9,192.0.2.1 ,\t10.0.0.2"], "10.0.0.2 192.0.2.1"),
            (&[b"192.0.2.9", b"192.0.2.1, 10.0.0.3", b"10.0.0.2"], "10.0.0.2 10.0.0.3 192.0.2.1"),
            (&[b"10.0.0.4, 10.0.0.3"], "10.0.0.3 10.0.0.4"),
            (&[b"2001:db8:aa::1"], "2001:db8:aa::1"),
            (&[b"192.0.2.1, 2001:DB8:AA::1"], "2001:db8:aa::1 192.0.2.1"),
            (&[], ""),
        ] {
            assert_eq!(x_forwarded_for(values), expected, "{values:?}");
        }
    }

    #[test]
    fn entry_that_cannot_be_read_ends_the_search() {
        for junk in
            [&b"unknown"[..], b"_hidden", b"", b" ", b"10.0.0.256", b"[::1", b"a:b", b"\xff", b"\"10.0.0.2\"", b"1"]
        {
            let alone = [junk, b", 192.0.2.1"].concat();
            assert_eq!(x_forwarded_for(&[&alone]), "192.0.2.1", "{junk:?} on the left");
            let right = [b"192.0.2.1, ", junk].concat();
            assert_eq!(x_forwarded_for(&[&right]), "", "{junk:?} on the right");
            let between = [b"192.0.2.1, ", junk, b", 10.0.0.2"].concat();
            assert_eq!(x_forwarded_for(&[&between]), "10.0.0.2", "{junk:?} between");
            assert_eq!(x_forwarded_for(&[b"192.0.2.1", junk]), "", "{junk:?} in the last field");
        }
    }

    #[test]
    fn ports_and_brackets_are_stripped() {
        for (entry, address) in [
            ("192.0.2.1:80", Some("192.0.2.1")),
            ("::ffff:192.0.2.1", Some("192.0.2.1")),
            ("[::ffff:192.0.2.1]:80", Some("192.0.2.1")),
            ("2001:DB8::1", Some("2001:db8::1")),
            ("[2001:db8::1]", Some("2001:db8::1")),
            ("[2001:db8::1]:65535", Some("2001:db8::1")),
            ("192.0.2.1:65536", None),
            ("192.0.2.1:", None),
            ("[192.0.2.1]", None),
            ("192.0.2.1 ", None),
            ("192.0.2", None),
            ("unix:", None),
        ] {
            assert_eq!(
                node_address(entry.as_bytes()).map(|address| address.to_string()).as_deref(),
                address,
                "{entry}"
            );
        }
    }

    #[test]
    fn forwarded_is_read_if_there_is_no_x_forwarded_for() {
        for (value, expected) in [
            ("for=192.0.2.1", "192.0.2.1"),
            ("For=192.0.2.9, FOR = 192.0.2.1;proto=https", "192.0.2.1"),
            (r#"for="[2001:db8::1]:4711";by=10.0.0.1"#, "2001:db8::1"),
            (r#"for=192.0.2.1;host="a,b;for=c", for="10.0.0.2:80""#, "10.0.0.2 192.0.2.1"),
            (r#"for=192.0.2.1;ext="a\",b", for=10.0.0.2"#, "10.0.0.2 192.0.2.1"),
            ("by=10.0.0.1", ""),
            ("for=192.0.2.1, proto=https", ""),
            ("for=192.0.2.1;for=192.0.2.1", ""),
            (r#"for="192.0.2.\1""#, ""),
            (r#"for="192.0.2.1"x"#, ""),
            ("for=unknown", ""),
            ("for=", ""),
            ("for", ""),
            ("", ""),
        ] {
            assert_eq!(forwarded(value), expected, "{value}");
        }
        for value in ["192.0.2.1", "unknown", ""] {
            let fields = [("x-forwarded-for", value.as_bytes()), ("forwarded", b"for=192.0.2.2")];
            assert!(!read(&fields).contains("192.0.2.2"), "{value}");
        }
    }

    #[test]
    fn scheme_and_host_are_those_that_the_last_proxy_names() {
        for (fields, expected) in [
            (&[("x-forwarded-proto", "https")][..], (Some(Scheme::Https), None)),
            (&[("x-forwarded-proto", "https, HTTP")], (Some(Scheme::Http), None)),
            (&[("x-forwarded-proto", "http"), ("x-forwarded-proto", "wss")], (Some(Scheme::Https), None)),
            (&[("x-forwarded-proto", "ftp")], (None, None)),
            (&[("x-forwarded-proto", ""), ("forwarded", "proto=https")], (None, None)),
            (&[("x-forwarded-for", "192.0.2.1"), ("forwarded", "proto=https;host=a")], (None, None)),
            (
                &[("forwarded", r#"proto=http, proto="HTTPS";host="a.example:80""#)],
                (Some(Scheme::Https), Some("a.example:80")),
            ),
            (&[("x-forwarded-host", "evil, [2001:db8::1]:80")], (None, Some("[2001:db8::1]:80"))),
            (&[("x-forwarded-host", "a b")], (None, None)),
            (&[("x-forwarded-host", "a/b")], (None, None)),
            (&[("x-forwarded-host", "a,")], (None, None)),
            (&[("host", "a")], (None, None)),
        ] {
            let list: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
            let list = FieldList(&list);
            assert_eq!((scheme(&list), host(&list)), expected, "{fields:?}");
            assert_eq!(last_entry(&list, &HOST).is_some(), fields[0].0 == "host");
        }
    }

    proptest! {
        /// What a client sends on the left never changes what the proxies wrote on the right.
        #[test]
        fn forged_entries_change_nothing(
            forged in r#"[0-9a-f.:,;="\\\[\] for]{0,40}"#,
            client in any::<IpAddr>(),
            hops in proptest::collection::vec(0_u8..=255, 0..4),
            in_one_field in any::<bool>(),
        ) {
            prop_assume!(!trusted().contains(client));
            let hops = hops.into_iter().map(|last| IpAddr::from([10, 9, 8, last]));
            let chain: Vec<_> = std::iter::once(client).chain(hops).collect();
            let expected: Vec<_> = chain.iter().rev().map(|address| address.to_canonical().to_string()).collect();
            for (name, element) in [("x-forwarded-for", ""), ("forwarded", "for=")] {
                let written = |address: &IpAddr| match address {
                    IpAddr::V6(address) if name == "forwarded" => format!("for=\"[{address}]:80\""),
                    address => format!("{element}{address}"),
                };
                let ours = chain.iter().map(written).collect::<Vec<_>>().join(", ");
                let values = if in_one_field { vec![format!("{forged}, {ours}")] } else { vec![forged.clone(), ours] };
                let fields: Vec<_> = values.iter().map(|value| (name, value.as_bytes())).collect();
                prop_assert_eq!(read(&fields), expected.join(" "), "{:?}", fields);
            }
        }

        #[test]
        fn any_value_is_read_without_panic(values in proptest::collection::vec(any::<Vec<u8>>(), 0..4)) {
            for name in ["x-forwarded-for", "forwarded", "x-forwarded-proto", "x-forwarded-host"] {
                let fields: Vec<_> = values.iter().map(|value| (name, &**value)).collect();
                let fields = FieldList(&fields);
                let _ = (scheme(&fields), host(&fields), addresses(&fields, PROXY.parse().ok(), &trusted()).count());
            }
        }
    }
}
