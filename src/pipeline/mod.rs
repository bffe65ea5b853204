//! The steps of a request, the same for every front: route, authorize, limit, edit headers, log.
//!
//! A front keeps the bytes, the connection and the upstream; the pipeline keeps the decisions. It names no server library, reads a
//! head through a borrowed view ([`RequestHead`]) and returns edits as data ([`FieldEdits`]).
//!
//! - [`Exchange`] carries one request from its head to its response; [`Connection`] is what is kept between requests.
//! - [`Snapshot`] is everything that requests need from the configuration, immutable.
//! - [`route`], [`path`]: route matching on normalized paths.
//! - `authorize`, `rate_limit`: credential, scopes, rate limits. `auth_failures`: addresses that repeatedly present rejected credentials.
//! - `explain`: the same steps for an administrator, without effects.
//! - `route_response`, `own_response`: responses that a route makes itself; `template`: their variables.
//! - `forward`: requests for upstreams and their responses; `rewrite`: other paths for upstreams; `location`: the way back.
//! - [`headers`]: which fields pass, in both directions; `header_rules`: what a route changes.
//! - [`access_log`], `log_line`: the log line of a request; `request_metrics`: its metrics; `trace`: its trace context; `spans`: its spans.

pub mod access_log;
mod auth_failures;
#[doc(hidden)]
pub mod authorize;
mod client_certificate;
mod connection;
mod cors;
mod credential_strip;
mod cross_origin;
mod error_type;
mod exchange;
mod explain;
mod forward;
mod head;
mod header_rules;
pub mod headers;
mod host;
#[doc(hidden)]
pub mod live_streams;
mod location;
mod log_line;
mod method;
mod overload;
mod own_response;
pub mod path;
#[doc(hidden)]
pub mod rate_limit;
mod request_metrics;
mod rewrite;
pub mod route;
mod route_response;
mod snapshot;
mod spans;
mod steps;
mod template;
mod trace;
mod unread;

pub use access_log::{ResponseInfo, UpstreamInfo};
#[doc(hidden)]
pub use auth_failures::{AuthFailureMetrics, AuthFailureThrottle, Delay};
pub use connection::{Connection, ListenerTrust};
pub use exchange::{Exchange, RequestEdits};
#[doc(hidden)]
pub use explain::{ExplainRequest, ExplainSubject, Explanation, StepOutcome};
pub use forward::UpstreamAddress;
pub use head::{RequestHead, Target};
pub use headers::FieldEdits;
#[doc(hidden)]
pub use log_line::AccessLogSink;
#[doc(hidden)]
pub use overload::ListenerLoad;
pub use rate_limit::RateLimitOutcome;
pub use request_metrics::{LATENCY_BUCKETS, Metrics, RequestPath};
pub use route::Route;
pub use snapshot::{CurrentSnapshot, Snapshot, SnapshotParts};
#[doc(hidden)]
pub use spans::PlainRequest;
#[doc(hidden)]
pub use trace::RequestTrace;
#[doc(hidden)]
pub use unread::UnreadRequest;

pub use crate::wire::credential_locations::CredentialLocations;
pub use crate::wire::problem::ResponseForm;
pub use crate::wire::{Rejection, ShedReason};
