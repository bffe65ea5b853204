//! The exporter: sends spans to a collector by the OpenTelemetry protocol (OTLP), over gRPC or HTTP.

mod exporter;
mod message;
mod settings;
mod transport;

pub use exporter::Exporter;
pub use settings::{Protocol, Settings};
pub use transport::TransportError;
