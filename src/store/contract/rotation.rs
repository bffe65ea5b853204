//! Rotation of keys, with and without an overlap.

use std::sync::Arc;
use std::time::Duration;

use super::fixtures::{at, compromise, context, issued, key};
use super::lists::query;
use crate::id::TenantId;
use crate::key::{ApiKey, EffectiveStatus, KeyFilter, Revocation};
use crate::store::{KeyStore, PageQuery, Revoked, RevokedKey};

pub(super) async fn rotation_is_atomic_and_happens_once(store: Arc<dyn KeyStore>) {
    store.insert(&context(), &key(issued(1)), None).await.unwrap();
    let stale = ApiKey { version: 0, ..key(issued(1)) };
    assert_eq!(store.rotate(&context(), &stale, &key(issued(2)), at(5), None).await.unwrap(), None);
    assert_eq!(store.find(TenantId::NIL, issued(2)).await.unwrap(), None);
    let old = store.rotate(&context(), &key(issued(1)), &key(issued(2)), at(5), None).await.unwrap().unwrap();
    assert_eq!((old.effective_status(at(5)), old.version, old.update_time), (EffectiveStatus::Revoked, 2, at(5)));
    assert_eq!((old.revocation(at(5)), old.replaced_by), (Some(Revocation::superseded()), Some(issued(2))));
    assert_eq!(store.find(TenantId::NIL, issued(1)).await.unwrap(), Some(old));
    assert_eq!(store.find(TenantId::NIL, issued(2)).await.unwrap(), Some(key(issued(2))));
    assert_eq!(store.rotate(&context(), &key(issued(1)), &key(issued(3)), at(6), None).await.unwrap(), None);
    assert_eq!(store.find(TenantId::NIL, issued(3)).await.unwrap(), None);
}

pub(super) async fn one_of_many_concurrent_rotations_succeeds(store: Arc<dyn KeyStore>) {
    store.insert(&context(), &key(issued(1)), None).await.unwrap();
    let calls = (2..=17).map(|number| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            store.rotate(&context(), &key(issued(1)), &key(issued(number)), at(5), None).await.unwrap().is_some()
        })
    });
    let mut rotated = 0;
    for call in calls.collect::<Vec<_>>() {
        rotated += usize::from(call.await.unwrap());
    }
    assert_eq!((rotated, store.count_active(TenantId::NIL, at(5)).await.unwrap()), (1, 1));
}

/// Rotates key 1 to key 2 at 5 s; the old key stays active until 50 s.
async fn replace_later(store: &Arc<dyn KeyStore>) -> ApiKey {
    store.insert(&context(), &key(issued(1)), None).await.unwrap();
    let rotated = store.rotate(&context(), &key(issued(1)), &key(issued(2)), at(5), Some(at(50))).await.unwrap();
    rotated.unwrap()
}

pub(super) async fn replaced_key_is_active_until_its_time(store: Arc<dyn KeyStore>) {
    let old = replace_later(&store).await;
    let expected = ApiKey {
        update_time: at(5),
        revoke_time: Some(at(50)),
        replaced_by: Some(issued(2)),
        version: 2,
        ..key(issued(1))
    };
    assert_eq!(old, expected);
    assert_eq!(store.find(TenantId::NIL, issued(1)).await.unwrap(), Some(expected));
    assert_eq!(store.find(TenantId::NIL, issued(2)).await.unwrap(), Some(key(issued(2))));
    assert_eq!(store.rotate(&context(), &key(issued(1)), &key(issued(3)), at(6), None).await.unwrap(), None);
    for (seconds, active) in [(50, 2), (51, 1)] {
        assert_eq!(store.count_active(TenantId::NIL, at(seconds)).await.unwrap(), active, "{seconds}");
    }
    let later = RevokedKey { tenant: TenantId::NIL, id: issued(1), time: at(50), is_later: true };
    assert_eq!(store.revoked_since(at(50), 10).await.unwrap(), [later]);
    assert_eq!(store.revoked_since(at(51), 10).await.unwrap(), []);
    let renamed = ApiKey { name: "changed".into(), version: 3, ..old.clone() };
    assert!(store.replace(&context(), &renamed, &old).await.unwrap());
    assert_eq!(store.find(TenantId::NIL, issued(1)).await.unwrap(), Some(renamed));
    if let Some(feed) = Arc::clone(&store).feed() {
        let changes = feed.recent(Duration::from_secs(3600), 1000).await.unwrap();
        let times: Vec<_> =
            changes.iter().filter(|change| change.version == 2).map(|change| change.revoke_time).collect();
        assert_eq!(times, [Some(at(50))]);
    }
}

