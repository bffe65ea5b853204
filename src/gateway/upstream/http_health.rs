//! Health checks by HTTP, and by the connection alone.

use async_trait::async_trait;
use pingora::http::RequestHeader;
use pingora::lb::Backend;
use pingora::lb::health_check::HealthCheck;
use pingora::{Error, ErrorType};

use super::check_connection::CheckConnector;
use crate::config::{HealthCheckConfig, UpstreamProtocol};

/// Checks whether a connection can be established, with TLS if the endpoint has it.
pub(super) struct TcpHealthCheck(pub(super) CheckConnector);

/// Checks whether a GET request is answered with an expected status.
pub(super) struct HttpHealthCheck {
    connector: CheckConnector,
    request: RequestHeader,
    expected: Vec<u16>,
}

impl HttpHealthCheck {
    /// A check with the path and the statuses of `config`.
    ///
    /// # Errors
    /// If the path or `host` cannot be part of a request.
    pub(super) fn new(
        config: &HealthCheckConfig,
        protocol: UpstreamProtocol,
        host: &str,
        connector: CheckConnector,
    ) -> pingora::Result<Self> {
        let mut request = RequestHeader::build("GET", config.path.as_bytes(), None)?;
        if protocol == UpstreamProtocol::Http2 {
            request.set_version(http::Version::HTTP_2);
            let scheme = if connector.is_tls() { "https" } else { "http" };
            let uri = format!("{scheme}://{host}{}", config.path).parse();
            request.set_uri(uri.map_err(|error| Error::because(ErrorType::InvalidHTTPHeader, "the host", error))?);
        } else {
            request.insert_header("Host", host)?;
        }
        request.insert_header("User-Agent", "keygate-health-check")?;
        Ok(Self { connector, request, expected: config.expected_status.clone() })
    }
}

#[async_trait]
impl HealthCheck for TcpHealthCheck {
    async fn check(&self, target: &Backend) -> pingora::Result<()> {
        self.0.connect(target).await.map(drop)
    }

    fn health_threshold(&self, _: bool) -> usize {
        1
    }
}

#[async_trait]
impl HealthCheck for HttpHealthCheck {
    async fn check(&self, target: &Backend) -> pingora::Result<()> {
        let mut session = self.connector.connect(target).await?;
        session.write_request_header(Box::new(self.request.clone())).await?;
        session.finish_request_body().await?;
        session.read_response_header().await?;
        let status = session.response_header().map_or(0, |head| head.status.as_u16());
        if !self.expected.contains(&status) {
            return Err(Error::explain(ErrorType::Custom("unexpected status"), format!("status {status}")));
        }
        // An incomplete response is a failure, too.
        while session.read_response_body().await?.is_some() {}
        Ok(())
    }

    fn health_threshold(&self, _: bool) -> usize {
        1
    }
}
