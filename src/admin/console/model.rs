//! What the pages read of the responses of the API.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::clock::Timestamp;
use crate::id::{KeyId, KeyKind};

/// The caller of the API.
#[derive(Clone, Deserialize)]
pub(super) struct Caller {
    /// The id of the admin key, or `bootstrap`.
    pub(super) name: String,
    pub(super) roles: Vec<String>,
    /// Prefixes of actors; empty for every actor.
    pub(super) actors: Vec<String>,
}

/// A key of either kind.
#[derive(Clone, Deserialize)]
pub(super) struct Key {
    #[serde(rename = "key_id")]
    pub(super) id: String,
    pub(super) name: String,
    pub(super) actor_id: String,
    pub(super) scopes: Vec<String>,
    pub(super) metadata: Option<Map<String, Value>>,
    pub(super) status: String,
    pub(super) visibility: String,
    pub(super) create_time: Timestamp,
    pub(super) update_time: Timestamp,
    pub(super) expire_time: Option<Timestamp>,
    pub(super) revoke_time: Option<Timestamp>,
    pub(super) replaced_by: Option<String>,
    pub(super) last_used_time: Option<Timestamp>,
    pub(super) rate_limit_policy: Option<RateLimit>,
    pub(super) revocation_reason: Option<String>,
    pub(super) revocation_description: Option<String>,
    pub(super) ip_restriction: Option<IpRestriction>,
}

/// The limit of a key.
#[derive(Clone, Deserialize)]
pub(super) struct RateLimit {
    pub(super) quota: String,
    /// Seconds and `s`.
    pub(super) window: String,
}

/// The addresses that may use a key.
#[derive(Clone, Deserialize)]
pub(super) struct IpRestriction {
    #[serde(default)]
    pub(super) allowed_cidrs: Vec<String>,
}

/// What is left of the limit of a key.
#[derive(Deserialize)]
pub(super) struct KeyRateLimit {
    pub(super) rate_limit: Option<RateLimitState>,
}

#[derive(Deserialize)]
pub(super) struct RateLimitState {
    pub(super) quota: u64,
    pub(super) remaining: u64,
    pub(super) reset_seconds: f64,
}

/// A page of keys.
#[derive(Deserialize)]
pub(super) struct KeyPage {
    pub(super) keys: Vec<Key>,
    pub(super) next_page_token: String,
}

/// The number of inactive keys.
#[derive(Deserialize)]
pub(super) struct InactiveKeys {
    pub(super) count: u64,
    pub(super) is_complete: bool,
}

/// The use of a key.
#[derive(Deserialize)]
pub(super) struct Usage {
    pub(super) total: UsageCounts,
    pub(super) periods: Vec<UsagePeriod>,
    pub(super) requests_without_key: u64,
}

/// The use in a period.
#[derive(Deserialize)]
pub(super) struct UsagePeriod {
    pub(super) start: Timestamp,
    #[serde(flatten)]
    pub(super) counts: UsageCounts,
}

/// Numbers of requests.
#[derive(Clone, Deserialize)]
pub(super) struct UsageCounts {
    pub(super) requests: u64,
    pub(super) refused: u64,
    pub(super) refusals: BTreeMap<String, u64>,
}

/// The state of the latest rows of the audit trail.
#[derive(Deserialize)]
pub(super) struct AuditChain {
    pub(super) first_row: i64,
    pub(super) last_row: i64,
    pub(super) is_intact: bool,
    pub(super) problem_count: usize,
}

/// A page of the audit trail.
#[derive(Default, Deserialize)]
pub(super) struct AuditPage {
    pub(super) audit_events: Vec<AuditEvent>,
    pub(super) next_page_token: String,
}