pub(super) async fn replaced_key_can_be_revoked_before_its_time_and_not_after(store: Arc<dyn KeyStore>) {
    replace_later(&store).await;
    let late = store.revoke(&context(), issued(1), &compromise(), at(51)).await.unwrap();
    assert_eq!(late, Revoked::Already);
    let late = store.find(TenantId::NIL, issued(1)).await.unwrap().unwrap();
    assert_eq!(store.rotate(&context(), &late, &key(issued(3)), at(51), Some(at(90))).await.unwrap(), None);
    assert_eq!(store.rotate(&context(), &late, &key(issued(3)), at(51), None).await.unwrap(), None);
    let Revoked::Done(revoked) = store.revoke(&context(), issued(1), &compromise(), at(9)).await.unwrap() else {
        panic!("the key was active");
    };
    assert_eq!((revoked.effective_status(at(9)), revoked.revoke_time), (EffectiveStatus::Revoked, None));
    assert_eq!((revoked.revocation(at(51)), revoked.replaced_by), (Some(compromise()), Some(issued(2))));
}

pub(super) async fn replaced_key_is_listed_by_its_status(store: Arc<dyn KeyStore>) {
    replace_later(&store).await;
    let others = (3..=9).map(|number| key(issued(number))).collect::<Vec<_>>();
    store.insert_many(&context(), &others).await.unwrap();
    for number in [3, 5] {
        store.revoke(&context(), issued(number), &compromise(), at(0)).await.unwrap();
    }
    let expected = |seconds, state| match (seconds, state) {
        (50, EffectiveStatus::Active) => vec![9, 8, 7, 6, 4, 2, 1],
        (51, EffectiveStatus::Active) | (5000, EffectiveStatus::Expired) => vec![9, 8, 7, 6, 4, 2],
        (50, EffectiveStatus::Revoked) => vec![5, 3],
        (_, EffectiveStatus::Revoked) => vec![5, 3, 1],
        _ => vec![],
    };
    for (seconds, state) in [50, 51, 5000].into_iter().flat_map(|seconds| {
        [EffectiveStatus::Active, EffectiveStatus::Revoked, EffectiveStatus::Expired].map(|state| (seconds, state))
    }) {
        for actor_id in [None, Some("actor".to_owned())] {
            let filter = KeyFilter { actor_id, state: Some(state) };
            let (mut listed, mut before) = (Vec::new(), None);
            // Pages of two, so that each begins within both kinds of revoked keys.
            loop {
                let page = PageQuery { now: at(seconds), ..query(&filter, before, 2) };
                let page = store.list(&page).await.unwrap();
                let Some(last) = page.last() else { break };
                before = Some(last.id);
                listed.extend(page.into_iter().map(|key| key.id));
            }
            let expected: Vec<_> = expected(seconds, state).into_iter().map(issued).collect();
            assert_eq!(listed, expected, "{seconds} {filter:?}");
        }
    }
}

pub(super) async fn both_keys_of_a_rotation_have_a_last_use(store: Arc<dyn KeyStore>) {
    const DAY: i64 = 24 * 3600;
    replace_later(&store).await;
    let last_used = async |number| store.find(TenantId::NIL, issued(number)).await.unwrap().unwrap().last_used_time;
    store.record_last_used(&context(), &[(TenantId::NIL, issued(1))], at(6)).await.unwrap();
    assert_eq!((last_used(1).await, last_used(2).await), (Some(at(6)), None));
    store.record_last_used(&context(), &[(TenantId::NIL, issued(2))], at(DAY)).await.unwrap();
    assert_eq!((last_used(1).await, last_used(2).await), (Some(at(6)), Some(at(DAY))));
}
