//! The two ways to a collector: OTLP over gRPC, and OTLP over HTTP with binary messages.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;
use reqwest::redirect::Policy;
use tonic::Code;
use tonic::metadata::MetadataMap;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use super::settings::{Protocol, Settings};

/// Time limit for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time limit for a request.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The maximum size of a response in bytes.
const RESPONSE_MAX: usize = 64 * 1024;

const USER_AGENT: &str = concat!("keygate/", env!("CARGO_PKG_VERSION"));

/// The collector cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The URL is invalid.
    #[error("the URL of the collector cannot be used: {0}")]
    Url(#[from] tonic::transport::Error),
    /// There is no HTTP client.
    #[error("the HTTP client of the collector cannot be built: {0}")]
    Client(#[from] reqwest::Error),
}

/// A way to a collector.
pub(super) enum Transport {
    Grpc { client: TraceServiceClient<Channel>, fields: Box<HeaderMap>, url: String },
    Http { client: reqwest::Client, url: String },
}

/// Why a request failed.
#[derive(Debug)]
pub(super) struct Failure {
    reason: String,
    /// Whether the same request may succeed later.
    pub(super) is_retryable: bool,
}

impl Transport {
    /// Connects when the first request is sent.
    pub(super) fn new(settings: &Settings) -> Result<Self, TransportError> {
        let Settings { protocol, url, authorities, fields, .. } = settings;
        let url = url.clone();
        match protocol {
            Protocol::Grpc => {
                let channel = channel(&url, authorities.as_deref())?;
                let client = TraceServiceClient::new(channel).max_decoding_message_size(RESPONSE_MAX);
                Ok(Self::Grpc { client, fields: Box::new(fields.clone()), url })
            }
            Protocol::Http => {
                let client = reqwest::Client::builder()
                    .no_proxy()
                    .redirect(Policy::none())
                    .connect_timeout(CONNECT_TIMEOUT)
                    .timeout(TIMEOUT)
                    .user_agent(USER_AGENT)
                    .default_headers(fields.clone());
                let client = match authorities {
                    Some(pem) => client.tls_certs_only(reqwest::Certificate::from_pem_bundle(pem)?),
                    None => client,
                };
                Ok(Self::Http { client: client.build()?, url })
            }
        }
    }

    /// Sends spans. Returns how many of them the collector rejected.
    pub(super) async fn send(&mut self, request: ExportTraceServiceRequest) -> Result<usize, Failure> {
        match self {
            Self::Grpc { client, fields, .. } => match client.export(with_fields(request, fields)).await {
                Ok(response) => Ok(rejected(response.into_inner())),
                Err(status) => Err(Failure::of_status(&status)),
            },
            Self::Http { client, url } => post(client, url, &request).await,
        }
    }
}

/// A channel that connects at its first use. The name in the certificate must be the host of the URL.
fn channel(url: &str, authorities: Option<&[u8]>) -> Result<Channel, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(url.to_owned())?.user_agent(USER_AGENT)?;
    let endpoint = endpoint.connect_timeout(CONNECT_TIMEOUT).timeout(TIMEOUT);
    if !url.starts_with("https://") {
        return Ok(endpoint.connect_lazy());
    }
    let tls = match authorities {
        Some(pem) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)),
        None => ClientTlsConfig::new().with_native_roots(),
    };
    Ok(endpoint.tls_config(tls)?.connect_lazy())
}

fn with_fields<T>(message: T, fields: &HeaderMap) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    *request.metadata_mut() = MetadataMap::from_headers(fields.clone());
    request
}

async fn post(client: &reqwest::Client, url: &str, request: &ExportTraceServiceRequest) -> Result<usize, Failure> {
    let request = client.post(url).header(CONTENT_TYPE, "application/x-protobuf").body(request.encode_to_vec());
    let mut response = request.send().await.map_err(|error| Failure::of_client(&error))?;
    let status = response.status();
    if !status.is_success() {
        // The statuses of the OTLP specification, "Retryable Response Codes".
        let is_retryable = matches!(status.as_u16(), 429 | 502 | 503 | 504);
        return Err(Failure { reason: format!("it answered {status}"), is_retryable });
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| Failure::of_client(&error))? {
        if body.len() + chunk.len() > RESPONSE_MAX {
            break;
        }
        body.extend_from_slice(&chunk);
    }
    // The spans are delivered, whatever the body is.
    Ok(ExportTraceServiceResponse::decode(&body[..]).map_or(0, rejected))
}

fn rejected(response: ExportTraceServiceResponse) -> usize {
    let ExportTracePartialSuccess { rejected_spans, .. } = response.partial_success.unwrap_or_default();
    usize::try_from(rejected_spans).unwrap_or(0)
}

impl Failure {
    fn of_client(error: &reqwest::Error) -> Self {
        let reason = if error.is_timeout() {
            "it did not answer in time".to_owned()
        } else if error.is_connect() {
            format!("it cannot be reached{}", cause(error))
        } else {
            "the connection broke off".to_owned()
        };
        Self { reason, is_retryable: true }
    }

    fn of_status(status: &tonic::Status) -> Self {
        // The codes of the OTLP specification, "Failures". `Unknown` is a connection that broke off.
        let is_retryable = matches!(
            status.code(),
            Code::Cancelled
                | Code::DeadlineExceeded
                | Code::ResourceExhausted
                | Code::Aborted
                | Code::OutOfRange
                | Code::Unavailable
                | Code::DataLoss
                | Code::Unknown
        );
        let reason = format!("{} ({:?}){}", status.code().description(), status.code(), cause(status));
        Self { reason, is_retryable }
    }
}

/// The first cause of an error, for example what is wrong with a certificate.
fn cause(error: &dyn Error) -> String {
    let causes = std::iter::successors(error.source(), |&error| error.source());
    causes.last().map(|cause| format!(": {cause}")).unwrap_or_default()
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Grpc { url, .. } | Self::Http { url, .. } => f.write_str(url),
        }
    }
}
