//! The reverse proxy. The steps of a request (route, extract, decide, edit, account) are functions over plain values and
//! `http` types; `proxy` alone knows pingora's session.

pub mod account;
pub mod decide;
pub mod forward;
pub mod heads;
pub mod limit;
pub mod path;
mod proxy;
mod refuse;
pub mod route;
mod service;
pub mod upstream;

pub use service::{Gateway, GatewayError};
