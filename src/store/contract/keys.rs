//! Insertion, lookup and replacement of keys, and the separation of tenants.

use std::sync::Arc;

use super::fixtures::{OTHER, at, compromise, context, context_of, issued, key, system};
use crate::cidr::CidrSet;
use crate::id::{KeyId, KeyKind, TenantId};
use crate::key::ApiKey;
use crate::request_context::{Administrator, Principal};
use crate::store::{Inserted, KeyStore, Revoked, StoreError};

pub(super) async fn stored_key_is_read_back_unchanged(store: Arc<dyn KeyStore>) {
    for id in [issued(1), KeyId::Imported([7; 32])] {
        assert_eq!(store.insert(&context(), &key(id), None).await.unwrap(), Inserted::New);
        assert_eq!(store.find(TenantId::NIL, id).await.unwrap(), Some(key(id)));
    }
    store.ping().await.unwrap();
}

pub(super) async fn missing_key_is_none_not_an_error(store: Arc<dyn KeyStore>) {
    assert_eq!(store.find(TenantId::NIL, issued(1)).await.unwrap(), None);
    let revoked = store.revoke(&context(), issued(1), &compromise(), at(0)).await.unwrap();
    assert_eq!(revoked, Revoked::Absent);
}

pub(super) async fn find_many_returns_the_keys_that_exist(store: Arc<dyn KeyStore>) {
    let imported = KeyId::Imported([5; 32]);
    let keys: Vec<_> = (1..=600).map(|number| key(issued(number))).chain([key(imported)]).collect();
    store.insert_many(&context(), &keys).await.unwrap();
    let wanted: Vec<_> = (300..=900).map(issued).chain([imported]).map(|id| (TenantId::NIL, id)).collect();
    let mut found = store.find_many(&wanted).await.unwrap();
    found.sort_by_key(|key| key.id);
    assert_eq!(found, keys[299..]);
    assert_eq!(store.find_many(&[(OTHER, imported), (TenantId::NIL, issued(0))]).await.unwrap(), []);
    assert_eq!(store.find_many(&[]).await.unwrap(), []);
}

pub(super) async fn tenants_are_isolated(store: Arc<dyn KeyStore>) {
    store.insert(&context(), &key(issued(1)), Some("r")).await.unwrap();
    assert_eq!(store.find(OTHER, issued(1)).await.unwrap(), None);
    assert_eq!(store.find_by_request(OTHER, KeyKind::Issued, "r").await.unwrap(), None);
    assert_eq!(store.revoke(&context_of(OTHER), issued(1), &compromise(), at(0)).await.unwrap(), Revoked::Absent);
    let same_id = ApiKey { tenant: OTHER, ..key(issued(1)) };
    assert_eq!(store.insert(&context_of(OTHER), &same_id, Some("r")).await.unwrap(), Inserted::New);
}

pub(super) async fn write_to_another_tenant_is_rejected(store: Arc<dyn KeyStore>) {
    fn refused<T: std::fmt::Debug>(result: Result<T, StoreError>) {
        let error = result.unwrap_err();
        assert!(matches!(error, StoreError::WrongTenant(_)), "{error:?}");
    }
    let (mine, own) = (key(issued(1)), ApiKey { tenant: OTHER, ..key(issued(2)) });
    store.insert(&context(), &mine, None).await.unwrap();
    store.insert(&context_of(OTHER), &own, None).await.unwrap();
    let new = key(issued(3));
    let admin = context_of(OTHER).with_principal(Principal::Admin(Administrator::new("root", ["manage", "read"])));
    let holder = context_of(OTHER).with_principal(Principal::Key(own.id));
    for context in [&context_of(OTHER), &admin, &holder] {
        refused(store.insert(context, &new, Some("r")).await);
        refused(store.insert_many(context, &[ApiKey { tenant: OTHER, ..new.clone() }, new.clone()]).await);
        refused(store.replace(context, &ApiKey { name: "stolen".into(), version: 2, ..mine.clone() }, &mine).await);
        refused(store.rotate(context, &mine, &ApiKey { tenant: OTHER, ..new.clone() }, at(5), None).await);
        refused(store.rotate(context, &own, &new, at(5), None).await);
        refused(store.record_last_used(context, &[(OTHER, own.id), (mine.tenant, mine.id)], at(5)).await);
        refused(store.purge(context, at(10_000_000), 10).await);
        refused(store.prune_deleted(context, at(10_000_000), 10).await);
        assert_eq!(store.revoke(context, mine.id, &compromise(), at(5)).await.unwrap(), Revoked::Absent);
        assert_eq!(store.delete(context, mine.id, at(5)).await.unwrap(), None);
    }
    assert_eq!(store.find(mine.tenant, mine.id).await.unwrap(), Some(mine));
    assert_eq!(store.find(OTHER, own.id).await.unwrap(), Some(own.clone()));
    for tenant in [TenantId::NIL, OTHER] {
        assert_eq!(store.find(tenant, new.id).await.unwrap(), None);
    }
    // Background work writes keys of every tenant.
    assert_eq!(store.insert(&system(), &ApiKey { tenant: OTHER, ..new }, None).await.unwrap(), Inserted::New);
    store.record_last_used(&system(), &[(OTHER, own.id)], at(5)).await.unwrap();
    assert_eq!(store.find(OTHER, own.id).await.unwrap().unwrap().last_used_time, Some(at(5)));
}

