//! Makes the rows of a process.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{SecondsFormat, SubsecRound};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::event::AuditEvent;
use super::gathered::{Calls, FailedVerifications, Refusal};
use super::key_members::{changed, members};
use super::mac::AuditKeys;
use super::row::AuditRow;
use crate::clock::{Clock, Timestamp};
use crate::id::{KeyId, TenantId};
use crate::key::{ApiKey, Revocation, Status};
use crate::policy::Visibility;
use crate::request_context::{Principal, RequestContext};

/// Makes rows with the time, the name of this process and an authentication code.
pub struct Recorder {
    writer: String,
    keys: AuditKeys,
    clock: Arc<dyn Clock>,
    /// When the last row was made, in milliseconds since 1970.
    last: AtomicI64,
}

impl Recorder {
    /// A recorder with a new random name.
    pub fn new(keys: AuditKeys, clock: Arc<dyn Clock>) -> Self {
        let writer = uuid::Builder::from_random_bytes(rand::random()).into_uuid().to_string();
        Self { writer, keys, clock, last: AtomicI64::new(i64::MIN) }
    }

    /// The name of the process in its rows.
    pub fn writer(&self) -> &str {
        &self.writer
    }

    /// The keys that authenticate the rows.
    pub fn keys(&self) -> &AuditKeys {
        &self.keys
    }

    /// The current time, as in rows.
    pub fn now(&self) -> Timestamp {
        // Stores keep microseconds.
        self.clock.now().trunc_subsecs(6)
    }

    /// The time at which the last row was made, in milliseconds since 1970. It may not be committed yet.
    pub fn last_made(&self) -> i64 {
        self.last.load(Ordering::Relaxed)
    }

    /// A key was issued or imported.
    pub fn created(&self, context: &RequestContext, key: &ApiKey) -> AuditRow {
        let row = self.of_key(context, AuditEvent::created(key.id), key, Map::new());
        self.finish(AuditRow { after: object(members(key)), ..row })
    }

    /// Fields of a key were changed.
    pub fn updated(&self, context: &RequestContext, old: &ApiKey, new: &ApiKey) -> AuditRow {
        self.change(context, AuditEvent::updated(new.id), (old, new), Map::new())
    }

    /// A key was revoked; `old` is its record before.
    pub fn revoked(&self, context: &RequestContext, old: &ApiKey, revocation: &Revocation, now: Timestamp) -> AuditRow {
        let mut details = Map::new();
        details.insert("reason".into(), revocation.reason.name().into());
        if matches!(context.principal, Principal::Key(_)) {
            details.insert("initiated_by".into(), "self".into());
        }
        let new = revoked_key(old, revocation, now);
        self.change(context, AuditEvent::revoked(old.id), (old, &new), details)
    }

    /// A key was replaced by a new one, and revoked or, with a time to revoke, changed. The row of the new key and the row of the
    /// old one.
    pub fn rotated(
        &self,
        context: &RequestContext,
        (old, new): (&ApiKey, &ApiKey),
        now: Timestamp,
        revoke_time: Option<Timestamp>,
    ) -> [AuditRow; 2] {
        let mut details = Map::new();
        details.insert("old_key_id".into(), old.id.to_string().into());
        if let Some(expiry) = old.expire_time {
            details.insert("old_expires_at".into(), expiry.to_rfc3339_opts(SecondsFormat::Secs, true).into());
        }
        let issued = self.of_key(context, AuditEvent::IssuedKeyRotated, new, details);
        let issued = self.finish(AuditRow { after: object(members(new)), ..issued });
        let mut details = Map::new();
        details.insert("replaced_by".into(), new.id.to_string().into());
        let (event, replaced) = if revoke_time.is_some() {
            (AuditEvent::updated(old.id), ApiKey { revoke_time, ..old.clone() })
        } else {
            let revocation = Revocation::superseded();
            details.insert("reason".into(), revocation.reason.name().into());
            (AuditEvent::revoked(old.id), revoked_key(old, &revocation, now))
        };
        let replaced = ApiKey { replaced_by: Some(new.id), ..replaced };
        [issued, self.change(context, event, (old, &replaced), details)]
    }

    /// A key was deleted.
    pub fn deleted(&self, context: &RequestContext, key: &ApiKey) -> AuditRow {
        self.removed(context, AuditEvent::deleted(key.id), key)
    }

    /// A key was deleted some time after its expiry.
    pub fn purged(&self, context: &RequestContext, key: &ApiKey) -> AuditRow {
        self.removed(context, AuditEvent::purged(key.id), key)
    }

    /// A token was derived from a key.
    pub fn token_derived(&self, context: &RequestContext, key: (KeyId, &str), details: &Value) -> AuditRow {
        let (id, actor) = key;
        let row = self.row(context, AuditEvent::TokenDerived);
        let details = Some(details.to_string());
        self.finish(AuditRow { key_id: Some(id.to_string()), actor_id: Some(actor.to_owned()), details, ..row })
    }

    /// An item of a batch was rejected.
    pub fn import_failed(&self, context: &RequestContext, index: usize, code: &str, reason: &str) -> AuditRow {
        let details = json!({"reason": reason, "index": index, "error_code": code}).to_string();
        self.finish(AuditRow { details: Some(details), ..self.row(context, AuditEvent::KeyImportFailed) })
    }

