//! Issues keys and inserts them into Keygate's database before it starts. Creating a million keys over the admin API would take an hour.

use std::path::Path;

use chrono::TimeDelta;
use keygate::cidr::CidrSet;
use keygate::clock::{Clock, SystemClock};
use keygate::credential::{Keyring, mint};
use keygate::id::TenantId;
use keygate::key::ApiKey;
use keygate::request_context::RequestContext;
use keygate::store::{KeyStore, SqliteOptions, SqliteStore};
use rand::rngs::StdRng;
use secrecy::ExposeSecret;
use tokio::runtime::Builder;

use crate::support::keygate::HMAC_SECRET;

/// The scope that the route requires. Every key has it.
pub(crate) const SCOPE: &str = "orders:read";
/// Keys per insert statement.
const BATCH_SIZE: usize = 5_000;
/// The number of actors. Keys are distributed evenly among them.
const ACTORS: usize = 1_000;
/// The default prefix of keys.
const PREFIX: &str = "ory_ak";

/// Inserts `count` keys into a SQLite database and returns their texts. The keys are restricted to `networks`; an empty list is no
/// restriction.
pub(crate) fn insert_keys(file: &Path, count: usize, networks: &[String]) -> Vec<String> {
    let keyring = Keyring::new(&HMAC_SECRET.to_owned().into(), &[]);
    let networks = CidrSet::parse(networks).unwrap();
    let mut rng: StdRng = rand::make_rng();
    let options = SqliteOptions { path: Some(file.to_owned()), max_connections: 1 };
    Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
        let store = SqliteStore::open(&options).await.unwrap();
        let mut texts = Vec::with_capacity(count);
        for first in (0..count).step_by(BATCH_SIZE) {
            let batch =
                (first..count.min(first + BATCH_SIZE)).map(|number| new_key(number, &networks, &keyring, &mut rng));
            let (keys, batch_texts): (Vec<ApiKey>, Vec<String>) = batch.unzip();
            assert!(
                store
                    .insert_many(&RequestContext::system(TenantId::NIL), &keys)
                    .await
                    .unwrap()
                    .iter()
                    .all(|stored| *stored)
            );
            texts.extend(batch_texts);
        }
        store.close().await;
        texts
    })
}

/// Forges keys: replaces the checksum of each text by that of the next one. The results are well-formed, but their checksums are wrong.
pub(crate) fn forge(texts: &[String]) -> Vec<String> {
    let others = texts.iter().skip(1).chain(texts.first());
    texts.iter().zip(others).map(|(text, other)| signed_part(text).to_owned() + checksum(other)).collect()
}

/// The part of a key before its checksum.
fn signed_part(text: &str) -> &str {
    &text[..text.len() - checksum(text).len()]
}

fn checksum(text: &str) -> &str {
    text.rsplit('_').next().unwrap()
}

/// A new key and its text.
fn new_key(number: usize, networks: &CidrSet, keyring: &Keyring, rng: &mut StdRng) -> (ApiKey, String) {
    let now = SystemClock.now();
    let (id, text) = mint(PREFIX, keyring, now, rng).unwrap();
    let key = ApiKey {
        name: format!("key {number}"),
        actor_id: format!("actor-{}", number % ACTORS),
        scopes: [SCOPE, "orders:write"].into_iter().collect(),
        metadata: [("team".to_owned(), "payments".into())].into_iter().collect(),
        expire_time: Some(now + TimeDelta::days(90)),
        // Only the first use of a key per day is written to the database. This value prevents that write.
        last_used_time: Some(now),
        networks: networks.clone(),
        ..ApiKey::new(TenantId::NIL, id, now)
    };
    (key, text.expose_secret().to_owned())
}
