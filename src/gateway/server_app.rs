//! What happens to a connection of a listener: its admission, PROXY protocol, TLS, then HTTP/2 or HTTP/1.1.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::BytesMut;
use pingora::apps::{HttpServerApp, ServerApp};
use pingora::protocols::Stream;
use pingora::server::ShutdownWatch;
use tokio::time::Instant;

use super::http1::{self, End, Front};
use super::http2::{self, Http2Stream};
use super::tls_stream::TlsConnection;
use crate::cidr::CidrSet;
use crate::connection::ConnectionInfo;
use crate::listener::proxy_protocol::read_header;
use crate::listener::tls::TlsAcceptor;
use crate::listener::{Admission, Admitted};

/// The connections of one listener.
pub(super) struct ListenerApp {
    pub(super) front: Front,
    /// The caps of connections, those of all listeners together.
    pub(super) admission: Admission,
    pub(super) tls: Option<TlsAcceptor>,
    /// The peers whose connections begin with a PROXY header.
    pub(super) proxies: CidrSet,
}

#[async_trait]
impl ServerApp for ListenerApp {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let mut info = ConnectionInfo::plain(peer(&stream));
        // A refused connection is closed at once.
        let mut admitted = self.admission.admit(info.client).ok()?;
        if !self.has_steps() {
            self.serve(stream, info, &admitted, shutdown).await;
            return None;
        }
        match Box::pin(self.prepare(stream, &mut info, &mut admitted)).await {
            Ok(stream) => self.serve(stream, info, &admitted, shutdown).await,
            Err(error) => {
                tracing::debug!(peer = info.peer.map(tracing::field::display), %error, "a connection was refused")
            }
        }
        None
    }

    async fn cleanup(&self) {
        self.front.clock.stop();
        self.front.proxy.http_cleanup().await;
    }
}

impl ListenerApp {
    /// Whether there are steps before HTTP.
    fn has_steps(&self) -> bool {
        self.tls.is_some() || !self.proxies.is_empty()
    }

    /// PROXY protocol and TLS.
    async fn prepare(
        &self,
        mut stream: Stream,
        info: &mut ConnectionInfo,
        admitted: &mut Admitted,
    ) -> Result<Stream, Box<dyn std::error::Error + Send + Sync>> {
        if self.expects_proxy_header(info) {
            let deadline = Instant::now() + self.front.limits.head_timeout.0;
            let header = read_header(&mut stream, deadline).await.map_err(|error| describe(&error))?;
            if let Some(source) = header.source {
                admitted.set_client(source.ip())?;
                info.client = Some(source.ip());
            }
        }
        let Some(tls) = &self.tls else { return Ok(stream) };
        let (stream, tls) = tls.accept(stream).await?;
        info.tls = Some(tls);
        Ok(Box::new(TlsConnection(stream)))
    }

    /// Whether the peer is a proxy that sends a PROXY header. A Unix socket has no peer addresses: if any peer is, then all of its are.
    fn expects_proxy_header(&self, info: &ConnectionInfo) -> bool {
        match info.peer {
            Some(peer) => self.proxies.contains(peer.ip()),
            None => !self.proxies.is_empty(),
        }
    }

    async fn serve(&self, stream: Stream, info: ConnectionInfo, admitted: &Admitted, shutdown: &ShutdownWatch) {
        let speaks_http2 = info.tls.as_ref().is_some_and(|tls| tls.http2);
        let info = Arc::new(info);
        let end = if speaks_http2 {
            End::Http2(stream, BytesMut::new())
        } else {
            http1::serve(&self.front, stream, Arc::clone(&info), admitted, shutdown).await
        };
        if let End::Http2(stream, received) = end {
            let stall_limit = self.front.limits.response_stall_timeout.0;
            let stream = Http2Stream::new(stream, received, &self.front.clock, stall_limit);
            Box::pin(http2::serve(&self.front, stream, info, admitted, shutdown)).await;
        }
    }
}

fn peer(stream: &Stream) -> Option<SocketAddr> {
    stream.get_socket_digest()?.peer_addr()?.as_inet().copied()
}

fn describe(error: &io::Error) -> String {
    format!("PROXY protocol: {error}")
}
