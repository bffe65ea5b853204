//! The enums of the contract (admin API section 4.3).
#![expect(clippy::enum_variant_names, reason = "the names on the wire carry the name of the enum")]

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::admin::json::WireEnum;
use crate::key::EffectiveStatus;
use crate::lifecycle::BatchCode;
use crate::policy::Visibility;

/// Declares an enum with the names of the contract, and its numbers by the order of the values.
macro_rules! wire_enum {
    ($(#[$meta:meta])* $name:ident { $($value:ident,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
        #[serde(rename_all = "SCREAMING_SNAKE_CASE")]
        pub(in crate::admin) enum $name {
            $(#[doc = concat!("`", stringify!($value), "`")] $value,)*
        }

        impl WireEnum for $name {
            const VALUES: &'static [Self] = &[$(Self::$value,)*];
        }
    };
}

wire_enum! {
    /// The status of a key. `KEY_STATUS_EXPIRED` is computed when the key is read.
    KeyStatus { KeyStatusUnspecified, KeyStatusActive, KeyStatusRevoked, KeyStatusExpired, }
}

wire_enum! {
    /// Whether a key is secret or may be published.
    KeyVisibility { KeyVisibilityUnspecified, KeyVisibilitySecret, KeyVisibilityPublic, }
}

wire_enum! {
    /// Why a key was revoked.
    RevocationReason {
        RevocationReasonUnspecified,
        RevocationReasonKeyCompromise,
        RevocationReasonAffiliationChanged,
        RevocationReasonSuperseded,
        RevocationReasonPrivilegeWithdrawn,
    }
}

wire_enum! {
    /// The form of a derived token.
    TokenAlgorithm { TokenAlgorithmUnspecified, TokenAlgorithmJwt, TokenAlgorithmMacaroon, }
}

wire_enum! {
    /// Why a credential was rejected.
    VerificationErrorCode {
        VerificationErrorUnspecified,
        VerificationErrorInvalidFormat,
        VerificationErrorExpired,
        VerificationErrorRevoked,
        VerificationErrorNotFound,
        VerificationErrorSignatureInvalid,
        VerificationErrorInternal,
        VerificationErrorIpNotAllowed,
        VerificationErrorRateLimited,
        VerificationErrorAudienceMismatch,
    }
}

wire_enum! {
    /// Why an item of a batch was rejected.
    BatchCreateImportedApiKeysErrorCode {
        BatchCreateImportedApiKeysErrorUnspecified,
        BatchCreateImportedApiKeysErrorInvalidArgument,
        BatchCreateImportedApiKeysErrorAlreadyExists,
        BatchCreateImportedApiKeysErrorFailedPrecondition,
        BatchCreateImportedApiKeysErrorInternal,
        BatchCreateImportedApiKeysErrorResourceExhausted,
    }
}

wire_enum! {
    /// Why an item of a batch was rejected, for older clients.
    BatchImportErrorCode {
        BatchImportErrorUnspecified,
        BatchImportErrorInvalidArgument,
        BatchImportErrorAlreadyExists,
        BatchImportErrorFailedPrecondition,
        BatchImportErrorInternal,
        BatchImportErrorResourceExhausted,
    }
}

impl From<EffectiveStatus> for KeyStatus {
    fn from(status: EffectiveStatus) -> Self {
        match status {
            EffectiveStatus::Active => Self::KeyStatusActive,
            EffectiveStatus::Revoked => Self::KeyStatusRevoked,
            EffectiveStatus::Expired => Self::KeyStatusExpired,
        }
    }
}

impl From<Visibility> for KeyVisibility {
    fn from(visibility: Visibility) -> Self {
        match visibility {
            Visibility::Secret => Self::KeyVisibilitySecret,
            Visibility::Public => Self::KeyVisibilityPublic,
        }
    }
}

impl KeyVisibility {
    /// Converts the value; `None` if unspecified.
    pub(super) fn read(self) -> Option<Visibility> {
        match self {
            Self::KeyVisibilityUnspecified => None,
            Self::KeyVisibilitySecret => Some(Visibility::Secret),
            Self::KeyVisibilityPublic => Some(Visibility::Public),
        }
    }
}

impl KeyStatus {
    /// Whether the key is revoked; `None` if unspecified.
    pub(super) fn is_revoked(self) -> Option<bool> {
        match self {
            Self::KeyStatusUnspecified => None,
            Self::KeyStatusActive | Self::KeyStatusExpired => Some(false),
            Self::KeyStatusRevoked => Some(true),
        }
    }
}

impl From<crate::key::RevocationReason> for RevocationReason {
    fn from(reason: crate::key::RevocationReason) -> Self {
        use crate::key::RevocationReason as Domain;
        match reason {
            Domain::Unspecified => Self::RevocationReasonUnspecified,
            Domain::KeyCompromise => Self::RevocationReasonKeyCompromise,
            Domain::AffiliationChanged => Self::RevocationReasonAffiliationChanged,
            Domain::Superseded => Self::RevocationReasonSuperseded,
            Domain::PrivilegeWithdrawn => Self::RevocationReasonPrivilegeWithdrawn,
        }
    }
}

impl From<RevocationReason> for crate::key::RevocationReason {
    fn from(reason: RevocationReason) -> Self {
        match reason {
            RevocationReason::RevocationReasonUnspecified => Self::Unspecified,
            RevocationReason::RevocationReasonKeyCompromise => Self::KeyCompromise,
            RevocationReason::RevocationReasonAffiliationChanged => Self::AffiliationChanged,
            RevocationReason::RevocationReasonSuperseded => Self::Superseded,
            RevocationReason::RevocationReasonPrivilegeWithdrawn => Self::PrivilegeWithdrawn,
        }
    }
}

impl From<BatchCode> for BatchCreateImportedApiKeysErrorCode {
    fn from(code: BatchCode) -> Self {
        match code {
            BatchCode::Internal => Self::BatchCreateImportedApiKeysErrorInternal,
            BatchCode::AlreadyExists => Self::BatchCreateImportedApiKeysErrorAlreadyExists,
            BatchCode::InvalidArgument => Self::BatchCreateImportedApiKeysErrorInvalidArgument,
            BatchCode::FailedPrecondition => Self::BatchCreateImportedApiKeysErrorFailedPrecondition,
            BatchCode::ResourceExhausted => Self::BatchCreateImportedApiKeysErrorResourceExhausted,
        }
    }
}

impl From<BatchCode> for BatchImportErrorCode {
    fn from(code: BatchCode) -> Self {
        match code {
            BatchCode::Internal => Self::BatchImportErrorInternal,
            BatchCode::AlreadyExists => Self::BatchImportErrorAlreadyExists,
            BatchCode::InvalidArgument => Self::BatchImportErrorInvalidArgument,
            BatchCode::FailedPrecondition => Self::BatchImportErrorFailedPrecondition,
            BatchCode::ResourceExhausted => Self::BatchImportErrorResourceExhausted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wire_names_equal_domain_names() {
        for reason in crate::key::RevocationReason::ALL {
            let wire = serde_json::to_value(RevocationReason::from(reason)).unwrap();
            assert_eq!(wire, reason.name());
            assert_eq!(crate::key::RevocationReason::from(RevocationReason::from(reason)), reason);
        }
        for status in [EffectiveStatus::Active, EffectiveStatus::Revoked, EffectiveStatus::Expired] {
            assert_eq!(serde_json::to_value(KeyStatus::from(status)).unwrap(), status.name());
        }
        for code in BatchCode::ALL {
            let wire = serde_json::to_value(BatchCreateImportedApiKeysErrorCode::from(code)).unwrap();
            let name = format!("BATCH_CREATE_IMPORTED_API_KEYS_ERROR_{}", code.name());
            assert_eq!(wire, name);
            let older = serde_json::to_value(BatchImportErrorCode::from(code)).unwrap();
            assert_eq!(older, format!("BATCH_IMPORT_ERROR_{}", code.name()));
        }
    }
}
