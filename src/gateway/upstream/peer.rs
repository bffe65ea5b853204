//! The peers that pingora connects to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pingora::protocols::TcpKeepalive;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::upstreams::peer::HttpPeer;

use super::connector::{ConnectionCounts, Connector};
use crate::config::{EndpointUrl, UpstreamConfig, UpstreamProtocol};

/// The next group of pooled connections. Peers of different groups never share connections. Each endpoint has a group, and each request
/// that needs a new connection: a connection stays in its group for a moment even without idle time, and the next such request could find
/// it.
static NEXT_GROUP: AtomicU64 = AtomicU64::new(1);
/// TCP keep-alive of upstream connections. It detects dead peers.
pub(super) const KEEPALIVE: TcpKeepalive = TcpKeepalive {
    idle: Duration::from_secs(60),
    interval: Duration::from_secs(15),
    count: 4,
    #[cfg(target_os = "linux")]
    user_timeout: Duration::ZERO,
};
/// How many requests use an HTTP/2 connection to an upstream at the same time.
const UPSTREAM_STREAMS: usize = 100;

/// The peer of an endpoint at an address, with the settings of its upstream.
///
/// # Errors
/// If the path of a socket cannot be used.
pub(super) fn endpoint_peer(
    url: &EndpointUrl,
    address: &SocketAddr,
    config: &UpstreamConfig,
    connections: &Arc<ConnectionCounts>,
) -> pingora::Result<HttpPeer> {
    let mut peer = plain_peer(url, address, config)?;
    let options = &mut peer.options;
    options.custom_l4 = Some(Arc::new(Connector(Arc::clone(connections))));
    options.idle_timeout = Some(config.pool.idle_timeout.0);
    options.tcp_keepalive = Some(KEEPALIVE);
    let (newest, oldest) = match config.protocol {
        UpstreamProtocol::Http1 => (1, 1),
        UpstreamProtocol::Http2 => (2, 2),
        UpstreamProtocol::Auto => (2, 1),
    };
    options.set_http_version(newest, oldest);
    options.max_h2_streams = UPSTREAM_STREAMS;
    Ok(peer)
}

/// The peer of an endpoint at an address, with pingora's settings.
///
/// # Errors
/// If the path of a socket cannot be used.
pub(super) fn plain_peer(
    url: &EndpointUrl,
    address: &SocketAddr,
    config: &UpstreamConfig,
) -> pingora::Result<HttpPeer> {
    let configured = config.tls.as_ref().and_then(|tls| tls.server_name.as_ref());
    let server_name = if url.tls { configured.unwrap_or(&url.host).clone() } else { String::new() };
    match address {
        SocketAddr::Inet(address) => Ok(HttpPeer::new(address, url.tls, server_name)),
        SocketAddr::Unix(address) => {
            let path = address.as_pathname().and_then(std::path::Path::to_str).unwrap_or_default();
            HttpPeer::new_uds(path, url.tls, server_name)
        }
    }
}

/// Makes a peer use a new connection, which is closed after the request.
pub(in crate::gateway) fn use_new_connection(peer: &mut HttpPeer) {
    peer.group_key = next_group();
    peer.options.idle_timeout = Some(Duration::ZERO);
}

/// A group that no connection belongs to.
pub(super) fn next_group() -> u64 {
    NEXT_GROUP.fetch_add(1, Ordering::Relaxed)
}
