//! The operations, one file each, and their routes.

pub(super) mod batch_create;
pub(super) mod delete;
pub(super) mod derive;
mod draft;
pub(super) mod enums;
mod failed_verification;
pub(super) mod get;
pub(super) mod import;
pub(super) mod issue;
pub(super) mod jwks;
pub(super) mod key;
pub(super) mod list;
mod paths;
mod read_key;
pub(super) mod revoke;
pub(super) mod rotate;
mod routes;
mod schemas;
pub(super) mod self_revoke;
pub(super) mod update;
pub(super) mod verify;

pub use read_key::read_key;
pub(super) use routes::{public_routes, routes};
