//! Commands, and the limits that their fields must keep (contract, admin API sections 4.2 and 5.5).

use std::time::Duration;

use super::limits::{InvalidField, NAME_MAX, check_metadata, check_networks, check_scopes, invalid, length};
use super::{Metadata, Revocation, RevocationReason};
use crate::cidr::CidrSet;
use crate::policy::{RateLimitPolicy, Visibility};

const REQUEST_ID_MAX: usize = 36;
const DESCRIPTION_MAX: usize = 500;

/// A key that somebody wants.
#[derive(Debug, Clone, Default)]
pub struct KeyDraft {
    /// 1 to 255 characters.
    pub name: String,
    /// 1 to 255 characters.
    pub actor_id: String,
    /// At most 100, each of 1 to 100 characters.
    pub scopes: Vec<String>,
    /// Life from now; the configured default when absent.
    pub ttl: Option<Duration>,
    /// At most 65536 bytes as JSON.
    pub metadata: Metadata,
    /// No limit when absent.
    pub rate_limit: Option<RateLimitPolicy>,
    /// At most 50 ranges; no restriction when empty.
    pub networks: CidrSet,
    /// Makes a repeated call return the first call's key; at most 36 characters, none when empty.
    pub request_id: Option<String>,
    /// Whether the key may be shown.
    pub visibility: Visibility,
}

/// The end of a key that somebody wants.
#[derive(Debug, Clone, Default)]
pub struct RevokeKey {
    /// The kind of reason.
    pub reason: RevocationReason,
    /// Only with [`RevocationReason::PrivilegeWithdrawn`], at most 500 characters.
    pub description: Option<String>,
}

impl KeyDraft {
    /// Checks every limit that needs no configuration.
    ///
    /// # Errors
    /// The first field that breaks its limit.
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
    /// Checks the limits of a revocation.
    ///
    /// # Errors
    /// A description with another reason, or one that is too long.
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
    fn limits_hold_at_their_edges() {
        let cases: [(&str, KeyDraft, bool); 10] = [
            ("plain", draft(), true),
            ("no name", KeyDraft { name: String::new(), ..draft() }, false),
            ("longest name", KeyDraft { name: "é".repeat(255), ..draft() }, true),
            ("longer name", KeyDraft { name: "é".repeat(256), ..draft() }, false),
            ("NUL", KeyDraft { actor_id: "a\0".into(), ..draft() }, false),
            ("100 scopes", KeyDraft { scopes: vec!["s".into(); 100], ..draft() }, true),
            ("101 scopes", KeyDraft { scopes: vec!["s".into(); 101], ..draft() }, false),
            ("empty scope", KeyDraft { scopes: vec![String::new()], ..draft() }, false),
            ("request id", KeyDraft { request_id: Some("x".repeat(36)), ..draft() }, true),
            ("long request id", KeyDraft { request_id: Some("x".repeat(37)), ..draft() }, false),
        ];
        for (name, draft, good) in cases {
            assert_eq!(draft.check().is_ok(), good, "{name}");
        }
    }

    #[test]
    fn metadata_is_bounded_as_json() {
        let with = |length: usize| KeyDraft {
            metadata: Metadata::from_iter([("k".to_owned(), "x".repeat(length).into())]),
            ..draft()
        };
        // {"k":"…"} takes eight bytes beside the value.
        assert!(with(METADATA_MAX - 8).check().is_ok());
        assert!(with(METADATA_MAX - 7).check().is_err());
    }

    #[test]
    fn a_description_needs_its_reason() {
        let revoke = |reason, text: &str| RevokeKey { reason, description: Some(text.into()) }.check();
        assert!(revoke(RevocationReason::PrivilegeWithdrawn, "left").is_ok());
        assert!(revoke(RevocationReason::PrivilegeWithdrawn, &"x".repeat(501)).is_err());
        assert!(revoke(RevocationReason::KeyCompromise, "left").is_err());
        assert_eq!(revoke(RevocationReason::KeyCompromise, "").unwrap().description, None);
    }
}
