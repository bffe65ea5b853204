//! Limits of a request head in HTTP/2. The front door of HTTP/1.1 has them, too, but HTTP/2 itself has not.

use http::Method;
use pingora::http::RequestHeader;

use crate::config::ListenerLimits;
use crate::pipeline::Rejection;

/// Why a head is refused, by the same limits as in HTTP/1.1; `None` if it is not.
pub(super) fn check_head(head: &RequestHeader, limits: &ListenerLimits) -> Option<Rejection> {
    if matches!(head.method, Method::CONNECT | Method::TRACE) {
        Some(Rejection::MethodNotAllowed)
    } else if head.raw_path().len() > limits.target_bytes {
        Some(Rejection::TargetTooLong)
    } else if head.headers.len() > limits.head_fields {
        Some(Rejection::HeadTooLarge)
    } else {
        None
    }
}
