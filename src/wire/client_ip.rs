//! The address of a caller (contract, credentials section 11).

use std::net::IpAddr;

use http::HeaderMap;

use crate::config::ClientIpSource;

/// Reads the address from where the configuration says, the TCP peer when the header is absent or empty. A header that
/// holds no address gives none: then a key that is bound to addresses is refused.
pub fn client_ip(source: ClientIpSource, peer: Option<IpAddr>, headers: &HeaderMap) -> Option<IpAddr> {
    let name = match source {
        ClientIpSource::Unspecified | ClientIpSource::RemoteAddr => return peer,
        ClientIpSource::CfConnectingIp => "cf-connecting-ip",
        ClientIpSource::XForwardedFor => "x-forwarded-for",
        ClientIpSource::XRealIp => "x-real-ip",
        ClientIpSource::TrueClientIp => "true-client-ip",
    };
    let Some(value) = headers.get(name).filter(|value| !value.is_empty()) else {
        return peer;
    };
    let text = value.to_str().ok()?;
    let first = if source == ClientIpSource::XForwardedFor { text.split(',').next()? } else { text };
    first.trim().parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_source_decides() {
        let peer: Option<IpAddr> = "192.0.2.1".parse().ok();
        let read = |source, name: &'static str, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            client_ip(source, peer, &headers).map(|address| address.to_string())
        };
        let by_peer = Some("192.0.2.1".to_owned());
        assert_eq!(read(ClientIpSource::Unspecified, "x-real-ip", "10.0.0.1"), by_peer);
        assert_eq!(read(ClientIpSource::XRealIp, "x-real-ip", "::ffff:10.0.0.1"), Some("10.0.0.1".into()));
        assert_eq!(read(ClientIpSource::XRealIp, "true-client-ip", "10.0.0.1"), by_peer);
        assert_eq!(read(ClientIpSource::XRealIp, "x-real-ip", ""), by_peer);
        assert_eq!(read(ClientIpSource::TrueClientIp, "true-client-ip", "nonsense"), None);
        assert_eq!(read(ClientIpSource::CfConnectingIp, "cf-connecting-ip", "10.0.0.2"), Some("10.0.0.2".into()));
        assert_eq!(
            read(ClientIpSource::XForwardedFor, "x-forwarded-for", "10.0.0.3, 10.0.0.4"),
            Some("10.0.0.3".into())
        );
    }
}
