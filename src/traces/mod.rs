//! Traces: the spans of requests, and their way to a collector.
//!
//! The path of a request only puts its finished spans into a bounded queue ([`Tracer::send`]). `otlp` takes them from there and sends them
//! to a collector. Spans for which there is no room, or that the collector does not take, are dropped and counted.

mod context;
mod metrics;
#[cfg(feature = "otlp")]
pub mod otlp;
mod span;
mod tracer;

pub use context::{SpanId, TraceContext, TraceId, is_valid_state};
pub use metrics::{DropReason, Metrics};
pub use span::{Attribute, Event, Span, SpanKind, Trace, Value};
pub use tracer::{Queue, Tracer, tracer};
