//! What happens to a connection of a listener: PROXY protocol, TLS, then HTTP/2 or HTTP/1.1.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use pingora::connectors::TransportConnector;
use pingora::protocols::Stream;
use pingora::proxy::HttpProxy;
use tokio::time::Instant;

use super::deadline::Clock;
use super::http1::{self, End, Front};
use super::http2::{self, Http2Stream};
use super::pingora::Proxy;
use super::socket::Socket;
use super::upstream::RouteUpstream;
use crate::cidr::CidrSet;
use crate::config::ListenerConfig;
use crate::connection::ConnectionInfo;
use crate::listener::AcceptedConnection;
use crate::listener::proxy_protocol::read_header;
use crate::listener::tls::TlsAcceptor;
use crate::pipeline::{CurrentSnapshot, ListenerTrust};

/// What the connections of one listener share.
pub(super) struct Connections {
    pub(super) front: Front,
    pub(super) tls: Option<TlsAcceptor>,
    /// The peers whose connections begin with a PROXY header.
    pub(super) proxies: CidrSet,
}

impl Connections {
    /// What the connections of a listener share that has these settings and this TLS.
    pub(super) fn new(
        (proxy, connector): (Arc<HttpProxy<Proxy>>, Option<Arc<TransportConnector>>),
        snapshot: Arc<CurrentSnapshot<RouteUpstream>>,
        clock: Arc<Clock>,
        (config, tls): (&ListenerConfig, Option<TlsAcceptor>),
    ) -> Self {
        let front = Front {
            proxy,
            snapshot,
            clock,
            limits: config.limits,
            trust: Arc::new(ListenerTrust::from(config)),
            // With TLS it is ALPN that selects HTTP/2.
            http2: config.http2 && tls.is_none(),
            connector,
        };
        let proxies = CidrSet::parse(&config.proxy_protocol.trusted).unwrap_or_default();
        Self { front, tls, proxies }
    }

    /// The same with other settings of the listener. Its address and its TLS stay.
    pub(super) fn reconfigured(&self, config: &ListenerConfig) -> Self {
        let Front { proxy, snapshot, clock, connector, .. } = &self.front;
        let (proxy, snapshot, clock) = (Arc::clone(proxy), Arc::clone(snapshot), Arc::clone(clock));
        let mut connections = Self::new((proxy, connector.clone()), snapshot, clock, (config, self.tls.clone()));
        connections.front.trust = Arc::new(self.front.trust.reconfigured(config));
        connections
    }

    /// Serves a connection to its end. `peer` is `None` for a Unix socket.
    pub(super) async fn serve(
        self: Arc<Self>,
        stream: Stream,
        peer: Option<SocketAddr>,
        mut accepted: AcceptedConnection,
    ) {
        let mut info = ConnectionInfo::plain(peer);
        if self.tls.is_none() && self.proxies.is_empty() {
            return self.serve_http(stream, info, &accepted).await;
        }
        match Box::pin(self.prepare_in_time(stream, &mut info, &mut accepted)).await {
            Ok(stream) => self.serve_http(stream, info, &accepted).await,
            Err(error) => {
                tracing::debug!(peer = info.peer.map(tracing::field::display), %error, "a connection was refused");
            }
        }
    }

    /// [`Self::prepare`]. After the stop of the listener it has the time of a silent connection.
    async fn prepare_in_time(
        &self,
        stream: Stream,
        info: &mut ConnectionInfo,
        accepted: &mut AcceptedConnection,
    ) -> Result<Stream, Box<dyn Error + Send + Sync>> {
        let late = accepted.late();
        tokio::select! {
            prepared = self.prepare(stream, info, accepted) => prepared,
            () = late => Err("the listener stops".into()),
        }
    }

    /// PROXY protocol and TLS.
    async fn prepare(
        &self,
        mut stream: Stream,
        info: &mut ConnectionInfo,
        accepted: &mut AcceptedConnection,
    ) -> Result<Stream, Box<dyn Error + Send + Sync>> {
        if self.expects_proxy_header(info) {
            let deadline = Instant::now() + self.front.limits.head_timeout.0;
            let header = read_header(&mut stream, deadline).await.map_err(|error| describe(&error))?;
            if let Some(source) = header.source {
                accepted.set_client(source.ip())?;
                info.client = Some(source.ip());
            }
        }
        let Some(tls) = &self.tls else { return Ok(stream) };
        let (stream, tls) = tls.accept(stream).await?;
        info.tls = Some(tls);
        Ok(Box::new(Socket::with_tls(stream)))
    }

    /// Whether the peer is a proxy that sends a PROXY header. A Unix socket has no peer addresses: if any peer is, then all of its are.
    fn expects_proxy_header(&self, info: &ConnectionInfo) -> bool {
        match info.peer {
            Some(peer) => self.proxies.contains(peer.ip()),
            None => !self.proxies.is_empty(),
        }
    }

    async fn serve_http(&self, stream: Stream, info: ConnectionInfo, accepted: &AcceptedConnection) {
        let speaks_http2 = info.tls.as_ref().is_some_and(|tls| tls.http2);
        let info = Arc::new(info);
        let end = if speaks_http2 {
            End::Http2(stream, BytesMut::new())
        } else {
            http1::serve(&self.front, stream, Arc::clone(&info), accepted).await
        };
        if let End::Http2(stream, received) = end {
            let stall_limit = self.front.limits.response_stall_timeout.0;
            let stream = Http2Stream::new(stream, received, &self.front.clock, stall_limit);
            Box::pin(http2::serve(&self.front, stream, info, accepted)).await;
        }
    }
}

fn describe(error: &io::Error) -> String {
    format!("PROXY protocol: {error}")
}