    /// Calls of the admin API were refused.
    pub fn refused(&self, tenant: TenantId, refusal: &Refusal) -> AuditRow {
        self.finish(self.gathered(tenant, AuditEvent::CallsRefused, &refusal.calls, &refusal.details()))
    }

    /// Credentials were not valid.
    pub fn verifications_failed(&self, tenant: TenantId, failed: &FailedVerifications) -> AuditRow {
        let row = self.gathered(tenant, AuditEvent::VerificationFailed, &failed.calls, &failed.details());
        let key = failed.failure.and_then(|failure| failure.key);
        self.finish(AuditRow { key_id: key.map(|id| id.to_string()), ..row })
    }

    /// A checkpoint; `heads` are chains with the positions and seals of their last rows.
    pub fn checkpoint(&self, tenant: TenantId, heads: &Value) -> AuditRow {
        let row = self.row(&RequestContext::system(tenant), AuditEvent::Checkpoint);
        self.finish(AuditRow { details: Some(json!({"heads": heads}).to_string()), ..row })
    }

    fn gathered(&self, tenant: TenantId, event: AuditEvent, calls: &Calls, details: &Value) -> AuditRow {
        AuditRow {
            principal: calls.principal.name().into_owned(),
            roles: roles(&calls.principal),
            client_ip: calls.client_ip.map(|address| address.to_string()),
            request_id: calls.request_id.clone(),
            details: Some(details.to_string()),
            ..self.row(&RequestContext::system(tenant), event)
        }
    }

    fn change(
        &self,
        context: &RequestContext,
        event: AuditEvent,
        (old, new): (&ApiKey, &ApiKey),
        details: Map<String, Value>,
    ) -> AuditRow {
        let (before, after) = changed(old, new);
        let row = self.of_key(context, event, new, details);
        self.finish(AuditRow { before: object(before), after: object(after), ..row })
    }

    fn removed(&self, context: &RequestContext, event: AuditEvent, key: &ApiKey) -> AuditRow {
        let row = self.of_key(context, event, key, Map::new());
        self.finish(AuditRow { before: object(members(key)), ..row })
    }

    /// A row about a key, with its expiry and visibility among the details.
    fn of_key(
        &self,
        context: &RequestContext,
        event: AuditEvent,
        key: &ApiKey,
        mut details: Map<String, Value>,
    ) -> AuditRow {
        if let Some(expiry) = key.expire_time {
            details.insert("expiry".into(), expiry.to_rfc3339_opts(SecondsFormat::Secs, true).into());
        }
        let visibility = match key.visibility {
            Visibility::Secret => "secret",
            Visibility::Public => "public",
        };
        details.insert("visibility".into(), visibility.into());
        AuditRow {
            tenant: key.tenant.to_string(),
            key_id: Some(key.id.to_string()),
            actor_id: Some(key.actor_id.clone()),
            details: object(details),
            ..self.row(context, event)
        }
    }

    fn row(&self, context: &RequestContext, event: AuditEvent) -> AuditRow {
        let now = self.now();
        AuditRow {
            tenant: context.tenant.to_string(),
            id: row_id(now).to_string(),
            time: now,
            writer: self.writer.clone(),
            event: event.name().to_owned(),
            principal: context.principal.name().into_owned(),
            roles: roles(&context.principal),
            client_ip: context.client_ip.map(|address| address.to_string()),
            request_id: context.request_id.as_str().to_owned(),
            key_id: None,
            actor_id: None,
            before: None,
            after: None,
            details: None,
            mac: String::new(),
            seal: None,
        }
    }

    fn finish(&self, row: AuditRow) -> AuditRow {
        self.last.fetch_max(row.time.timestamp_millis(), Ordering::Relaxed);
        AuditRow { mac: self.keys.row(&row), ..row }
    }
}

/// The roles of an administrator, separated by spaces.
fn roles(principal: &Principal) -> Option<String> {
    let roles = principal.roles();
    (!roles.is_empty()).then(|| roles.join(" "))
}

/// A UUID version 7 whose twelve bits after the milliseconds are microseconds (RFC 9562, section 6.2, method 3).
fn row_id(now: Timestamp) -> Uuid {
    let mut random: [u8; 10] = rand::random();
    let [high, low] = u16::try_from(now.timestamp_subsec_micros() % 1000).unwrap_or_default().to_be_bytes();
    (random[0], random[1]) = (high, low);
    let millis = u64::try_from(now.timestamp_millis()).unwrap_or_default();
    uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
}

/// The record of a key after its revocation.
fn revoked_key(key: &ApiKey, revocation: &Revocation, now: Timestamp) -> ApiKey {
    ApiKey {
        status: Status::Revoked(revocation.clone()),
        expire_time: Some(Revocation::expiry(now, key.expire_time)),
        revoke_time: None,
        ..key.clone()
    }
}

/// An object as text; `None` if it is empty.
fn object(members: Map<String, Value>) -> Option<String> {
    (!members.is_empty()).then(|| Value::Object(members).to_string())
}
