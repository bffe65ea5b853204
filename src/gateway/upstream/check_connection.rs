//! The connections of health checks.

use std::sync::Arc;

use pingora::connectors::http::Connector;
use pingora::lb::Backend;
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;

use super::tls::UpstreamTls;

/// Connects to the addresses of an entry for its health checks, each time anew.
pub(super) struct CheckConnector {
    peer: HttpPeer,
    /// `None` for clear text, and for TLS with the authorities of the system only.
    tls: Option<Arc<UpstreamTls>>,
    connector: Connector,
}

impl CheckConnector {
    /// Connects like `peer`, whose address is replaced, with the trust of `tls`.
    pub(super) fn new(mut peer: HttpPeer, tls: Option<&Arc<UpstreamTls>>) -> Self {
        let tls = tls.filter(|_| peer.is_tls()).cloned();
        if let Some(tls) = &tls {
            tls.apply(&mut peer);
        }
        Self { peer, tls, connector: Connector::new(None) }
    }

    /// Whether the connections have TLS.
    pub(super) fn is_tls(&self) -> bool {
        self.peer.is_tls()
    }

    /// Connects to an endpoint. The connection is closed after the check.
    ///
    /// # Errors
    /// If there is no connection, or its version of TLS is too low.
    pub(super) async fn connect(&self, target: &Backend) -> pingora::Result<HttpSession> {
        let mut peer = self.peer.clone();
        peer._address = target.addr.clone();
        let (mut session, _) = self.connector.get_http_session(&peer).await?;
        if let Some(tls) = &self.tls {
            tls.check_version(session.digest().and_then(|digest| digest.ssl_digest.as_deref()))?;
        }
        session.set_read_timeout(peer.options.read_timeout);
        session.set_write_timeout(peer.options.write_timeout);
        Ok(session)
    }
}
