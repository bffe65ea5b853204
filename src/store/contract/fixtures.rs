//! Keys, times and contexts of the tests.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::audit::{AuditKeys, Recorder};
use crate::cidr::CidrSet;
use crate::clock::{SystemClock, Timestamp};
use crate::credential::Keyring;
use crate::id::{KeyId, RequestId, TenantId};
use crate::key::{ApiKey, Revocation, RevocationReason, Status};
use crate::policy::{RateLimitPolicy, Visibility};
use crate::request_context::{ActorScope, Principal, RequestContext};
use crate::store::KeyStore;

/// The keys of the audit trail.
pub(super) fn audit_keys() -> AuditKeys {
    AuditKeys::new(&Keyring::new(&"a secret of at least 32 characters".to_owned().into(), &[]))
}

/// The store, with rows of the audit trail for its writes.
pub(super) fn recorded(store: Arc<dyn KeyStore>) -> Arc<dyn KeyStore> {
    let recorder = Recorder::new(audit_keys(), Arc::new(SystemClock));
    Arc::clone(&store).audit().unwrap().record_with(Arc::new(recorder));
    store
}

/// A tenant beside the nil one.
pub(super) const OTHER: TenantId = TenantId(Uuid::from_u128(9));

/// A request for the nil tenant.
pub(super) fn context() -> RequestContext {
    context_of(TenantId::NIL)
}

pub(super) fn context_of(tenant: TenantId) -> RequestContext {
    let (actors, request_id) = (ActorScope::All, RequestId::random());
    RequestContext { tenant, principal: Principal::Anonymous, actors, client_ip: None, request_id }
}

pub(super) fn system() -> RequestContext {
    RequestContext::system(TenantId::NIL)
}

pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_timestamp(1_780_000_000 + seconds, 123_456_000).unwrap()
}

pub(super) fn issued(number: u128) -> KeyId {
    KeyId::Issued(Uuid::from_u128(number))
}

pub(super) fn key(id: KeyId) -> ApiKey {
    ApiKey {
        tenant: TenantId::NIL,
        id,
        name: "naïve \"name\"".into(),
        actor_id: "actor".into(),
        scopes: ["b", "a", "b"].into_iter().collect(),
        metadata: serde_json::from_str(r#"{"big":9007199254740993,"nested":{"a":[1,null]}}"#).unwrap(),
        status: Status::Active,
        visibility: Visibility::Public,
        create_time: at(0),
        update_time: at(1),
        expire_time: Some(at(3600)),
        revoke_time: None,
        replaced_by: None,
        last_used_time: None,
        rate_limit: Some(RateLimitPolicy {
            quota: NonZeroU64::new(i64::MAX.unsigned_abs()).unwrap(),
            window: Duration::from_secs(60),
        }),
        networks: CidrSet::parse(&["10.1.2.3/8"]).unwrap(),
        version: 1,
    }
}

pub(super) fn compromise() -> Revocation {
    Revocation { reason: RevocationReason::KeyCompromise, description: None }
}

/// Years before the other times, so that it is in the past by any clock.
pub(super) fn long_ago(seconds: i64) -> Timestamp {
    at(seconds) - chrono::TimeDelta::days(3000)
}
