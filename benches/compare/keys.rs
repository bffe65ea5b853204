//! Keys as Keygate issues them, put into its database before it starts: a million over the admin API would take an hour.

use std::path::Path;

use chrono::TimeDelta;
use keygate::cidr::CidrSet;
use keygate::clock::{Clock, SystemClock};
use keygate::credential::{Keyring, mint};
use keygate::id::TenantId;
use keygate::key::{ApiKey, Status};
use keygate::policy::Visibility;
use keygate::request_context::RequestContext;
use keygate::store::{KeyStore, SqliteOptions, SqliteStore};
use rand::rngs::StdRng;
use secrecy::ExposeSecret;
use tokio::runtime::Builder;

use crate::support::keygate::HMAC_SECRET;

/// What the route demands, and every key has.
pub(crate) const SCOPE: &str = "orders:read";
/// Keys in one statement.
const BATCH: usize = 5_000;
/// Owners; their keys are spread evenly over all.
const ACTORS: usize = 1_000;
/// What keys begin with, by default.
const PREFIX: &str = "ory_ak";

/// Stores so many keys in a SQLite file, and returns their texts. They may be used from `networks`.
pub(crate) fn fill(file: &Path, count: usize, networks: &[String]) -> Vec<String> {
    let keyring = Keyring::new(&HMAC_SECRET.to_owned().into(), &[]);
    let networks = CidrSet::parse(networks).unwrap();
    let mut rng: StdRng = rand::make_rng();
    let options = SqliteOptions { path: Some(file.to_owned()), max_connections: 1 };
    Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
        let store = SqliteStore::open(&options).await.unwrap();
        let mut texts = Vec::with_capacity(count);
        for first in (0..count).step_by(BATCH) {
            let batch = (first..count.min(first + BATCH)).map(|number| key(number, &networks, &keyring, &mut rng));
            let (keys, its_texts): (Vec<ApiKey>, Vec<String>) = batch.unzip();
            assert!(
                store
                    .insert_many(&RequestContext::system(TenantId::NIL), &keys)
                    .await
                    .unwrap()
                    .iter()
                    .all(|stored| *stored)
            );
            texts.extend(its_texts);
        }
        store.close().await;
        texts
    })
}

/// The same texts with checksums that are not theirs: the right shape, and forged.
pub(crate) fn forge(texts: &[String]) -> Vec<String> {
    let others = texts.iter().skip(1).chain(texts.first());
    texts.iter().zip(others).map(|(text, other)| signed_part(text).to_owned() + checksum(other)).collect()
}

fn signed_part(text: &str) -> &str {
    &text[..text.len() - checksum(text).len()]
}

fn checksum(text: &str) -> &str {
    text.rsplit('_').next().unwrap()
}

fn key(number: usize, networks: &CidrSet, keyring: &Keyring, rng: &mut StdRng) -> (ApiKey, String) {
    let now = SystemClock.now();
    let (id, text) = mint(PREFIX, keyring, now, rng).unwrap();
    let key = ApiKey {
        tenant: TenantId::NIL,
        id,
        name: format!("key {number}"),
        actor_id: format!("actor-{}", number % ACTORS),
        scopes: [SCOPE, "orders:write"].into_iter().collect(),
        metadata: [("team".to_owned(), "payments".into())].into_iter().collect(),
        status: Status::Active,
        visibility: Visibility::Secret,
        create_time: now,
        update_time: now,
        expire_time: Some(now + TimeDelta::days(90)),
        revoke_time: None,
        replaced_by: None,
        // Used today already: the first use on a day is written to the database, all others are not.
        last_used_time: Some(now),
        rate_limit: None,
        networks: networks.clone(),
        version: ApiKey::first_version(now),
    };
    (key, text.expose_secret().to_owned())
}
