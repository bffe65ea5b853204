//! The paths of the operations.

pub(super) const ISSUED: &str = "/v2alpha1/admin/issuedApiKeys";
pub(super) const ISSUED_KEY: &str = "/v2alpha1/admin/issuedApiKeys/{key_id}";
pub(super) const IMPORTED: &str = "/v2alpha1/admin/importedApiKeys";
pub(super) const IMPORTED_KEY: &str = "/v2alpha1/admin/importedApiKeys/{key_id}";
pub(super) const BATCH_CREATE: &str = "/v2alpha1/admin/importedApiKeys:batchCreate";
pub(super) const VERIFY: &str = "/v2alpha1/admin/apiKeys:verify";
pub(super) const BATCH_VERIFY: &str = "/v2alpha1/admin/apiKeys:batchVerify";
pub(super) const DERIVE: &str = "/v2alpha1/admin/apiKeys:derive";
pub(super) const JWKS: &str = "/v2alpha1/derivedKeys/jwks.json";
pub(super) const SELF_REVOKE: &str = "/v2alpha1/apiKeys:selfRevoke";
/// The paths of older clients.
pub(super) const BATCH_IMPORT: &str = "/v2alpha1/admin/importedApiKeys:batchImport";
pub(super) const LEGACY_JWKS: &str = "/v2alpha1/admin/derivedKeys/jwks.json";
pub(super) const EITHER_KEY: &str = "/v2alpha1/admin/apiKeys/{key_id}";
