//! Where spans are sent, and what they say of this process.

use http::HeaderMap;

/// How spans are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// gRPC.
    Grpc,
    /// POST requests with binary messages.
    Http,
}

/// Where the spans are sent, and what they say of this process.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The protocol.
    pub protocol: Protocol,
    /// The URL of the collector; over HTTP with the path that takes traces.
    pub url: String,
    /// The only authorities that are trusted, in PEM; those of the system if absent.
    pub authorities: Option<Vec<u8>>,
    /// Fields that are sent with each request.
    pub fields: HeaderMap,
    /// `service.name`.
    pub service_name: String,
    /// `service.version`.
    pub service_version: String,
    /// `deployment.environment.name`.
    pub environment: String,
}
