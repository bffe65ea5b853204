//! Counts of inactive keys.

use std::sync::Arc;

use rand::SeedableRng;
use rand::rngs::StdRng;
use uuid::Uuid;

use super::fixtures::{OTHER, at, key};
use super::search::{NOW, keys, pick, some_search};
use crate::id::{KeyId, KeyKind, TenantId};
use crate::key::{ApiKey, EffectiveStatus, KeySearch};
use crate::request_context::{ActorScope, RequestContext};
use crate::store::{InactiveCount, InactiveQuery, KeyStore};

fn query<'a>(search: &'a KeySearch, actors: &'a ActorScope, kind: KeyKind) -> InactiveQuery<'a> {
    let tenant = TenantId::NIL;
    InactiveQuery { tenant, kind, search, not_name_prefix: None, not_actor_prefix: None, actors, now: at(NOW) }
}

pub(super) async fn inactive_keys_are_counted_under_every_condition(store: Arc<dyn KeyStore>) {
    let mut rng = StdRng::seed_from_u64(9);
    let keys = keys(&mut rng, 400);
    let context = RequestContext::system(TenantId::NIL);
    store.insert_many(&context, &keys).await.unwrap();
    let foreign: Vec<_> = keys.iter().map(|key| ApiKey { tenant: OTHER, ..key.clone() }).collect();
    store.insert_many(&context, &foreign).await.unwrap();
    let mut total = 0;
    for number in 0..400 {
        let (search, actors) = match number {
            0 => (KeySearch::default(), ActorScope::All),
            _ => some_search(&mut rng),
        };
        let not_name_prefix = *pick(&mut rng, &[None, None, Some("a"), Some("\u{e9}")]);
        let not_actor_prefix = *pick(&mut rng, &[None, None, Some("team-a/"), Some("%")]);
        let conditions = KeySearch { state: None, ..search.clone() };
        let is_counted = |key: &&ApiKey| {
            key.effective_status(at(NOW)) != EffectiveStatus::Active
                && conditions.matches(key, at(NOW))
                && actors.allows(&key.actor_id)
                && !not_name_prefix.is_some_and(|prefix| key.name.starts_with(prefix))
                && !not_actor_prefix.is_some_and(|prefix| key.actor_id.starts_with(prefix))
        };
        for kind in [KeyKind::Issued, KeyKind::Imported] {
            let expected = keys.iter().filter(|key| key.id.kind() == kind).filter(is_counted).count() as u64;
            let query = InactiveQuery { not_name_prefix, not_actor_prefix, ..query(&search, &actors, kind) };
            let counted = store.count_inactive(&query).await.unwrap();
            assert_eq!(counted, InactiveCount { count: expected, is_complete: true }, "{query:?}");
            total += expected;
        }
    }
    assert!(total > 1000, "the searches counted {total} keys");
}

/// Adds issued keys, every fourth of which is expired.
async fn add(store: &dyn KeyStore, count: u128) {
    let one = |number| {
        let expire_time = (number % 4 == 0).then(|| at(NOW - 1));
        ApiKey { expire_time, ..key(KeyId::Issued(Uuid::from_u128(number))) }
    };
    let keys: Vec<_> = (0..count).map(one).collect();
    for batch in keys.chunks(3000) {
        store.insert_many(&RequestContext::system(TenantId::NIL), batch).await.unwrap();
    }
}

pub(super) async fn count_of_many_keys_reads_a_bounded_number_of_rows(store: Arc<dyn KeyStore>) {
    add(&*store, 10_000).await;
    // All names are equal.
    let search = KeySearch { name_prefix: Some("na".into()), ..KeySearch::default() };
    let counted = store.count_inactive(&query(&search, &ActorScope::All, KeyKind::Issued)).await.unwrap();
    match counted {
        InactiveCount { count: 2500, is_complete: true } => {}
        InactiveCount { count, is_complete: false } => assert!((1..2500).contains(&count), "{count}"),
        other => panic!("{other:?}"),
    }
}

pub(super) async fn count_by_status_is_complete_for_many_keys(store: Arc<dyn KeyStore>) {
    add(&*store, 24_000).await;
    for search in [KeySearch::default(), KeySearch { expiring_before: Some(at(NOW + 1)), ..KeySearch::default() }] {
        let counted = store.count_inactive(&query(&search, &ActorScope::All, KeyKind::Issued)).await.unwrap();
        assert_eq!(counted, InactiveCount { count: 6000, is_complete: true });
    }
}
