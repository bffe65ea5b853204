//! What the access log says about the upstream of a request.

use std::sync::Arc;
use std::time::Duration;

/// The upstream's part of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamLog {
    /// The name of the upstream.
    pub upstream: Arc<str>,
    /// The address of the last endpoint, or `unix:` and the path of its socket; `None` if none was tried.
    pub endpoint: Option<Arc<str>>,
    /// How many times an endpoint was tried, including connections that could not be established.
    pub attempts: u32,
    /// Time to establish the connection of the last attempt; `None` for a pooled connection.
    pub connect: Option<Duration>,
    /// Time from the selection of the endpoint to the head of the response; `None` without a response.
    pub first_byte: Option<Duration>,
}
