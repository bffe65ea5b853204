//! Connections without TLS for HTTP/1.1: sockets without the stream of pingora, which reads the clock whenever a read has to wait.

use std::sync::Arc;

use pingora::connectors::TransportConnector;
use pingora::protocols::Stream;
use pingora::protocols::l4::ext::set_tcp_keepalive;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::upstreams::peer::{HttpPeer, Peer};
use pingora::{Error, ErrorType};

use super::connector::{ConnectionCounts, OpenConnection, connect_tcp, connect_unix};
use crate::gateway::socket::Socket;

/// Connects to the peer of an endpoint whose connections are counted by `connections`. With TLS, pingora's connector does.
///
/// # Errors
/// Those that pingora has for the same failures.
pub(super) async fn connect(
    connector: &TransportConnector,
    peer: &HttpPeer,
    connections: &Arc<ConnectionCounts>,
) -> pingora::Result<Stream> {
    if peer.is_tls() {
        return connector.new_stream(peer).await;
    }
    let Some(limit) = peer.options.total_connection_timeout else { return connect_plain(peer, connections).await };
    let connected = tokio::time::timeout(limit, connect_plain(peer, connections)).await;
    connected.unwrap_or_else(|_| {
        Error::e_explain(ErrorType::ConnectTimedout, format!("connecting to an endpoint took longer than {limit:?}"))
    })
}

async fn connect_plain(peer: &HttpPeer, connections: &Arc<ConnectionCounts>) -> pingora::Result<Stream> {
    match peer.address() {
        SocketAddr::Inet(address) => {
            let socket = connect_tcp(address).await?;
            if let Some(keepalive) = &peer.options.tcp_keepalive {
                set_tcp_keepalive(&socket, keepalive)?;
            }
            let set = socket.set_nodelay(true);
            set.map_err(|error| Error::because(ErrorType::ConnectError, "setting TCP_NODELAY", error))?;
            Ok(Box::new(Socket::counted(socket, OpenConnection::new(connections))))
        }
        SocketAddr::Unix(address) => {
            Ok(Box::new(Socket::counted(connect_unix(address).await?, OpenConnection::new(connections))))
        }
    }
}
