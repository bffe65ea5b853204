//! Searches.

use std::sync::Arc;

use chrono::TimeDelta;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use uuid::Uuid;

use super::fixtures::{at, key};
use crate::clock::Timestamp;
use crate::id::{KeyId, KeyKind, TenantId};
use crate::key::{ApiKey, EffectiveStatus, KeySearch, Revocation, RevocationReason, SearchPosition, Status};
use crate::request_context::{ActorScope, RequestContext};
use crate::store::{FoundKeys, KeyStore, SearchQuery};

/// The time of the searches.
pub(super) const NOW: i64 = 5000;

pub(super) fn pick<'a, T>(rng: &mut StdRng, from: &'a [T]) -> &'a T {
    &from[rng.next_u32() as usize % from.len()]
}

/// A time near the searches, or none.
fn some_time(rng: &mut StdRng) -> Option<Timestamp> {
    let seconds = i64::from(rng.next_u32() % 10) * 1000;
    (seconds > 0).then(|| at(seconds))
}

/// Keys in every state, with few different values, so that many are equal in each order.
pub(super) fn keys(rng: &mut StdRng, count: usize) -> Vec<ApiKey> {
    let one = |rng: &mut StdRng| {
        let id = if rng.next_u32().is_multiple_of(3) {
            KeyId::Imported(std::array::from_fn(|_| rng.next_u32().to_le_bytes()[0]))
        } else {
            KeyId::Issued(Uuid::from_u128(u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64())))
        };
        let is_revoked = rng.next_u32().is_multiple_of(4);
        let revocation = Revocation { reason: RevocationReason::KeyCompromise, description: None };
        ApiKey {
            name: (*pick(rng, &["a", "aa", "ab", "A", "\u{e9}", "z\u{10ffff}", "a b"])).to_owned(),
            actor_id: (*pick(rng, &["team-a/x", "team-a/y", "team-b/x", "team", "%"])).to_owned(),
            scopes: pick(rng, &[&["read"][..], &["read", "write"], &[], &["readx", "\u{e9}\""]])
                .iter()
                .copied()
                .collect(),
            status: if is_revoked { Status::Revoked(revocation) } else { Status::Active },
            create_time: at(i64::from(rng.next_u32() % 4) * 1000),
            expire_time: some_time(rng),
            revoke_time: (!is_revoked && rng.next_u32().is_multiple_of(5)).then(|| at(*pick(rng, &[1000, 9000]))),
            last_used_time: some_time(rng),
            ..key(id)
        }
    };
    (0..count).map(|_| one(rng)).collect()
}

pub(super) fn some_search(rng: &mut StdRng) -> (KeySearch, ActorScope) {
    let mut maybe = |values: &[&str]| {
        let one_in_three = rng.next_u32().is_multiple_of(3);
        one_in_three.then(|| (*pick(rng, values)).to_owned())
    };
    let (name_prefix, actor_prefix) = (maybe(&["a", "A", "a ", "\u{e9}", "z\u{10ffff}"]), maybe(&["team-", "%", "x"]));
    let (key_id_prefix, scope) = (maybe(&["0", "f"]), maybe(&["read", "\u{e9}\"", "none"]));
    let states =
        [None, None, Some(EffectiveStatus::Active), Some(EffectiveStatus::Revoked), Some(EffectiveStatus::Expired)];
    let search = KeySearch {
        kind: None,
        name_prefix,
        actor_prefix,
        key_id_prefix,
        scope,
        state: *pick(rng, &states),
        expiring_before: some_time(rng).filter(|_| rng.next_u32().is_multiple_of(2)),
        unused_since: some_time(rng).filter(|_| rng.next_u32().is_multiple_of(2)),
        never_used: rng.next_u32().is_multiple_of(4),
    };
    let scopes: [&[&str]; 4] = [&[], &[], &["team-a/"], &["team-b/", "team-a/y"]];
    let prefixes = *pick(rng, &scopes);
    (search, ActorScope::of_prefixes(prefixes.iter().copied()))
}

async fn page(
    store: &dyn KeyStore,
    (search, actors): (&KeySearch, &ActorScope),
    kind: KeyKind,
    after: Option<&SearchPosition>,
    limit: u32,
) -> FoundKeys {
    let query = SearchQuery { tenant: TenantId::NIL, kind, search, actors, after, limit, now: at(NOW) };
    store.search(&query).await.unwrap()
}

