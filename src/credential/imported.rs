//! Ids of imported keys: a digest of tenant and raw key (contract, credentials section 3).

use sha2::{Digest, Sha512_256};

use crate::id::{KeyId, TenantId};

/// The id of a raw key in a tenant: SHA-512/256 over the tenant id, a zero byte and the raw key. Only the id is stored.
pub fn imported_key_id(tenant: TenantId, raw_key: &str) -> KeyId {
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    let tenant = tenant.0.as_hyphenated().encode_lower(&mut text);
    let digest =
        Sha512_256::new().chain_update(tenant.as_bytes()).chain_update([0]).chain_update(raw_key.as_bytes()).finalize();
    KeyId::Imported(digest.into())
}
