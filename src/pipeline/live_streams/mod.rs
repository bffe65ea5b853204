//! Live streams: WebSockets, event streams and gRPC calls, which can outlive the validity of their credential.
//!
//! - [`EndReason`]: why an exchange is ended from outside.
//! - `registry`: the streams by key, and when each is verified again.
//! - `metrics`: how many there are, and why they were ended.
//! - [`LiveStreams`]: verifies streams again when their key changes or expires, and ends those whose credential is no longer valid.

mod metrics;
mod reason;
mod registry;
mod stream;
mod watch;

pub use metrics::LiveStreamMetrics;
pub use reason::EndReason;
pub use stream::{EndStream, StreamKind};
pub(super) use stream::{LiveStream, StreamSubject};
pub use watch::LiveStreams;

#[cfg(test)]
mod tests;