pub(super) async fn second_insert_of_an_id_is_rejected(store: Arc<dyn KeyStore>) {
    store.insert(&context(), &key(issued(1)), None).await.unwrap();
    let second = ApiKey { name: "second".into(), ..key(issued(1)) };
    assert_eq!(store.insert(&context(), &second, None).await.unwrap(), Inserted::Exists);
    assert_eq!(store.find(TenantId::NIL, issued(1)).await.unwrap(), Some(key(issued(1))));
}

pub(super) async fn repeated_request_id_returns_the_first_key(store: Arc<dyn KeyStore>) {
    store.insert(&context(), &key(issued(1)), Some("r")).await.unwrap();
    let replay = store.insert(&context(), &key(issued(2)), Some("r")).await.unwrap();
    assert_eq!(replay, Inserted::Replay(Box::new(key(issued(1)))));
    assert_eq!(store.find(TenantId::NIL, issued(2)).await.unwrap(), None);
    let imported = KeyId::Imported([1; 32]);
    assert_eq!(store.insert(&context(), &key(imported), Some("r")).await.unwrap(), Inserted::New);
}

pub(super) async fn concurrent_inserts_with_one_request_id_add_one_key(store: Arc<dyn KeyStore>) {
    let calls = (1..=16).map(|number| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.insert(&context(), &key(issued(number)), Some("same")).await.unwrap() })
    });
    let mut new = 0;
    for call in calls.collect::<Vec<_>>() {
        new += usize::from(call.await.unwrap() == Inserted::New);
    }
    assert_eq!(new, 1);
    assert_eq!(store.count_active(TenantId::NIL, at(5)).await.unwrap(), 1);
}

pub(super) async fn insert_many_skips_ids_that_are_taken(store: Arc<dyn KeyStore>) {
    store.insert(&context(), &key(KeyId::Imported([0; 32])), None).await.unwrap();
    let keys: Vec<_> = (0u8..=250).map(|number| key(KeyId::Imported([number; 32]))).collect();
    let stored = store.insert_many(&context(), &keys).await.unwrap();
    assert_eq!(stored.iter().filter(|stored| **stored).count(), 250);
    assert!(!stored[0]);
    assert_eq!(store.find(TenantId::NIL, keys[250].id).await.unwrap(), Some(keys[250].clone()));
}

pub(super) async fn replace_requires_the_expected_version(store: Arc<dyn KeyStore>) {
    store.insert(&context(), &key(issued(1)), None).await.unwrap();
    let changed = ApiKey {
        name: String::new(),
        scopes: ["z"].into_iter().collect(),
        metadata: crate::key::Metadata::new(),
        rate_limit: None,
        networks: CidrSet::default(),
        update_time: at(9),
        version: 2,
        ..key(issued(1))
    };
    assert!(store.replace(&context(), &changed, &key(issued(1))).await.unwrap());
    assert_eq!(store.find(TenantId::NIL, issued(1)).await.unwrap(), Some(changed.clone()));
    assert!(!store.replace(&context(), &key(issued(1)), &key(issued(1))).await.unwrap());
    assert!(!store.replace(&context(), &key(issued(2)), &key(issued(2))).await.unwrap());
    assert_eq!(store.find(TenantId::NIL, issued(1)).await.unwrap(), Some(changed));
}
