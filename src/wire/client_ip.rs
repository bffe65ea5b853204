//! The address of a caller (contract, credentials section 11).

use std::net::IpAddr;

use http::HeaderMap;

use crate::config::ClientIpSource;

/// The headers that a configuration can name as the source of the address.
pub const ADDRESS_HEADERS: [&str; 4] = ["cf-connecting-ip", "x-forwarded-for", "x-real-ip", "true-client-ip"];

/// Reads the address from where the configuration says, the TCP peer's when the header is absent or empty. A header that
/// holds no address gives none: then a key that is bound to addresses is refused.
///
/// An IPv4 address is one in either spelling, `192.0.2.1` or `::ffff:192.0.2.1`.
pub fn client_ip(source: ClientIpSource, peer: Option<IpAddr>, headers: &HeaderMap) -> Option<IpAddr> {
    let named = header(source).and_then(|name| headers.get(name)).map(|value| value.as_bytes().trim_ascii());
    let address = match named {
        None | Some([]) => peer?,
        Some(text) => {
            // The leftmost entry is whom the first proxy saw.
            let list = source == ClientIpSource::XForwardedFor;
            let entry = if list { text.split(|byte| *byte == b',').next()? } else { text };
            std::str::from_utf8(entry.trim_ascii()).ok()?.parse().ok()?
        }
    };
    Some(address.to_canonical())
}

fn header(source: ClientIpSource) -> Option<&'static str> {
    match source {
        ClientIpSource::Unspecified | ClientIpSource::RemoteAddr => None,
        ClientIpSource::CfConnectingIp => Some("cf-connecting-ip"),
        ClientIpSource::XForwardedFor => Some("x-forwarded-for"),
        ClientIpSource::XRealIp => Some("x-real-ip"),
        ClientIpSource::TrueClientIp => Some("true-client-ip"),
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    fn read(source: ClientIpSource, peer: Option<&str>, pairs: &[(&'static str, &[u8])]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap());
        }
        let peer = peer.map(|peer| peer.parse().unwrap());
        client_ip(source, peer, &headers).map(|address| address.to_string())
    }

    const NAMED: [(ClientIpSource, &str); 4] = [
        (ClientIpSource::CfConnectingIp, "cf-connecting-ip"),
        (ClientIpSource::XForwardedFor, "x-forwarded-for"),
        (ClientIpSource::XRealIp, "x-real-ip"),
        (ClientIpSource::TrueClientIp, "true-client-ip"),
    ];

    #[test]
    fn each_source_reads_its_own_header_only() {
        for (source, name) in NAMED {
            for (_, given) in NAMED {
                let expected = if given == name { "10.0.0.1" } else { "192.0.2.1" };
                assert_eq!(read(source, Some("192.0.2.1"), &[(given, b"10.0.0.1")]).as_deref(), Some(expected));
            }
        }
        for source in [ClientIpSource::Unspecified, ClientIpSource::RemoteAddr] {
            let all: Vec<_> = NAMED.iter().map(|(_, name)| (*name, b"10.0.0.1".as_slice())).collect();
            assert_eq!(read(source, Some("192.0.2.1"), &all).as_deref(), Some("192.0.2.1"));
        }
    }

    #[test]
    fn an_absent_or_empty_header_leaves_the_peer() {
        for (source, name) in NAMED {
            for pairs in [&[][..], &[(name, &b""[..])], &[(name, b"  ")]] {
                assert_eq!(read(source, Some("::ffff:192.0.2.1"), pairs).as_deref(), Some("192.0.2.1"));
                assert_eq!(read(source, None, pairs), None);
            }
        }
    }

    #[test]
    fn a_header_without_an_address_gives_none() {
        for (source, name) in NAMED {
            for value in [&b"nonsense"[..], b"10.0.0.1:80", b"[::1]", b"10.0.0.256", b", 10.0.0.1", b"\xff"] {
                assert_eq!(read(source, Some("192.0.2.1"), &[(name, value)]), None);
            }
        }
        assert_eq!(read(ClientIpSource::XRealIp, Some("192.0.2.1"), &[("x-real-ip", b"10.0.0.1, 10.0.0.2")]), None);
    }

    #[test]
    fn the_leftmost_entry_of_the_first_list_counts() {
        let lists: [(&str, &[u8]); 2] =
            [("x-forwarded-for", b" ::ffff:10.0.0.3 , 10.0.0.4"), ("x-forwarded-for", b"10.0.0.5")];
        assert_eq!(read(ClientIpSource::XForwardedFor, None, &lists).as_deref(), Some("10.0.0.3"));
        assert_eq!(
            read(ClientIpSource::XRealIp, None, &[("x-real-ip", b"2001:DB8:0::1")]).as_deref(),
            Some("2001:db8::1")
        );
    }

    proptest! {
        #[test]
        fn any_address_is_read_back(address in any::<IpAddr>(), which in 0..NAMED.len()) {
            let (source, name) = NAMED[which];
            let given = address.to_string();
            prop_assert_eq!(read(source, None, &[(name, given.as_bytes())]), Some(address.to_canonical().to_string()));
        }
    }
}
