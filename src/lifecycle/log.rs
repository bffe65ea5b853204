//! The log lines of changes.

/// Logs a change of a key at level info, with tenant, principal and request id of its [`RequestContext`].
///
/// [`RequestContext`]: crate::request_context::RequestContext
macro_rules! log_change {
    ($context:expr, $($rest:tt)*) => {
        tracing::info!(
            tenant = %$context.tenant,
            principal = %$context.principal,
            request_id = %$context.request_id,
            $($rest)*
        )
    };
}
pub(super) use log_change;
