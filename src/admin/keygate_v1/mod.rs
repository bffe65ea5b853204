//! Keygate's own operations, which the contract does not have, below `/keygate/v1`.

mod audit_events;
mod form;
mod introspect;
mod introspection;
mod oauth_error;
mod routes;

pub(super) use routes::routes;
