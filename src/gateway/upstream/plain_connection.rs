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

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::gateway::upstream::peer::KEEPALIVE;

    #[tokio::test]
    async fn connection_is_kept_alive_and_counted_until_it_is_dropped() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut peer = HttpPeer::new(address, false, String::new());
        peer.options.tcp_keepalive = Some(KEEPALIVE);
        let connections = Arc::new(ConnectionCounts::default());
        let stream = connect(&TransportConnector::new(None), &peer, &connections).await.unwrap();
        assert_eq!(connections.open(), 1);
        #[cfg(target_os = "linux")]
        assert_keep_alive_timer(address.port());
        drop(stream);
        assert_eq!(connections.open(), 0);
    }

    /// Finds the connection to `port` by its remote address and the state ESTABLISHED (01), which two lengths and
    /// the timer of keep-alive probes (02) follow (proc(5)).
    #[cfg(target_os = "linux")]
    fn assert_keep_alive_timer(port: u16) {
        let remote = format!(":{port:04X} 01 ");
        let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let socket = sockets.lines().find_map(|line| line.split_once(&remote)).map(|(_, rest)| rest);
        assert!(socket.is_some_and(|rest| rest.contains(" 02:")), "{sockets}");
    }
}
