//! Keygate's own operations, which the contract does not have, below `/keygate/v1`.

mod admin_keys;
mod audit_chain;
mod audit_events;
mod caller;
mod config;
mod explain;
mod form;
mod introspect;
mod introspection;
mod keys;
mod nodes;
mod oauth_error;
mod rate_limit;
mod routes;
mod top_keys;
mod usage;

pub use admin_keys::{AdminKey, NewAdminKeyResponse};
pub(super) use routes::routes;
