//! What tests start and stop: Keygate itself, upstreams that record, servers that are thrown away.

pub(crate) mod admin;
pub(crate) mod authority;
pub(crate) mod keygate;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod servers;
pub(crate) mod upstream;
mod wait;

pub(crate) use wait::{eventually, free_port};
