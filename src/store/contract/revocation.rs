//! Revocation and deletion of keys.

use std::sync::Arc;

use super::fixtures::{OTHER, at, compromise, context, context_of, issued, key};
use crate::id::{KeyId, KeyKind, TenantId};
use crate::key::{ApiKey, Revocation, RevocationReason, Status};
use crate::store::{Inserted, KeyStore, Revoked, RevokedKey};

pub(super) async fn revocation_is_stored_with_all_its_fields(store: Arc<dyn KeyStore>) {
    store.insert(&context(), &key(issued(1)), None).await.unwrap();
    let revocation =
        Revocation { reason: RevocationReason::PrivilegeWithdrawn, description: Some("left the team".into()) };
    let Revoked::Done(revoked) = store.revoke(&context(), issued(1), &revocation, at(5)).await.unwrap() else {
        panic!("the key was active");
    };
    let expected = ApiKey {
        status: Status::Revoked(revocation),
        update_time: at(5),
        expire_time: Some(at(5) + chrono::TimeDelta::days(30)),
        version: 2,
        ..key(issued(1))
    };
    assert_eq!(*revoked, expected);
    assert_eq!(store.find(TenantId::NIL, issued(1)).await.unwrap(), Some(expected));
}

pub(super) async fn second_revocation_is_rejected(store: Arc<dyn KeyStore>) {
    store.insert(&context(), &key(issued(1)), None).await.unwrap();
    store.revoke(&context(), issued(1), &compromise(), at(5)).await.unwrap();
    let second = store.revoke(&context(), issued(1), &compromise(), at(6)).await.unwrap();
    assert_eq!(second, Revoked::Already);
}

pub(super) async fn revocation_extends_but_never_shortens_the_expiry(store: Arc<dyn KeyStore>) {
    let far = Some(at(100 * 24 * 3600));
    store.insert(&context(), &ApiKey { expire_time: far, ..key(issued(1)) }, None).await.unwrap();
    store.insert(&context(), &ApiKey { expire_time: None, ..key(issued(2)) }, None).await.unwrap();
    for (id, expected) in [(1, far), (2, Some(at(0) + chrono::TimeDelta::days(30)))] {
        let revoked = store.revoke(&context(), issued(id), &compromise(), at(0)).await.unwrap();
        assert!(matches!(revoked, Revoked::Done(key) if key.expire_time == expected));
    }
}

pub(super) async fn count_active_excludes_revoked_keys(store: Arc<dyn KeyStore>) {
    for number in 1..=3 {
        store.insert(&context(), &key(issued(number)), None).await.unwrap();
    }
    store.insert(&context(), &key(KeyId::Imported([1; 32])), None).await.unwrap();
    store.revoke(&context(), issued(2), &compromise(), at(0)).await.unwrap();
    assert_eq!(store.count_active(TenantId::NIL, at(5)).await.unwrap(), 3);
}

pub(super) async fn deleted_key_is_not_found_but_listed_as_revoked(store: Arc<dyn KeyStore>) {
    let imported = KeyId::Imported([3; 32]);
    store.insert(&context(), &key(imported), Some("r")).await.unwrap();
    assert_eq!(store.delete(&context_of(OTHER), imported, at(7)).await.unwrap(), None);
    assert_eq!(store.delete(&context(), imported, at(7)).await.unwrap(), Some(1));
    assert_eq!(store.delete(&context(), imported, at(8)).await.unwrap(), None);
    assert_eq!(store.find(TenantId::NIL, imported).await.unwrap(), None);
    assert_eq!(store.find_by_request(TenantId::NIL, KeyKind::Imported, "r").await.unwrap(), None);
    let deleted = RevokedKey { tenant: TenantId::NIL, id: imported, time: at(7), is_later: false };
    assert_eq!(store.revoked_since(at(7), 10).await.unwrap(), [deleted]);
    assert_eq!(store.insert(&context(), &key(imported), Some("r")).await.unwrap(), Inserted::New);
}

pub(super) async fn revoked_keys_are_listed_latest_first(store: Arc<dyn KeyStore>) {
    for number in 1..=4 {
        store.insert(&context(), &key(issued(number)), None).await.unwrap();
    }
    for number in 1..=3u32 {
        store.revoke(&context(), issued(number.into()), &compromise(), at(number.into())).await.unwrap();
    }
    let revoked_since = |seconds, limit| {
        let store = Arc::clone(&store);
        async move { store.revoked_since(at(seconds), limit).await.unwrap().iter().map(|key| key.id).collect::<Vec<_>>() }
    };
    assert_eq!(revoked_since(2, 10).await, [issued(3), issued(2)]);
    assert_eq!(revoked_since(0, 1).await, [issued(3)]);
    assert!(revoked_since(4, 10).await.is_empty());
}
