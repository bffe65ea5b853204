//! Who may call the admin API: roles, the table of operations, admin keys and their verification.

mod authenticator;
mod grant;
mod operation;
mod role;

pub(super) use authenticator::{AuthenticatedCaller, Presentation};
pub use authenticator::{Authenticator, AuthenticatorParts};
pub(super) use grant::PREFIX_MAX as ACTOR_PREFIX_MAX;
pub use grant::{AdminGrant, NewAdminKey};
#[cfg(test)]
pub(crate) use operation::operations;
pub(super) use operation::{Access, Op, Operation, op};
pub use role::Role;
