//! Keygate's own operations, which the contract does not have, below `/keygate/v1`.

mod explain;
mod form;
mod introspect;
mod introspection;
mod oauth_error;
mod routes;

pub(super) use routes::routes;
