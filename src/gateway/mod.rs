//! The reverse proxy on pingora: listener, upstreams, and the front that calls the [`pipeline`](crate::pipeline) for every request.

mod accepted;
mod body_limit;
mod connection;
mod context;
mod deadline;
mod ending;
mod failure;
mod forwarding;
pub mod head_edits;
mod head_limits;
mod http1;
mod http2;
mod pingora;
mod reload;
mod request_state;
mod respond;
mod service;
mod socket;
mod stopping;
mod supervision;
mod timed_session;
mod timeouts;
mod upgrade_socket;
pub mod upstream;
mod workers;

#[doc(hidden)]
pub use http1::{Forwarded, ForwardedRequest, TranslatedResponse, exchange_heads, forward, translate_response};
pub use reload::{GatewayReload, NewGatewaySettings};
pub use service::{Gateway, GatewayError, GatewayListener};
pub use upstream::{Upstreams, UpstreamsError, check_upstream_files};
