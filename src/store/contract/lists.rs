//! Pages of keys and their filters.

use std::sync::Arc;

use super::fixtures::{OTHER, at, compromise, context, context_of, issued, key};
use crate::id::{KeyId, KeyKind, TenantId};
use crate::key::{ApiKey, EffectiveStatus, KeyFilter};
use crate::request_context::ActorScope;
use crate::store::{KeyStore, PageQuery};

/// A query for a page of issued keys of the nil tenant.
pub(super) fn query(filter: &KeyFilter, before: Option<KeyId>, limit: u32) -> PageQuery<'_> {
    let (tenant, kind, actors) = (TenantId::NIL, KeyKind::Issued, &ActorScope::All);
    PageQuery { tenant, kind, filter, actors, before, limit, now: at(100) }
}

pub(super) async fn pages_return_every_key_once(store: Arc<dyn KeyStore>) {
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

pub(super) async fn filters_select_by_actor_and_status(store: Arc<dyn KeyStore>) {
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

pub(super) async fn lists_select_by_prefixes_of_actors(store: Arc<dyn KeyStore>) {
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
