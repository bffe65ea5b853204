//! Commands that create and revoke keys, and the limits of their fields (contract, admin API sections 4.2 and 5.5).

use std::time::Duration;

use super::api_key::Metadata;
use super::limits::{InvalidField, NAME_MAX, check_metadata, check_networks, check_scopes, invalid, length};
use super::status::{Revocation, RevocationReason};
use crate::cidr::CidrSet;
use crate::policy::{RateLimitPolicy, Visibility};

const REQUEST_ID_MAX: usize = 36;
const DESCRIPTION_MAX: usize = 500;

/// Fields of a key to create.
#[derive(Debug, Clone, Default)]
pub struct KeyDraft {
    /// 1 to 255 characters.
    pub name: String,
    /// 1 to 255 characters.
    pub actor_id: String,
    /// At most 100 scopes, each of 1 to 100 characters.
    pub scopes: Vec<String>,
    /// Time to live; `None` selects the configured default.
    pub ttl: Option<Duration>,
    /// At most 65536 bytes when serialized as JSON.
    pub metadata: Metadata,
    /// Rate limit of the key; `None` for no limit.
    pub rate_limit: Option<RateLimitPolicy>,
    /// At most 50 ranges; an empty set allows all client addresses.
    pub networks: CidrSet,
    /// Idempotency key: a repeated call returns the key of the first call. At most 36 characters; empty counts as absent.
    pub request_id: Option<String>,
    /// Whether the key is secret or public.
    pub visibility: Visibility,
}

/// Arguments of a revocation.
#[derive(Debug, Clone, Default)]
pub struct RevokeKey {
    /// The reason.
    pub reason: RevocationReason,
    /// Explanation of the reason, at most 500 characters; only with [`RevocationReason::PrivilegeWithdrawn`].
    pub description: Option<String>,
}

impl KeyDraft {
    /// Checks every limit that does not depend on the configuration.
    ///
    /// # Errors
    /// [`InvalidField`] for the first field that violates a limit.
    pub fn check(&self) -> Result<(), InvalidField> {
        length("name", &self.name, 1, NAME_MAX)?;
        length("actor_id", &self.actor_id, 1, NAME_MAX)?;
        check_scopes(&self.scopes)?;
        check_metadata(&self.metadata)?;
        check_networks(&self.networks)?;
        self.request_id.iter().try_for_each(|id| length("request_id", id, 0, REQUEST_ID_MAX))
    }
}

impl RevokeKey {
    /// Checks the arguments and returns the revocation.
    ///
    /// # Errors
    /// [`InvalidField`] for a description with a different reason, or one that is too long.
    pub fn check(self) -> Result<Revocation, InvalidField> {
        let description = self.description.filter(|text| !text.is_empty());
        if let Some(text) = &description {
            if self.reason != RevocationReason::PrivilegeWithdrawn {
                return invalid("description is only allowed when reason is PRIVILEGE_WITHDRAWN");
            }
            length("description", text, 0, DESCRIPTION_MAX)?;
        }
        Ok(Revocation { reason: self.reason, description })
    }
}

#[cfg(test)]
mod tests {
    use super::super::limits::METADATA_MAX;
    use super::*;

    fn draft() -> KeyDraft {
        KeyDraft { name: "n".into(), actor_id: "a".into(), ..KeyDraft::default() }
    }

    #[test]
    fn field_limits_are_inclusive() {
        let cases: [(&str, KeyDraft, bool); 10] = [
            ("minimal", draft(), true),
            ("no name", KeyDraft { name: String::new(), ..draft() }, false),
            ("longest name", KeyDraft { name: "é".repeat(255), ..draft() }, true),
            ("name too long", KeyDraft { name: "é".repeat(256), ..draft() }, false),
            ("NUL", KeyDraft { actor_id: "a\0".into(), ..draft() }, false),
            ("100 scopes", KeyDraft { scopes: vec!["s".into(); 100], ..draft() }, true),
            ("101 scopes", KeyDraft { scopes: vec!["s".into(); 101], ..draft() }, false),
            ("empty scope", KeyDraft { scopes: vec![String::new()], ..draft() }, false),
            ("request id", KeyDraft { request_id: Some("x".repeat(36)), ..draft() }, true),
            ("request id too long", KeyDraft { request_id: Some("x".repeat(37)), ..draft() }, false),
        ];
        for (name, draft, valid) in cases {
            assert_eq!(draft.check().is_ok(), valid, "{name}");
        }
    }

    #[test]
    fn metadata_limit_applies_to_its_json() {
        let with = |length: usize| KeyDraft {
            metadata: Metadata::from_iter([("k".to_owned(), "x".repeat(length).into())]),
            ..draft()
        };
        // {"k":"…"} adds eight bytes to the value.
        assert!(with(METADATA_MAX - 8).check().is_ok());
        assert!(with(METADATA_MAX - 7).check().is_err());
    }

    #[test]
    fn description_is_accepted_only_with_privilege_withdrawn() {
        let revoke = |reason, text: &str| RevokeKey { reason, description: Some(text.into()) }.check();
        assert!(revoke(RevocationReason::PrivilegeWithdrawn, "left").is_ok());
        assert!(revoke(RevocationReason::PrivilegeWithdrawn, &"x".repeat(501)).is_err());
        assert!(revoke(RevocationReason::KeyCompromise, "left").is_err());
        assert_eq!(revoke(RevocationReason::KeyCompromise, "").unwrap().description, None);
    }
}
