//! Removal of expired keys and of records of deletions.

use std::sync::Arc;
use std::time::Duration;

use super::fixtures::{OTHER, at, compromise, context, context_of, issued, key, long_ago, system};
use crate::clock::Timestamp;
use crate::id::{KeyKind, TenantId};
use crate::key::ApiKey;
use crate::store::{ChangeKind, KeyStore, RevokedKey};

fn expiring(number: u128, expire_time: Option<Timestamp>) -> ApiKey {
    ApiKey { expire_time, ..key(issued(number)) }
}

pub(super) async fn purge_deletes_expired_keys_earliest_first(store: Arc<dyn KeyStore>) {
    let days = |days: i64| long_ago(days * 24 * 3600);
    let expiries = [Some(days(4)), Some(days(1)), Some(days(3)), None, Some(days(2))];
    let keys: Vec<_> = expiries.into_iter().zip(1..).map(|(expiry, number)| expiring(number, expiry)).collect();
    store.insert_many(&context(), &keys).await.unwrap();
    store.insert(&context_of(OTHER), &ApiKey { tenant: OTHER, ..expiring(2, Some(days(1))) }, Some("r")).await.unwrap();
    store.insert(&context(), &expiring(6, None), None).await.unwrap();
    // A revoked key expires 30 days after the revocation.
    store.revoke(&context(), issued(6), &compromise(), days(-29)).await.unwrap();
    let purge = async |before, limit| {
        let purged = store.purge(&system(), before, limit).await.unwrap();
        purged.into_iter().map(|key| (key.tenant, key.id, key.version)).collect::<std::collections::BTreeSet<_>>()
    };
    assert!(purge(days(1), 10).await.is_empty(), "a key that expires at that time has not expired before it");
    let first = [(TenantId::NIL, issued(2), 1), (TenantId::NIL, issued(6), 2), (OTHER, issued(2), 1)];
    assert_eq!(purge(days(4), 3).await, first.into());
    assert_eq!(purge(days(3), 10).await, [(TenantId::NIL, issued(5), 1)].into());
    assert_eq!(purge(days(3), 10).await, [].into());
    for (number, exists) in [(1, true), (2, false), (3, true), (4, true), (5, false), (6, false)] {
        assert_eq!(store.find(TenantId::NIL, issued(number)).await.unwrap().is_some(), exists, "{number}");
    }
    assert_eq!(store.find_by_request(OTHER, KeyKind::Issued, "r").await.unwrap(), None);
    // Tokens of a revoked key may still be valid; those of an expired key have expired with it.
    let revoked = RevokedKey { tenant: TenantId::NIL, id: issued(6), time: days(-29), is_later: false };
    assert_eq!(store.revoked_since(days(-29), 10).await.unwrap(), [revoked]);
    if let Some(feed) = Arc::clone(&store).feed() {
        let changes = feed.recent(Duration::from_secs(3600), 1000).await.unwrap();
        let purged = changes.iter().filter(|change| change.kind == ChangeKind::Purge);
        let purged: std::collections::BTreeSet<_> = purged.map(|change| (change.id, change.version)).collect();
        assert_eq!(purged, [(issued(2), 1), (issued(5), 1), (issued(6), 2)].into());
    }
}

pub(super) async fn concurrent_purges_return_each_key_once(store: Arc<dyn KeyStore>) {
    let keys: Vec<_> = (1..=300).map(|number| expiring(number, Some(long_ago(0)))).collect();
    store.insert_many(&context(), &keys).await.unwrap();
    let calls: Vec<_> = (0..8)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let mut purged = Vec::new();
                while store.count_active(TenantId::NIL, at(5)).await.unwrap() > 0 {
                    purged.extend(store.purge(&system(), long_ago(1), 20).await.unwrap().into_iter().map(|key| key.id));
                }
                purged
            })
        })
        .collect();
    let mut purged = Vec::new();
    for call in calls {
        purged.extend(call.await.unwrap());
    }
    purged.sort_unstable();
    assert_eq!(purged, keys.iter().map(|key| key.id).collect::<Vec<_>>());
}

pub(super) async fn prune_deleted_removes_the_oldest_deletions(store: Arc<dyn KeyStore>) {
    for number in 1..=5u32 {
        let id = issued(number.into());
        store.insert(&context(), &key(id), None).await.unwrap();
        store.delete(&context(), id, at(number.into())).await.unwrap();
    }
    assert_eq!(store.prune_deleted(&system(), at(1), 10).await.unwrap(), 0);
    assert_eq!(store.prune_deleted(&system(), at(4), 2).await.unwrap(), 2);
    assert_eq!(store.prune_deleted(&system(), at(4), 2).await.unwrap(), 1);
    let left: Vec<_> = store.revoked_since(at(0), 10).await.unwrap().iter().map(|key| key.id).collect();
    assert_eq!(left, [issued(5), issued(4)]);
}
