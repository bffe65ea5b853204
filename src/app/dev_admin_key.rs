//! The admin key of `keygate dev`. Its text is not stored, so each start issues a new one and revokes those of earlier starts.

use secrecy::SecretString;

use crate::admin::{AdminGrant, NewAdminKey};
use crate::id::{KeyKind, TenantId};
use crate::key::{RevocationReason, RevokeKey};
use crate::lifecycle::{Lifecycle, LifecycleError, ListKeys};
use crate::request_context::RequestContext;

/// The name of the key.
const NAME: &str = "keygate dev";

/// Issues an admin key with every role, and revokes the active ones of earlier starts.
pub(super) async fn replace(admin_keys: &Lifecycle) -> Result<SecretString, LifecycleError> {
    let context = RequestContext::system(TenantId::ADMIN);
    let active = ListKeys { page_size: 1000, filter: "status=KEY_STATUS_ACTIVE".into(), ..ListKeys::default() };
    let page = admin_keys.list(&context, KeyKind::Issued, &active).await?;
    for key in page.keys.iter().filter(|key| key.name == NAME) {
        let command = RevokeKey { reason: RevocationReason::Superseded, description: None };
        match admin_keys.revoke(&context, key.id, command).await {
            Ok(()) | Err(LifecycleError::AlreadyRevoked) => {}
            Err(error) => return Err(error),
        }
    }
    let issued = admin_keys.issue(&context, NewAdminKey::new(NAME, AdminGrant::full()).draft()).await?;
    // Without a request id every call returns a secret.
    issued.secret.ok_or_else(|| LifecycleError::Internal("the new admin key has no secret".into()))
}
