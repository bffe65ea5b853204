//! What happens to a connection of a listener: PROXY protocol, TLS, then HTTP/2 or HTTP/1.1.

use std::sync::Arc;

use async_trait::async_trait;
use pingora::apps::{HttpServerApp, ServerApp};
use pingora::protocols::Stream;
use pingora::server::ShutdownWatch;

use super::http1::{self, End, Front};
use super::http2::{self, Http2Stream};
use crate::connection::ConnectionInfo;
use crate::listener::Admission;

/// The connections of one listener.
pub(super) struct ListenerApp {
    pub(super) front: Front,
    /// The caps of connections, those of all listeners together.
    pub(super) admission: Admission,
}

#[async_trait]
impl ServerApp for ListenerApp {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let peer =
            stream.get_socket_digest().and_then(|digest| digest.peer_addr().and_then(|peer| peer.as_inet().copied()));
        let info = Arc::new(ConnectionInfo::plain(peer));
        // A refused connection is closed at once.
        let admitted = self.admission.admit(info.client).ok()?;
        let end = http1::serve(&self.front, stream, Arc::clone(&info), &admitted, shutdown).await;
        if let End::Http2(stream, received) = end {
            // Its requests are not followed, so it is never idle.
            admitted.set_active();
            let stall_limit = self.front.limits.response_stall_timeout.0;
            let stream = Http2Stream::new(stream, received, info, &self.front.clock, stall_limit);
            http2::serve(&self.front, stream, shutdown).await;
        }
        None
    }

    async fn cleanup(&self) {
        self.front.clock.stop();
        self.front.proxy.http_cleanup().await;
    }
}
