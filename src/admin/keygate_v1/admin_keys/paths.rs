//! The paths of the operations.

pub(super) const ADMIN_KEYS: &str = "/keygate/v1/adminKeys";
pub(super) const ADMIN_KEY: &str = "/keygate/v1/adminKeys/{key_id}";
