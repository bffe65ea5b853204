//! Live streams: WebSockets, event streams and gRPC calls, which can outlive the validity of their credential.
//!
//! - [`StreamKind`], [`EndReason`]: what there is, and why an exchange is ended from outside.
//! - `stream`, `guard`: one stream as the registry keeps it, and as its exchange keeps it.
//! - `registry`: the streams by key, and when each is verified again.
//! - `metrics`: how many there are, and why they were ended.
//! - [`LiveStreams`]: verifies streams again when their key changes or expires, and ends those whose credential is no longer valid.

mod guard;
mod kind;
mod metrics;
mod reason;
mod registry;
mod stream;
mod watch;

pub(super) use guard::LiveStream;
pub use kind::StreamKind;
pub use metrics::LiveStreamMetrics;
pub use reason::EndReason;
pub use stream::EndStream;
pub(super) use stream::StreamSubject;
pub use watch::LiveStreams;

#[cfg(test)]
mod tests;
