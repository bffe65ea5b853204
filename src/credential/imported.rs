//! Imported keys: named by a digest that binds the raw key to its tenant (contract, credentials section 3).

use sha2::{Digest, Sha512_256};

use crate::id::{KeyId, TenantId};

/// The id under which a raw key is stored, so that the raw key itself never has to be.
pub fn imported_key_id(tenant: TenantId, raw_key: &str) -> KeyId {
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    let tenant = tenant.0.as_hyphenated().encode_lower(&mut text);
    let digest =
        Sha512_256::new().chain_update(tenant.as_bytes()).chain_update([0]).chain_update(raw_key.as_bytes()).finalize();
    KeyId::Imported(digest.into())
}
