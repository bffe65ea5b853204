//! Admin keys: create, list, get, rotate, revoke.

mod admin_key;
pub(in crate::admin) mod operations;
mod paths;
mod request;
mod routes;

pub use admin_key::{AdminKey, NewAdminKeyResponse};
pub(super) use routes::routes;
