//! Keygate's own operations, which the contract does not have, below `/keygate/v1`.

pub(super) mod admin_keys;
pub(super) mod audit_chain;
pub(super) mod audit_events;
pub(super) mod caller;
pub(super) mod config;
pub(super) mod explain;
mod form;
pub(super) mod introspect;
mod introspection;
pub(super) mod keys;
pub(super) mod nodes;
mod oauth_error;
pub(super) mod rate_limit;
mod routes;
pub(super) mod schemas;
pub(super) mod top_keys;
pub(super) mod usage;

pub use admin_keys::{AdminKey, NewAdminKeyResponse};
pub(super) use routes::routes;
