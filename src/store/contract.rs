//! The contract of stores. Each test runs against every implementation.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::search::tests::{
    keys_added_during_a_search_neither_hide_nor_repeat_others,
    search_for_few_of_many_keys_continues_until_they_are_found, searches_return_every_matching_key_once_in_their_order,
};
use super::*;
use crate::cidr::CidrSet;
use crate::clock::Timestamp;
use crate::id::{KeyId, KeyKind, RequestId, TenantId};
use crate::key::{ApiKey, EffectiveStatus, KeyFilter, Revocation, RevocationReason, Status};
use crate::policy::{RateLimitPolicy, Visibility};
use crate::request_context::{ActorScope, Principal, RequestContext};

/// Runs the tests against every store.
macro_rules! contract {
    ($($test:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test] async fn $test() { super::$test(std::sync::Arc::new(super::MemoryStore::default())).await; })*
        }
        #[cfg(feature = "sqlite")]
        mod sqlite {
            $(#[tokio::test] async fn $test() {
                let folder = tempfile::tempdir().unwrap();
                let options = super::SqliteOptions { path: Some(folder.path().join("keys.db")), max_connections: 4 };
                super::$test(std::sync::Arc::new(super::SqliteStore::open(&options).await.unwrap())).await;
            })*
        }
        /// One test over one server, because a server is slow to start. Each part has a database of its own.
        #[cfg(feature = "postgres")]
        #[tokio::test]
        async fn postgres() {
            let server = testing::Postgres::start();
            let mut failed = Vec::new();
            $({
                let store = Arc::new(testing::store(&server, stringify!($test)).await);
                if tokio::spawn($test(Arc::<PostgresStore>::clone(&store))).await.is_err() {
                    failed.push(stringify!($test));
                }
                store.close().await;
            })*
            assert_eq!(failed, Vec::<&str>::new());
        }
    };
}

contract!(
    stored_key_is_read_back_unchanged,
    missing_key_is_none_not_an_error,
    find_many_returns_the_keys_that_exist,
    tenants_are_isolated,
    write_to_another_tenant_is_rejected,
    second_insert_of_an_id_is_rejected,
    repeated_request_id_returns_the_first_key,
    concurrent_inserts_with_one_request_id_add_one_key,
    revocation_is_stored_with_all_its_fields,
    second_revocation_is_rejected,
    revocation_extends_but_never_shortens_the_expiry,
    count_active_excludes_revoked_keys,
    insert_many_skips_ids_that_are_taken,
    pages_return_every_key_once,
    filters_select_by_actor_and_status,
    lists_select_by_prefixes_of_actors,
    searches_return_every_matching_key_once_in_their_order,
    search_for_few_of_many_keys_continues_until_they_are_found,
    keys_added_during_a_search_neither_hide_nor_repeat_others,
    replace_requires_the_expected_version,
    rotation_is_atomic_and_happens_once,
    one_of_many_concurrent_rotations_succeeds,
    replaced_key_is_active_until_its_time,
    replaced_key_can_be_revoked_before_its_time_and_not_after,
    replaced_key_is_listed_by_its_status,
    both_keys_of_a_rotation_have_a_last_use,
    deleted_key_is_not_found_but_listed_as_revoked,
    revoked_keys_are_listed_latest_first,
    last_use_is_recorded_once_a_day_without_a_change,
    concurrent_last_uses_and_changes_are_both_kept,
    purge_deletes_expired_keys_earliest_first,
    concurrent_purges_return_each_key_once,
    prune_deleted_removes_the_oldest_deletions,
);

/// A tenant beside the nil one.
const OTHER: TenantId = TenantId(Uuid::from_u128(9));

/// A request for the nil tenant.
fn context() -> RequestContext {
    context_of(TenantId::NIL)
}

fn context_of(tenant: TenantId) -> RequestContext {
    let (actors, request_id) = (ActorScope::All, RequestId::random());
    RequestContext { tenant, principal: Principal::Anonymous, actors, client_ip: None, request_id }
}

fn system() -> RequestContext {
    RequestContext::system(TenantId::NIL)
}

pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_timestamp(1_780_000_000 + seconds, 123_456_000).unwrap()
}