/// A row of the audit trail.
#[derive(Clone, Deserialize)]
pub(super) struct AuditEvent {
    pub(super) id: String,
    pub(super) time: Timestamp,
    pub(super) event: String,
    pub(super) principal: String,
    pub(super) client_ip: Option<String>,
    #[serde(default)]
    pub(super) request_id: String,
    #[serde(default)]
    pub(super) tenant: String,
    pub(super) key_id: Option<String>,
    pub(super) actor_id: Option<String>,
    pub(super) before: Option<Value>,
    pub(super) after: Option<Value>,
    pub(super) details: Option<Value>,
    pub(super) chain: Option<String>,
    pub(super) seq: Option<i64>,
}

/// An admin key.
#[derive(Clone, Deserialize)]
pub(super) struct AdminKey {
    #[serde(rename = "key_id")]
    pub(super) id: String,
    pub(super) name: String,
    pub(super) roles: Vec<String>,
    /// Prefixes of actors; empty for every actor.
    pub(super) actors: Vec<String>,
    pub(super) status: String,
    pub(super) create_time: Timestamp,
    pub(super) expire_time: Option<Timestamp>,
    pub(super) last_used_time: Option<Timestamp>,
}

impl AdminKey {
    /// Whether the key is accepted now.
    pub(super) fn is_active(&self) -> bool {
        self.status == "KEY_STATUS_ACTIVE"
    }

    /// The status in one word.
    pub(super) fn status_word(&self) -> &'static str {
        match self.status.as_str() {
            "KEY_STATUS_ACTIVE" => "Active",
            "KEY_STATUS_REVOKED" => "Revoked",
            _ => "Expired",
        }
    }
}

impl Caller {
    /// Whether the caller may read keys.
    pub(super) fn can_read(&self) -> bool {
        self.has("read")
    }

    /// Whether the caller may judge credentials.
    pub(super) fn can_verify(&self) -> bool {
        self.has("verify")
    }

    /// Whether the caller may change keys.
    pub(super) fn can_manage(&self) -> bool {
        self.has("manage")
    }

    /// Whether the caller may change admin keys.
    pub(super) fn can_administrate(&self) -> bool {
        self.has("admin")
    }

    fn has(&self, role: &str) -> bool {
        self.roles.iter().any(|own| own == role)
    }
}

impl Key {
    /// Whether the key was issued here. Only such a key can be rotated.
    pub(super) fn is_issued(&self) -> bool {
        KeyId::parse(KeyKind::Issued, &self.id).is_some()
    }

    /// `issued` or `imported`.
    pub(super) fn kind(&self) -> &'static str {
        if self.is_issued() { "issued" } else { "imported" }
    }

    /// Whether the key is accepted now.
    pub(super) fn is_active(&self) -> bool {
        self.status == "KEY_STATUS_ACTIVE"
    }

    /// The status in one word.
    pub(super) fn status_word(&self) -> &'static str {
        match self.status.as_str() {
            "KEY_STATUS_ACTIVE" if self.replaced_by.is_some() => "Replaced",
            "KEY_STATUS_ACTIVE" => "Active",
            "KEY_STATUS_REVOKED" => "Revoked",
            "KEY_STATUS_EXPIRED" => "Expired",
            _ => "Unknown",
        }
    }

    /// The class of the mark with the status.
    pub(super) fn status_class(&self) -> &'static str {
        match self.status_word() {
            "Active" => "good",
            "Replaced" => "warn",
            "Revoked" => "bad",
            _ => "idle",
        }
    }

    /// The path of the resource in the API.
    pub(super) fn path(&self) -> String {
        key_path(&self.id).unwrap_or_default()
    }

    /// The ranges of addresses.
    pub(super) fn networks(&self) -> &[String] {
        self.ip_restriction.as_ref().map_or(&[], |restriction| &restriction.allowed_cidrs)
    }
}

/// The path of a key in the API; `None` for a text that is not an id.
pub(super) fn key_path(id: &str) -> Option<String> {
    let is = |kind| KeyId::parse(kind, id).is_some();
    if is(KeyKind::Issued) {
        Some(format!("/v2alpha1/admin/issuedApiKeys/{id}"))
    } else if is(KeyKind::Imported) {
        Some(format!("/v2alpha1/admin/importedApiKeys/{id}"))
    } else {
        None
    }
}
