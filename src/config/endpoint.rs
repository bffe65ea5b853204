//! URLs of upstream endpoints.

use std::net::Ipv6Addr;
use std::path::PathBuf;

/// The longest path of a Unix socket, in bytes (`sun_path` of unix(7), without the final NUL).
const MAX_SOCKET_PATH: usize = 107;

/// A parsed endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointUrl {
    /// Whether the scheme is `https`.
    pub tls: bool,
    /// The host: a name or an address, without brackets. `localhost` for a Unix socket.
    pub host: String,
    /// The port. 0 for a Unix socket.
    pub port: u16,
    /// Host and port as in a `Host` header; without the port if it is the scheme's default.
    pub authority: String,
    /// The path of a Unix socket; `None` for TCP.
    pub socket: Option<PathBuf>,
}

/// Parses `http://host[:port]`, `https://host[:port]` or `unix:/path`; `None` if the text is anything else.
pub fn parse_endpoint(text: &str) -> Option<EndpointUrl> {
    if let Some(path) = text.strip_prefix("unix:") {
        return parse_socket(path);
    }
    // `http::Uri` drops a fragment silently.
    let uri: http::Uri = if text.contains('#') { return None } else { text.parse().ok()? };
    let (tls, default_port) = match uri.scheme_str()? {
        "http" => (false, 80),
        "https" => (true, 443),
        _ => return None,
    };
    if uri.path() != "/" || uri.query().is_some() {
        return None;
    }
    let authority = uri.authority()?.as_str();
    let (name, port) = split_port(authority);
    let host = endpoint_host(name)?;
    let port = port.map_or(Some(default_port), parse_port)?;
    let authority = if port == default_port { name.to_owned() } else { format!("{name}:{port}") };
    Some(EndpointUrl { tls, host, port, authority, socket: None })
}

/// The endpoint at the absolute path of a Unix socket.
fn parse_socket(path: &str) -> Option<EndpointUrl> {
    let is_valid = path.starts_with('/') && path.len() <= MAX_SOCKET_PATH && !path.contains('\0');
    let host = "localhost".to_owned();
    is_valid.then(|| EndpointUrl { tls: false, authority: host.clone(), host, port: 0, socket: Some(path.into()) })
}

/// Splits off the port. Colons within brackets belong to an IPv6 address.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (authority, None),
    }
}

/// The host to connect to: a name, an IPv4 address, or an IPv6 address without its brackets.
fn endpoint_host(name: &str) -> Option<String> {
    if let Some(address) = name.strip_prefix('[') {
        return Some(address.strip_suffix(']')?.parse::<Ipv6Addr>().ok()?.to_string());
    }
    is_host_name(name).then(|| name.to_owned())
}

/// Parses a port, 1 to 65535. `http::Uri` reports no port for `host:99999` and `host:abc`, which must not become the
/// scheme's default.
fn parse_port(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port > 0)
}

/// Whether the text is a plain host name: no scheme, port or wildcard.
pub(super) fn is_host_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_parsed() {
        for (text, tls, host, port, authority) in [
            ("http://127.0.0.1:9000", false, "127.0.0.1", 9000, "127.0.0.1:9000"),
            ("http://orders.internal/", false, "orders.internal", 80, "orders.internal"),
            ("https://orders.internal:443", true, "orders.internal", 443, "orders.internal"),
            ("https://[::1]:8443", true, "::1", 8443, "[::1]:8443"),
            ("http://[::1]", false, "::1", 80, "[::1]"),
        ] {
            let wanted = EndpointUrl { tls, host: host.into(), port, authority: authority.into(), socket: None };
            assert_eq!(parse_endpoint(text), Some(wanted), "{text}");
        }
    }

    #[test]
    fn unix_sockets_are_parsed() {
        let endpoint = parse_endpoint("unix:/run/orders.sock").unwrap();
        assert_eq!((endpoint.socket, &*endpoint.authority), (Some("/run/orders.sock".into()), "localhost"));
        for text in ["unix:", "unix:orders.sock", "unix:/a\0b", &format!("unix:/{}", "a".repeat(107))] {
            assert_eq!(parse_endpoint(text), None, "{text}");
        }
    }

    #[test]
    fn invalid_endpoints_are_rejected() {
        let ports = ["http://h:99999", "http://h:abc", "http://h:0", "http://h:", "http://h:+80", "http://h:80:90"];
        let others =
            ["h:80", "ftp://h", "http://", "http://u@h", "http://h/p", "http://h?q", "http://h/?", "http://h#f"];
        let hosts = ["http://a b", "http://a%20b", "http://[::g]:80", "http://[::1", "http://*.h"];
        for text in ports.iter().chain(&others).chain(&hosts) {
            assert_eq!(parse_endpoint(text), None, "{text}");
        }
    }
}
