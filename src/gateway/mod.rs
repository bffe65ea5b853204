//! The gateway.
pub mod forward;
pub mod path;
pub mod route;