/// All pages of a search.
async fn all(store: &dyn KeyStore, of: (&KeySearch, &ActorScope), kind: KeyKind, limit: u32) -> Vec<KeyId> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = page(store, of, kind, after.as_ref(), limit).await;
        assert!(page.keys.len() <= limit as usize);
        found.extend(page.keys.into_iter().map(|key| key.id));
        match page.next {
            Some(next) => assert!(after.replace(next.clone()) < Some(next), "{of:?}"),
            None => return found,
        }
    }
}

pub(super) async fn searches_return_every_matching_key_once_in_their_order(store: Arc<dyn KeyStore>) {
    let mut rng = StdRng::seed_from_u64(7);
    let keys = keys(&mut rng, 400);
    let context = RequestContext::system(TenantId::NIL);
    store.insert_many(&context, &keys).await.unwrap();
    let other = TenantId(Uuid::from_u128(9));
    let foreign: Vec<_> = keys.iter().map(|key| ApiKey { tenant: other, ..key.clone() }).collect();
    store.insert_many(&context, &foreign).await.unwrap();
    let mut total = 0;
    for _ in 0..300 {
        let (search, actors) = some_search(&mut rng);
        let order = search.order(actors.prefixes().is_some());
        for kind in [KeyKind::Issued, KeyKind::Imported] {
            let matches =
                |key: &&ApiKey| key.id.kind() == kind && search.matches(key, at(NOW)) && actors.allows(&key.actor_id);
            let mut expected: Vec<_> = keys.iter().filter(matches).map(|key| order.position(key)).collect();
            expected.sort();
            let expected: Vec<_> = expected.into_iter().map(|position| position.id).collect();
            for limit in [3, 1000] {
                let found = all(&*store, (&search, &actors), kind, limit).await;
                assert_eq!(found, expected, "{search:?} {actors:?} {limit}");
            }
            total += expected.len();
        }
    }
    assert!(total > 1000, "the searches found {total} keys");
}

pub(super) async fn search_for_few_of_many_keys_continues_until_they_are_found(store: Arc<dyn KeyStore>) {
    let mut keys: Vec<_> = (0..21_000).map(|number| key(KeyId::Issued(Uuid::from_u128(number)))).collect();
    for number in [10_500, 20_999] {
        keys[number].scopes = ["rare"].into_iter().collect();
    }
    for batch in keys.chunks(3000) {
        store.insert_many(&RequestContext::system(TenantId::NIL), batch).await.unwrap();
    }
    let search = KeySearch { scope: Some("rare".into()), ..KeySearch::default() };
    let found = all(&*store, (&search, &ActorScope::All), KeyKind::Issued, 50).await;
    assert_eq!(found, [keys[10_500].id, keys[20_999].id]);
}

pub(super) async fn keys_added_during_a_search_neither_hide_nor_repeat_others(store: Arc<dyn KeyStore>) {
    let mut rng = StdRng::seed_from_u64(8);
    let existing = keys(&mut rng, 200);
    let context = RequestContext::system(TenantId::NIL);
    store.insert_many(&context, &existing).await.unwrap();
    for search in [
        KeySearch::default(),
        KeySearch { name_prefix: Some("a".into()), ..KeySearch::default() },
        KeySearch { unused_since: Some(at(4000) + TimeDelta::seconds(1)), ..KeySearch::default() },
        KeySearch { state: Some(EffectiveStatus::Revoked), scope: Some("read".into()), ..KeySearch::default() },
    ] {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let (next, added) =
                (page(&*store, (&search, &ActorScope::All), KeyKind::Issued, after.as_ref(), 25), keys(&mut rng, 10));
            let (next, added) = tokio::join!(next, store.insert_many(&context, &added));
            added.unwrap();
            found.extend(next.keys.into_iter().map(|key| key.id));
            after = next.next;
            if after.is_none() {
                break;
            }
        }
        let mut unique = found.clone();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), found.len(), "no key is found twice: {search:?}");
        let expected = existing.iter().filter(|key| key.id.kind() == KeyKind::Issued && search.matches(key, at(NOW)));
        let missing: Vec<_> = expected.filter(|key| !unique.contains(&key.id)).collect();
        assert!(missing.is_empty(), "{search:?}: {missing:?}");
    }
}
