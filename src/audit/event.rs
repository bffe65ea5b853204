//! The names of events (contract, operations section 7), and Keygate's own.

use crate::id::{KeyId, KeyKind};

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditEvent {
    /// A key was issued.
    IssuedKeyCreated,
    /// A key was imported.
    ImportedKeyCreated,
    /// Fields of an issued key were changed.
    IssuedKeyUpdated,
    /// Fields of an imported key were changed.
    ImportedKeyUpdated,
    /// An issued key was revoked, by an administrator, by its holder or by a rotation.
    IssuedKeyRevoked,
    /// An imported key was revoked, by an administrator or by its holder.
    ImportedKeyRevoked,
    /// A key was issued that replaces another one.
    IssuedKeyRotated,
    /// An issued key was deleted.
    IssuedKeyDeleted,
    /// An imported key was deleted.
    ImportedKeyDeleted,
    /// An issued key was deleted some time after its expiry.
    IssuedKeyPurged,
    /// An imported key was deleted some time after its expiry.
    ImportedKeyPurged,
    /// A key of a batch was not imported.
    KeyImportFailed,
    /// A token was derived from a key.
    TokenDerived,
    /// Credentials that the admin API verified were not valid.
    VerificationFailed,
    /// Calls of the admin API were refused.
    CallsRefused,
    /// The heads of chains were recorded.
    Checkpoint,
}

impl AuditEvent {
    /// All events.
    pub const ALL: [Self; 16] = [
        Self::IssuedKeyCreated,
        Self::ImportedKeyCreated,
        Self::IssuedKeyUpdated,
        Self::ImportedKeyUpdated,
        Self::IssuedKeyRevoked,
        Self::ImportedKeyRevoked,
        Self::IssuedKeyRotated,
        Self::IssuedKeyDeleted,
        Self::ImportedKeyDeleted,
        Self::IssuedKeyPurged,
        Self::ImportedKeyPurged,
        Self::KeyImportFailed,
        Self::TokenDerived,
        Self::VerificationFailed,
        Self::CallsRefused,
        Self::Checkpoint,
    ];

    /// The name on the wire and in the database.
    pub fn name(self) -> &'static str {
        match self {
            Self::IssuedKeyCreated => "IssuedAPIKeyCreated",
            Self::ImportedKeyCreated => "ImportedAPIKeyCreated",
            Self::IssuedKeyUpdated => "IssuedAPIKeyUpdated",
            Self::ImportedKeyUpdated => "ImportedAPIKeyUpdated",
            Self::IssuedKeyRevoked => "IssuedAPIKeyRevoked",
            Self::ImportedKeyRevoked => "ImportedAPIKeyRevoked",
            Self::IssuedKeyRotated => "IssuedAPIKeyRotated",
            Self::IssuedKeyDeleted => "IssuedAPIKeyDeleted",
            Self::ImportedKeyDeleted => "ImportedAPIKeyDeleted",
            Self::IssuedKeyPurged => "IssuedAPIKeyPurged",
            Self::ImportedKeyPurged => "ImportedAPIKeyPurged",
            Self::KeyImportFailed => "APIKeyImportFailed",
            Self::TokenDerived => "APIKeyDerivedToken",
            Self::VerificationFailed => "APIKeyVerificationFailed",
            Self::CallsRefused => "AdminCallsRefused",
            Self::Checkpoint => "AuditCheckpoint",
        }
    }

    /// The operation that causes the event.
    pub fn operation(self) -> &'static str {
        match self {
            Self::IssuedKeyCreated => "issue",
            Self::ImportedKeyCreated | Self::KeyImportFailed => "import",
            Self::IssuedKeyUpdated | Self::ImportedKeyUpdated => "update",
            Self::IssuedKeyRevoked | Self::ImportedKeyRevoked => "revoke",
            Self::IssuedKeyRotated => "rotate",
            Self::IssuedKeyDeleted | Self::ImportedKeyDeleted => "delete",
            Self::IssuedKeyPurged | Self::ImportedKeyPurged => "purge",
            Self::TokenDerived => "derive",
            Self::VerificationFailed => "verify",
            Self::CallsRefused => "refuse",
            Self::Checkpoint => "checkpoint",
        }
    }

    /// The events with this name or of this operation; none if there is no such name.
    pub fn named(text: &str) -> Vec<Self> {
        Self::ALL.into_iter().filter(|event| event.name() == text || event.operation() == text).collect()
    }

    pub(super) fn created(id: KeyId) -> Self {
        Self::of(id, Self::IssuedKeyCreated, Self::ImportedKeyCreated)
    }

    pub(super) fn updated(id: KeyId) -> Self {
        Self::of(id, Self::IssuedKeyUpdated, Self::ImportedKeyUpdated)
    }

    pub(super) fn revoked(id: KeyId) -> Self {
        Self::of(id, Self::IssuedKeyRevoked, Self::ImportedKeyRevoked)
    }

    pub(super) fn deleted(id: KeyId) -> Self {
        Self::of(id, Self::IssuedKeyDeleted, Self::ImportedKeyDeleted)
    }

    pub(super) fn purged(id: KeyId) -> Self {
        Self::of(id, Self::IssuedKeyPurged, Self::ImportedKeyPurged)
    }

    fn of(id: KeyId, issued: Self, imported: Self) -> Self {
        match id.kind() {
            KeyKind::Issued => issued,
            KeyKind::Imported => imported,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_has_a_name_of_its_own_and_is_found_by_it() {
        for (index, event) in AuditEvent::ALL.into_iter().enumerate() {
            assert_eq!(AuditEvent::named(event.name()), [event]);
            assert!(AuditEvent::named(event.operation()).contains(&event));
            assert_eq!(event as usize, index, "the list is in order and complete");
        }
        assert_eq!(AuditEvent::named("revoke"), [AuditEvent::IssuedKeyRevoked, AuditEvent::ImportedKeyRevoked]);
        assert!(AuditEvent::named("nothing").is_empty());
    }
}
