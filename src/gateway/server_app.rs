//! What happens to a connection of a listener.

use std::sync::Arc;

use async_trait::async_trait;
use pingora::apps::{HttpServerApp, ServerApp};
use pingora::protocols::Stream;
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;

use super::pingora::Proxy;

/// The connections of one listener.
pub(super) struct ListenerApp {
    pub(super) proxy: Arc<HttpProxy<Proxy>>,
}

#[async_trait]
impl ServerApp for ListenerApp {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        self.proxy.process_new(stream, shutdown).await
    }

    async fn cleanup(&self) {
        self.proxy.http_cleanup().await;
    }
}
