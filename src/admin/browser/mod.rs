//! Requests of browsers: those that a foreign web page makes are refused, and those of allowed origins get CORS headers.

mod cors;
mod guard;
mod host;
mod origin;

pub use cors::Cors;
pub use guard::BrowserRules;
pub(super) use guard::guard;
pub use host::AllowedHosts;
pub(super) use origin::Site;