fn issued(number: u128) -> KeyId {
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

fn compromise() -> Revocation {
    Revocation { reason: RevocationReason::KeyCompromise, description: None }
}

async fn stored_key_is_read_back_unchanged(store: Arc<dyn KeyStore>) {
    for id in [issued(1), KeyId::Imported([7; 32])] {
        assert_eq!(store.insert(&context(), &key(id), None).await.unwrap(), Inserted::New);
        assert_eq!(store.find(TenantId::NIL, id).await.unwrap(), Some(key(id)));
    }
    store.ping().await.unwrap();
}

async fn missing_key_is_none_not_an_error(store: Arc<dyn KeyStore>) {
    assert_eq!(store.find(TenantId::NIL, issued(1)).await.unwrap(), None);
    let revoked = store.revoke(&context(), issued(1), &compromise(), at(0)).await.unwrap();
    assert_eq!(revoked, Revoked::Absent);
}

async fn find_many_returns_the_keys_that_exist(store: Arc<dyn KeyStore>) {
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

async fn tenants_are_isolated(store: Arc<dyn KeyStore>) {
    store.insert(&context(), &key(issued(1)), Some("r")).await.unwrap();
    assert_eq!(store.find(OTHER, issued(1)).await.unwrap(), None);
    assert_eq!(store.find_by_request(OTHER, KeyKind::Issued, "r").await.unwrap(), None);
    assert_eq!(store.revoke(&context_of(OTHER), issued(1), &compromise(), at(0)).await.unwrap(), Revoked::Absent);
    let same_id = ApiKey { tenant: OTHER, ..key(issued(1)) };
    assert_eq!(store.insert(&context_of(OTHER), &same_id, Some("r")).await.unwrap(), Inserted::New);
}

async fn write_to_another_tenant_is_rejected(store: Arc<dyn KeyStore>) {
    fn refused<T: std::fmt::Debug>(result: Result<T, StoreError>) {
        let error = result.unwrap_err();
        assert!(matches!(error, StoreError::WrongTenant(_)), "{error:?}");
    }
    let (mine, own) = (key(issued(1)), ApiKey { tenant: OTHER, ..key(issued(2)) });
    store.insert(&context(), &mine, None).await.unwrap();
    store.insert(&context_of(OTHER), &own, None).await.unwrap();
    let new = key(issued(3));
    let admin = context_of(OTHER).with_principal(Principal::Admin("root".into()));
    let holder = context_of(OTHER).with_principal(Principal::Key(own.id));
    for context in [&context_of(OTHER), &admin, &holder] {
        refused(store.insert(context, &new, Some("r")).await);
        refused(store.insert_many(context, &[ApiKey { tenant: OTHER, ..new.clone() }, new.clone()]).await);
        refused(store.replace(context, &ApiKey { name: "stolen".into(), version: 2, ..mine.clone() }, 1).await);
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

async fn second_insert_of_an_id_is_rejected(store: Arc<dyn KeyStore>) {
    store.insert(&context(), &key(issued(1)), None).await.unwrap();
    let second = ApiKey { name: "second".into(), ..key(issued(1)) };
    assert_eq!(store.insert(&context(), &second, None).await.unwrap(), Inserted::Exists);
    assert_eq!(store.find(TenantId::NIL, issued(1)).await.unwrap(), Some(key(issued(1))));
}

async fn repeated_request_id_returns_the_first_key(store: Arc<dyn KeyStore>) {
    store.insert(&context(), &key(issued(1)), Some("r")).await.unwrap();
    let replay = store.insert(&context(), &key(issued(2)), Some("r")).await.unwrap();
    assert_eq!(replay, Inserted::Replay(Box::new(key(issued(1)))));
    assert_eq!(store.find(TenantId::NIL, issued(2)).await.unwrap(), None);
    let imported = KeyId::Imported([1; 32]);
    assert_eq!(store.insert(&context(), &key(imported), Some("r")).await.unwrap(), Inserted::New);
}

async fn concurrent_inserts_with_one_request_id_add_one_key(store: Arc<dyn KeyStore>) {
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

async fn revocation_is_stored_with_all_its_fields(store: Arc<dyn KeyStore>) {
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

async fn second_revocation_is_rejected(store: Arc<dyn KeyStore>) {
    store.insert(&context(), &key(issued(1)), None).await.unwrap();
    store.revoke(&context(), issued(1), &compromise(), at(5)).await.unwrap();
    let second = store.revoke(&context(), issued(1), &compromise(), at(6)).await.unwrap();
    assert_eq!(second, Revoked::Already);
}

async fn revocation_extends_but_never_shortens_the_expiry(store: Arc<dyn KeyStore>) {
    let far = Some(at(100 * 24 * 3600));
    store.insert(&context(), &ApiKey { expire_time: far, ..key(issued(1)) }, None).await.unwrap();
    store.insert(&context(), &ApiKey { expire_time: None, ..key(issued(2)) }, None).await.unwrap();
    for (id, expected) in [(1, far), (2, Some(at(0) + chrono::TimeDelta::days(30)))] {
        let revoked = store.revoke(&context(), issued(id), &compromise(), at(0)).await.unwrap();
        assert!(matches!(revoked, Revoked::Done(key) if key.expire_time == expected));
    }
}

async fn count_active_excludes_revoked_keys(store: Arc<dyn KeyStore>) {
    for number in 1..=3 {
        store.insert(&context(), &key(issued(number)), None).await.unwrap();
    }
    store.insert(&context(), &key(KeyId::Imported([1; 32])), None).await.unwrap();
    store.revoke(&context(), issued(2), &compromise(), at(0)).await.unwrap();
    assert_eq!(store.count_active(TenantId::NIL, at(5)).await.unwrap(), 3);
}

async fn insert_many_skips_ids_that_are_taken(store: Arc<dyn KeyStore>) {
    store.insert(&context(), &key(KeyId::Imported([0; 32])), None).await.unwrap();
    let keys: Vec<_> = (0u8..=250).map(|number| key(KeyId::Imported([number; 32]))).collect();
    let stored = store.insert_many(&context(), &keys).await.unwrap();
    assert_eq!(stored.iter().filter(|stored| **stored).count(), 250);
    assert!(!stored[0]);
    assert_eq!(store.find(TenantId::NIL, keys[250].id).await.unwrap(), Some(keys[250].clone()));
}

fn query(filter: &KeyFilter, before: Option<KeyId>, limit: u32) -> PageQuery<'_> {
    let (tenant, kind, actors) = (TenantId::NIL, KeyKind::Issued, &ActorScope::All);
    PageQuery { tenant, kind, filter, actors, before, limit, now: at(100) }
}

async fn pages_return_every_key_once(store: Arc<dyn KeyStore>) {
    let keys: Vec<_> = (1..=25).map(|number| key(issued(number * 3))).collect();
    store.insert_many(&context(), &keys).await.unwrap();
    store.insert(&context_of(OTHER), &ApiKey { tenant: OTHER, ..key(issued(4)) }, None).await.unwrap();
    store.insert(&context(), &key(KeyId::Imported([4; 32])), None).await.unwrap();
    let (filter, mut before, mut listed) = (KeyFilter::default(), None, Vec::new());
    loop {
        let page = store.list(&query(&filter, before, 10)).await.unwrap();
        let Some(last) = page.last() else { break };
        before = Some(last.id);
        listed.extend(page.into_iter().map(|key| key.id));
    }
    let expected: Vec<_> = keys.iter().rev().map(|key| key.id).collect();
    assert_eq!(listed, expected);
}

async fn filters_select_by_actor_and_status(store: Arc<dyn KeyStore>) {
    let of_actor =
        |number, actor: &str, expiry| ApiKey { actor_id: actor.into(), expire_time: expiry, ..key(issued(number)) };
    let keys = [
        of_actor(1, "a", None),
        of_actor(2, "a", Some(at(99))),
        of_actor(3, "a", Some(at(100))),
        of_actor(4, "b", Some(at(500))),
        of_actor(5, "b", Some(at(99))),
    ];
    store.insert_many(&context(), &keys).await.unwrap();
    store.revoke(&context(), issued(4), &compromise(), at(0)).await.unwrap();
    let filter = |actor: Option<&str>, state| KeyFilter { actor_id: actor.map(str::to_owned), state };
    for (filter, expected) in [
        (filter(None, None), vec![5, 4, 3, 2, 1]),
        (filter(Some("a"), None), vec![3, 2, 1]),
        (filter(Some("c"), None), vec![]),
        (filter(None, Some(EffectiveStatus::Active)), vec![3, 1]),
        (filter(None, Some(EffectiveStatus::Expired)), vec![5, 2]),
        (filter(None, Some(EffectiveStatus::Revoked)), vec![4]),
        (filter(Some("a"), Some(EffectiveStatus::Active)), vec![3, 1]),
        (filter(Some("a"), Some(EffectiveStatus::Expired)), vec![2]),
        (filter(Some("b"), Some(EffectiveStatus::Revoked)), vec![4]),
    ] {
        let page = store.list(&query(&filter, None, 10)).await.unwrap();
        let expected: Vec<_> = expected.into_iter().map(issued).collect();
        assert_eq!(page.iter().map(|key| key.id).collect::<Vec<_>>(), expected, "{filter:?}");
    }
}

async fn lists_select_by_prefixes_of_actors(store: Arc<dyn KeyStore>) {
    let of_actor = |number, actor: &str| ApiKey { actor_id: actor.into(), ..key(issued(number)) };
    let keys = [of_actor(1, "a/x"), of_actor(2, "a%"), of_actor(3, "ab"), of_actor(4, "A/x"), of_actor(5, "é/x")];
    store.insert_many(&context(), &keys).await.unwrap();
    for (prefixes, actor, expected) in [
        (&["a/"][..], None, vec![1]),
        (&["a"], None, vec![3, 2, 1]),
        (&["a%", "a_"], None, vec![2]),
        (&["é/", "a/"], None, vec![5, 1]),
        (&["a/x/y"], None, vec![]),
        (&["a/"], Some("a/x"), vec![1]),
        (&["a/"], Some("ab"), vec![]),
    ] {
        let filter = KeyFilter { actor_id: actor.map(str::to_owned), state: None };
        let actors = ActorScope::of_prefixes(prefixes.iter().copied());
        let page = store.list(&PageQuery { actors: &actors, ..query(&filter, None, 10) }).await.unwrap();
        let expected: Vec<_> = expected.into_iter().map(issued).collect();
        assert_eq!(page.iter().map(|key| key.id).collect::<Vec<_>>(), expected, "{prefixes:?} {actor:?}");
    }
    let none = ActorScope::Prefixes([].into());
    let page = store.list(&PageQuery { actors: &none, ..query(&KeyFilter::default(), None, 10) }).await.unwrap();
    assert_eq!(page, []);
}

async fn replace_requires_the_expected_version(store: Arc<dyn KeyStore>) {
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
    assert!(store.replace(&context(), &changed, 1).await.unwrap());
    assert_eq!(store.find(TenantId::NIL, issued(1)).await.unwrap(), Some(changed.clone()));
    assert!(!store.replace(&context(), &key(issued(1)), 1).await.unwrap());
    assert!(!store.replace(&context(), &key(issued(2)), 1).await.unwrap());
    assert_eq!(store.find(TenantId::NIL, issued(1)).await.unwrap(), Some(changed));
}

async fn rotation_is_atomic_and_happens_once(store: Arc<dyn KeyStore>) {
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

async fn one_of_many_concurrent_rotations_succeeds(store: Arc<dyn KeyStore>) {
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

async fn replaced_key_is_active_until_its_time(store: Arc<dyn KeyStore>) {
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
    let renamed = ApiKey { name: "changed".into(), version: 3, ..old };
    assert!(store.replace(&context(), &renamed, 2).await.unwrap());
    assert_eq!(store.find(TenantId::NIL, issued(1)).await.unwrap(), Some(renamed));
    if let Some(feed) = Arc::clone(&store).feed() {
        let changes = feed.recent(Duration::from_secs(3600), 1000).await.unwrap();
        let times: Vec<_> =
            changes.iter().filter(|change| change.version == 2).map(|change| change.revoke_time).collect();
        assert_eq!(times, [Some(at(50))]);
    }
}

async fn replaced_key_can_be_revoked_before_its_time_and_not_after(store: Arc<dyn KeyStore>) {
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

async fn replaced_key_is_listed_by_its_status(store: Arc<dyn KeyStore>) {
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

async fn both_keys_of_a_rotation_have_a_last_use(store: Arc<dyn KeyStore>) {
    const DAY: i64 = 24 * 3600;
    replace_later(&store).await;
    let last_used = async |number| store.find(TenantId::NIL, issued(number)).await.unwrap().unwrap().last_used_time;
    store.record_last_used(&context(), &[(TenantId::NIL, issued(1))], at(6)).await.unwrap();
    assert_eq!((last_used(1).await, last_used(2).await), (Some(at(6)), None));
    store.record_last_used(&context(), &[(TenantId::NIL, issued(2))], at(DAY)).await.unwrap();
    assert_eq!((last_used(1).await, last_used(2).await), (Some(at(6)), Some(at(DAY))));
}

async fn deleted_key_is_not_found_but_listed_as_revoked(store: Arc<dyn KeyStore>) {
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

async fn revoked_keys_are_listed_latest_first(store: Arc<dyn KeyStore>) {
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

async fn last_use_is_recorded_once_a_day_without_a_change(store: Arc<dyn KeyStore>) {
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

async fn concurrent_last_uses_and_changes_are_both_kept(store: Arc<dyn KeyStore>) {
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
        assert!(store.replace(&context(), &changed, 1).await.unwrap());
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

/// Years before the other times, so that it is in the past by any clock.
fn long_ago(seconds: i64) -> Timestamp {
    at(seconds) - chrono::TimeDelta::days(3000)
}

fn expiring(number: u128, expire_time: Option<Timestamp>) -> ApiKey {
    ApiKey { expire_time, ..key(issued(number)) }
}

async fn purge_deletes_expired_keys_earliest_first(store: Arc<dyn KeyStore>) {
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

async fn concurrent_purges_return_each_key_once(store: Arc<dyn KeyStore>) {
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

async fn prune_deleted_removes_the_oldest_deletions(store: Arc<dyn KeyStore>) {
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
