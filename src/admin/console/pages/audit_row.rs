//! A row of the audit trail on a page.

use serde_json::Value;

use crate::admin::console::model::AuditEvent;
use crate::admin::console::time::Moment;
use crate::id::TenantId;

/// A row with its changes.
pub(super) struct AuditRow {
    pub(super) event: AuditEvent,
    pub(super) time: Moment,
    /// The members that differ, with their values before and after.
    pub(super) changes: Vec<Change>,
}

/// A member with its values as JSON; empty where it is absent.
pub(super) struct Change {
    pub(super) name: String,
    pub(super) before: String,
    pub(super) after: String,
}

impl AuditRow {
    pub(super) fn new(event: AuditEvent) -> Self {
        let changes = changes(event.before.as_ref(), event.after.as_ref());
        Self { time: Moment::exact(event.time), changes, event }
    }

    /// What happened, in words.
    pub(super) fn words(&self) -> &str {
        match self.event.event.as_str() {
            "IssuedAPIKeyCreated" => "Key issued",
            "ImportedAPIKeyCreated" => "Key imported",
            "IssuedAPIKeyUpdated" | "ImportedAPIKeyUpdated" => "Key changed",
            "IssuedAPIKeyRevoked" | "ImportedAPIKeyRevoked" => "Key revoked",
            "IssuedAPIKeyRotated" => "Key issued by a rotation",
            "IssuedAPIKeyDeleted" | "ImportedAPIKeyDeleted" => "Key deleted",
            "IssuedAPIKeyPurged" | "ImportedAPIKeyPurged" => "Key removed after its expiry",
            "APIKeyImportFailed" => "Import failed",
            "APIKeyDerivedToken" => "Token derived",
            "APIKeyVerificationFailed" => "Verifications failed",
            "AdminCallsRefused" => "Calls refused",
            "AuditCheckpoint" => "Checkpoint",
            other => other,
        }
    }

    /// Whether it is about an admin key.
    pub(super) fn is_of_admin_key(&self) -> bool {
        self.event.tenant == TenantId::ADMIN.to_string()
    }

    /// The details as indented JSON; empty if there are none.
    pub(super) fn details(&self) -> String {
        self.event.details.as_ref().map_or_else(String::new, |details| format!("{details:#}"))
    }

    /// The place in the chain; empty before the row is sealed.
    pub(super) fn place(&self) -> String {
        match (&self.event.chain, self.event.seq) {
            (Some(chain), Some(seq)) => format!("{chain}, number {seq}"),
            _ => String::new(),
        }
    }
}

impl AuditEvent {
    /// A text among the details.
    pub(super) fn detail(&self, name: &str) -> Option<String> {
        self.details.as_ref()?.get(name)?.as_str().map(str::to_owned)
    }
}

fn changes(before: Option<&Value>, after: Option<&Value>) -> Vec<Change> {
    let members = |value: Option<&Value>| value.and_then(Value::as_object).cloned().unwrap_or_default();
    let (before, after) = (members(before), members(after));
    let mut names: Vec<_> = before.keys().chain(after.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let text = |value: Option<&Value>| match value {
        None => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    };
    names
        .into_iter()
        .map(|name| Change { name: name.clone(), before: text(before.get(name)), after: text(after.get(name)) })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn members_of_both_sides_are_paired() {
        let (before, after) = (json!({"a": "x", "b": [1]}), json!({"b": [2], "c": null}));
        let changes = changes(Some(&before), Some(&after));
        let texts: Vec<_> =
            changes.iter().map(|change| [change.name.as_str(), &change.before, &change.after]).collect();
        assert_eq!(texts, [["a", "x", ""], ["b", "[1]", "[2]"], ["c", "", "null"]]);
    }
}
