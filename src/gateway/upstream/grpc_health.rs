//! Health checks by gRPC: `grpc.health.v1.Health/Check`.

use async_trait::async_trait;
use bytes::{BufMut, Bytes, BytesMut};
use http::HeaderMap;
use pingora::http::RequestHeader;
use pingora::lb::Backend;
use pingora::lb::health_check::HealthCheck;
use pingora::protocols::http::client::HttpSession;
use pingora::protocols::http::v2::client::Http2Session;
use pingora::{Error, ErrorType};

use super::check_connection::CheckConnector;

const PATH: &[u8] = b"/grpc.health.v1.Health/Check";
/// The longest response that is read, in bytes.
const MAX_RESPONSE: usize = 1024;
/// A frame with an uncompressed message begins with a zero byte and the length, 4 bytes.
const FRAME_HEAD: usize = 5;
/// The tag of field 1 with a varint, in `HealthCheckResponse` its `status`.
const STATUS_TAG: u8 = 1 << 3;
/// The tag of field 1 with bytes, in `HealthCheckRequest` its `service`.
const SERVICE_TAG: u8 = 1 << 3 | 2;
/// `HealthCheckResponse.ServingStatus.SERVING`.
const SERVING: u8 = 1;

/// Checks whether a gRPC server or one of its services is serving.
pub(super) struct GrpcHealthCheck {
    connector: CheckConnector,
    request: RequestHeader,
    message: Bytes,
}

impl GrpcHealthCheck {
    /// A check of a service; empty for the server as a whole.
    ///
    /// # Errors
    /// If `host` cannot be a header.
    pub(super) fn new(service: &str, host: &str, connector: CheckConnector) -> pingora::Result<Self> {
        let mut request = RequestHeader::build("POST", PATH, None)?;
        request.set_version(http::Version::HTTP_2);
        let scheme = if connector.is_tls() { "https" } else { "http" };
        let path = String::from_utf8_lossy(PATH);
        let uri = format!("{scheme}://{host}{path}").parse();
        request.set_uri(uri.map_err(|error| Error::because(ErrorType::InvalidHTTPHeader, "the host", error))?);
        request.insert_header("content-type", "application/grpc")?;
        request.insert_header("te", "trailers")?;
        Ok(Self { connector, request, message: frame(service) })
    }

    async fn ask(&self, session: &mut Http2Session) -> pingora::Result<()> {
        session.write_request_header(Box::new(self.request.clone()), false)?;
        session.write_request_body(self.message.clone(), true).await?;
        session.read_response_header().await?;
        let head = session.response_header().ok_or_else(|| fault("no response"))?;
        if head.status != 200 {
            return Err(fault(format!("HTTP status {}", head.status.as_u16())));
        }
        // A response without a message has its status in the head.
        check_status(&head.headers)?;
        let mut message = BytesMut::new();
        while let Some(part) = session.read_response_body().await? {
            if message.len() + part.len() > MAX_RESPONSE {
                return Err(fault("the response is too long"));
            }
            message.extend_from_slice(&part);
        }
        check_status(&session.read_trailers().await?.unwrap_or_default())?;
        if is_serving(&message) { Ok(()) } else { Err(fault("the service is not SERVING")) }
    }
}

#[async_trait]
impl HealthCheck for GrpcHealthCheck {
    async fn check(&self, target: &Backend) -> pingora::Result<()> {
        match self.connector.connect(target).await? {
            HttpSession::H2(mut session) => self.ask(&mut session).await,
            _ => Err(fault("the endpoint does not offer HTTP/2")),
        }
    }

    fn health_threshold(&self, _: bool) -> usize {
        1
    }
}

fn check_status(fields: &HeaderMap) -> pingora::Result<()> {
    match fields.get("grpc-status") {
        Some(status) if status.as_bytes() != b"0" => {
            Err(fault(format!("gRPC status {}", status.to_str().unwrap_or_default())))
        }
        _ => Ok(()),
    }
}

/// A frame with a `HealthCheckRequest`. A service has at most 255 bytes.
fn frame(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(SERVICE_TAG);
        let length = u8::try_from(service.len()).unwrap_or(u8::MAX);
        // A varint has seven bits in each byte.
        if length >= 0x80 {
            message.put_u8(length | 0x80);
            message.put_u8(length >> 7);
        } else {
            message.put_u8(length);
        }
        message.put_slice(service.as_bytes());
    }
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or_default());
    frame.put_slice(&message);
    frame.freeze()
}

/// Whether a frame has a `HealthCheckResponse` with the status `SERVING`. Its status is its only field.
fn is_serving(frame: &[u8]) -> bool {
    frame.len() > FRAME_HEAD && frame[0] == 0 && frame[FRAME_HEAD..] == [STATUS_TAG, SERVING]
}

#[expect(clippy::unnecessary_box_returns, reason = "pingora takes its errors boxed")]
fn fault(text: impl Into<String>) -> Box<Error> {
    Error::explain(ErrorType::Custom("gRPC health check"), text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_responses_are_in_protobuf() {
        assert_eq!(frame("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(frame("orders")[..], *b"\0\0\0\0\x08\x0a\x06orders");
        let long = frame(&"a".repeat(200));
        assert_eq!(long[..8], [0, 0, 0, 0, 203, 0x0a, 0xc8, 0x01]);
        assert!(is_serving(&[0, 0, 0, 0, 2, 8, 1]));
        for response in [&[0, 0, 0, 0, 2, 8, 2][..], &[0, 0, 0, 0, 0], &[], &[1, 0, 0, 0, 2, 8, 1]] {
            assert!(!is_serving(response), "{response:?}");
        }
    }
}
