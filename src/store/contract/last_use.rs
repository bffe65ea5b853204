//! The time of the last use.

use std::sync::Arc;
use std::time::Duration;

use super::fixtures::{OTHER, at, compromise, context, context_of, issued, key};
use crate::id::{KeyId, TenantId};
use crate::key::{ApiKey, EffectiveStatus};
use crate::store::{ChangeKind, KeyStore, Revoked};

pub(super) async fn last_use_is_recorded_once_a_day_without_a_change(store: Arc<dyn KeyStore>) {
    const HOUR: i64 = 3600;
    let imported = KeyId::Imported([5; 32]);
    store.insert_many(&context(), &[key(issued(1)), key(issued(2)), key(imported)]).await.unwrap();
    store.insert(&context_of(OTHER), &ApiKey { tenant: OTHER, ..key(issued(1)) }, None).await.unwrap();
    // `at(0)` is 20:26 UTC; the day ends three and a half hours later.
    let last_used = async |tenant, id| store.find(tenant, id).await.unwrap().unwrap().last_used_time;
    let named = [(TenantId::NIL, issued(1)), (TenantId::NIL, imported), (TenantId::NIL, issued(77))];
    store.record_last_used(&context(), &named, at(0)).await.unwrap();
    for (seconds, expected) in [(HOUR, at(0)), (-HOUR, at(0)), (4 * HOUR, at(4 * HOUR)), (3 * HOUR, at(4 * HOUR))] {
        store.record_last_used(&context(), &named, at(seconds)).await.unwrap();
        for id in [issued(1), imported] {
            assert_eq!(last_used(TenantId::NIL, id).await, Some(expected), "{seconds}");
        }
    }
    let used = ApiKey { last_used_time: Some(at(4 * HOUR)), ..key(issued(1)) };
    assert_eq!(store.find(TenantId::NIL, issued(1)).await.unwrap(), Some(used));
    assert_eq!((last_used(TenantId::NIL, issued(2)).await, last_used(OTHER, issued(1)).await), (None, None));
    assert_eq!(store.find(TenantId::NIL, issued(77)).await.unwrap(), None);
    store.record_last_used(&context(), &[], at(0)).await.unwrap();
    if let Some(feed) = Arc::clone(&store).feed() {
        let changes = feed.recent(Duration::from_secs(3600), 1000).await.unwrap();
        assert!(
            changes.iter().all(|change| matches!(change.kind, ChangeKind::Issue | ChangeKind::Import)),
            "{changes:?}"
        );
    }
}

pub(super) async fn concurrent_last_uses_and_changes_are_both_kept(store: Arc<dyn KeyStore>) {
    let keys: Vec<_> = (1..=50).map(|number| key(issued(number))).collect();
    store.insert_many(&context(), &keys).await.unwrap();
    let names: Vec<_> = keys.iter().map(|key| (key.tenant, key.id)).collect();
    let record = |names: Vec<_>| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.record_last_used(&context(), &names, at(0)).await.unwrap() })
    };
    let mut writes = vec![record(names.clone()), record(names.iter().rev().copied().collect())];
    for key in &keys {
        let changed = ApiKey { name: "changed".into(), version: 2, ..key.clone() };
        assert!(store.replace(&context(), &changed, key).await.unwrap());
        if key.id > issued(25) {
            let revoked = store.revoke(&context(), key.id, &compromise(), at(1)).await.unwrap();
            assert!(matches!(revoked, Revoked::Done(_)));
        }
        writes.push(record(names.clone()));
    }
    for write in writes {
        write.await.unwrap();
    }
    for (tenant, id) in names {
        let found = store.find(tenant, id).await.unwrap().unwrap();
        let (state, version) =
            if id > issued(25) { (EffectiveStatus::Revoked, 3) } else { (EffectiveStatus::Active, 2) };
        assert_eq!((found.name.as_str(), found.last_used_time), ("changed", Some(at(0))));
        assert_eq!((found.effective_status(at(2)), found.version), (state, version));
    }
}
