//! Requests for new keys: the members that issue and import have in common (contract, admin API sections 5.1 and 5.6).

use serde::Deserialize;
use utoipa::ToSchema;

use super::enums::KeyVisibility;
use super::key::{IpRestriction, RateLimitPolicy, read_ttl};
use super::schemas::ScopeText;
use crate::admin::error::ApiError;
use crate::admin::json::EnumOrUnknown;
use crate::cidr::CidrSet;
use crate::key::{KeyDraft, Metadata};
use crate::lifecycle::ImportKey;

/// Declares a request with the members of a new key, and more.
macro_rules! key_request {
    ($(#[$meta:meta])* $name:ident { $($(#[$more_meta:meta])* $more:ident: $kind:ty,)* }) => {
        $(#[$meta])*
        #[derive(Deserialize, ToSchema)]
        pub(in crate::admin) struct $name {
            $($(#[$more_meta])* $more: $kind,)*
            /// A display name, 1 to 255 characters.
            #[schema(required, nullable = false, min_length = 1, max_length = 255)]
            name: Option<String>,
            /// The owner of the key, 1 to 255 characters.
            #[serde(alias = "actorId")]
            #[schema(required, nullable = false, min_length = 1, max_length = 255)]
            actor_id: Option<String>,
            /// The scopes, at most 100 of 1 to 100 characters each.
            #[schema(value_type = Vec<ScopeText>, inline, max_items = 100, required = false)]
            scopes: Option<Vec<String>>,
            /// The lifetime, such as `12h` or `30d`; the configured default if absent.
            #[schema(nullable = false, pattern = "^([0-9]+(\\.[0-9]+)?(ns|us|µs|ms|s|m|h|d|w|mo|y))+$")]
            ttl: Option<String>,
            /// Custom data, at most 65536 bytes as JSON.
            #[schema(value_type = Object, required = false)]
            metadata: Option<Metadata>,
            #[serde(alias = "rateLimitPolicy")]
            #[schema(nullable = false)]
            rate_limit_policy: Option<RateLimitPolicy>,
            #[serde(alias = "ipRestriction")]
            #[schema(nullable = false)]
            ip_restriction: Option<IpRestriction>,
            /// An idempotency key: a repeated request returns the key of the first one. At most 36 characters.
            #[serde(alias = "requestId")]
            #[schema(nullable = false, max_length = 36)]
            request_id: Option<String>,
            #[schema(value_type = KeyVisibility, required = false)]
            visibility: Option<EnumOrUnknown<KeyVisibility>>,
        }

        impl $name {
            fn draft(self) -> Result<KeyDraft, ApiError> {
                Ok(KeyDraft {
                    name: self.name.unwrap_or_default(),
                    actor_id: self.actor_id.unwrap_or_default(),
                    scopes: self.scopes.unwrap_or_default(),
                    ttl: read_ttl(self.ttl.as_deref())?,
                    metadata: self.metadata.unwrap_or_default(),
                    rate_limit: self.rate_limit_policy.as_ref().map(RateLimitPolicy::read).transpose()?,
                    networks: self.ip_restriction.as_ref().map_or(Ok(CidrSet::default()), IpRestriction::read)?,
                    request_id: self.request_id,
                    visibility: self.visibility.and_then(|value| value.0).and_then(KeyVisibility::read).unwrap_or_default(),
                })
            }
        }
    };
}

key_request! {
    /// A request to issue a key.
    IssueApiKeyRequest {}
}

key_request! {
    /// A request to import a key that was generated elsewhere.
    ImportApiKeyRequest {
        /// The credential that clients present, 1 to 8192 bytes. It is not stored.
        #[serde(alias = "rawKey")]
        #[schema(required, nullable = false, min_length = 1, max_length = 8192)]
        raw_key: Option<String>,
    }
}

impl IssueApiKeyRequest {
    /// Converts the request.
    pub(super) fn read(self) -> Result<KeyDraft, ApiError> {
        self.draft()
    }
}

impl ImportApiKeyRequest {
    /// Converts the request.
    pub(super) fn read(mut self) -> Result<ImportKey, ApiError> {
        let raw_key = self.raw_key.take().unwrap_or_default().into();
        Ok(ImportKey { raw_key, draft: self.draft()? })
    }
}
