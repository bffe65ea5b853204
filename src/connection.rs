//! What a listener knows about a connection before the first request. Plain data.

use std::net::{IpAddr, SocketAddr};

/// A connection, after PROXY protocol and TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// The peer of the socket; `None` for a Unix socket.
    pub peer: Option<SocketAddr>,
    /// The client: the address of a trusted PROXY header, else that of the peer. An IPv4 address in IPv6 is an IPv4 address here.
    pub client: Option<IpAddr>,
    /// TLS; `None` for a connection in clear text.
    pub tls: Option<TlsInfo>,
}

/// The result of a TLS handshake.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsInfo {
    /// The server name that the client asked for (RFC 6066 section 3).
    pub server_name: Option<Box<str>>,
    /// Whether ALPN has selected HTTP/2.
    pub http2: bool,
    /// The certificate that the client has presented; it was verified.
    pub client_certificate: Option<ClientCertificate>,
}

/// The verified certificate of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The subject (RFC 4514), for example `CN=reports,O=Example`.
    pub subject: Box<str>,
    /// The subject alternative names, each with its type, for example `DNS:reports.example.com` and `URI:spiffe://example/reports`.
    pub san: Box<[Box<str>]>,
}

impl ConnectionInfo {
    /// A connection in clear text from a peer.
    pub fn plain(peer: Option<SocketAddr>) -> Self {
        Self { peer, client: peer.map(|peer| peer.ip().to_canonical()), tls: None }
    }
}
