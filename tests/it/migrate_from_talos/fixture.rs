//! A server with many keys in every state, whose secrets are known, and commands that copy its keys.

use std::num::NonZeroU64;
use std::path::Path;
use std::time::Duration;

use chrono::{SubsecRound, TimeDelta};
use keygate::cidr::CidrSet;
use keygate::clock::{Clock, SystemClock, Timestamp};
use keygate::credential::{Keyring, imported_key_id, mint};
use keygate::id::{KeyId, TenantId};
use keygate::key::{ApiKey, Revocation, RevocationReason, Status};
use keygate::policy::{RateLimitPolicy, Visibility};
use keygate::request_context::RequestContext;
use keygate::store::{KeyStore, SqliteOptions, SqliteStore};
use rand::SeedableRng;
use rand::rngs::StdRng;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::support::keygate::{HMAC_SECRET, Keygate, command, write_private};

/// The members of a verification that depend on its time.
const TIMED: [&str; 2] = ["rate_limit_remaining", "rate_limit_reset_time"];

/// Starts a server over the SQLite file of a folder.
pub(super) fn serve(folder: &Path) -> Keygate {
    Keygate::serve_admin(&json!({"db": {"dsn": dsn(folder)}}))
}

pub(super) fn dsn(folder: &Path) -> String {
    format!("sqlite://{}", folder.join("keys.db").display())
}

/// Adds keys to the SQLite file of a folder, which no server uses. Returns their secrets.
pub(super) async fn add_keys(folder: &Path, count: u32) -> Vec<String> {
    let options = SqliteOptions { path: Some(folder.join("keys.db")), max_connections: 1 };
    let store = SqliteStore::open(&options).await.unwrap();
    let keyring = Keyring::new(&HMAC_SECRET.to_owned().into(), &[]);
    let (mut random, now) = (StdRng::seed_from_u64(u64::from(count)), SystemClock.now().trunc_subsecs(6));
    let made: Vec<(ApiKey, String)> = (0..count).map(|number| make(number, now, &keyring, &mut random)).collect();
    for part in made.chunks(1000) {
        let keys: Vec<ApiKey> = part.iter().map(|(key, _)| key.clone()).collect();
        let added = store.insert_many(&RequestContext::system(TenantId::NIL), &keys).await.unwrap();
        assert!(added.iter().all(|added| *added));
    }
    store.close().await;
    made.into_iter().map(|(_, secret)| secret).collect()
}

/// A key and its secret: every third one is imported; of ten, one is revoked, one replaced, one expired, one of a network.
fn make(number: u32, now: Timestamp, keyring: &Keyring, random: &mut StdRng) -> (ApiKey, String) {
    let create_time = now - TimeDelta::days(30) + TimeDelta::microseconds(i64::from(number) * 7);
    let is_imported = number.is_multiple_of(3);
    let visibility = if number.is_multiple_of(7) { Visibility::Public } else { Visibility::Secret };
    let (id, secret) = if is_imported {
        let secret = format!("sk_live_{number}");
        (imported_key_id(TenantId::NIL, &secret), secret)
    } else {
        let prefix = if visibility == Visibility::Public { "pub" } else { "ory_ak" };
        let (id, secret) = mint(prefix, keyring, create_time, random).unwrap();
        (id, secret.expose_secret().to_owned())
    };
    let key = ApiKey {
        name: if number % 10 == 4 { String::new() } else { format!("key {number} é") },
        actor_id: format!("team-{}", number % 100),
        scopes: ["orders:read", "orders:read", "x"].into_iter().collect(),
        metadata: serde_json::from_value(json!({"number": number, "big": 9_007_199_254_740_993_i64})).unwrap(),
        visibility,
        update_time: create_time + TimeDelta::hours(1),
        expire_time: Some(now + TimeDelta::days(60)),
        last_used_time: number.is_multiple_of(2).then(|| now - TimeDelta::days(2)),
        version: 1,
        ..ApiKey::new(TenantId::NIL, id, create_time)
    };
    (in_state(key, number % 10, now), secret)
}

fn in_state(key: ApiKey, state: u32, now: Timestamp) -> ApiKey {
    let past = Some(now - TimeDelta::days(1));
    match state {
        0 => {
            let reason = RevocationReason::PrivilegeWithdrawn;
            let revocation = Revocation { reason, description: Some("left".into()) };
            ApiKey { status: Status::Revoked(revocation), ..key }
        }
        1 => ApiKey { expire_time: past, ..key },
        2 => ApiKey { revoke_time: past, replaced_by: Some(KeyId::Issued(uuid::Uuid::from_u128(7))), ..key },
        3 => ApiKey { networks: CidrSet::parse(&["10.0.0.0/8"]).unwrap(), ..key },
        5 => {
            let limit = RateLimitPolicy { quota: NonZeroU64::new(9).unwrap(), window: Duration::from_secs(60) };
            ApiKey { rate_limit: Some(limit), ..key }
        }
        6 => ApiKey { expire_time: None, ..key },
        _ => key,
    }
}

/// The result of a verification of each secret, without the members that depend on the time.
pub(super) async fn outcomes(keygate: &Keygate, secrets: &[String]) -> Vec<Value> {
    let mut outcomes = Vec::new();
    for part in secrets.chunks(100) {
        let requests: Vec<Value> = part.iter().map(|secret| json!({ "credential": secret })).collect();
        let batch = json!({ "requests": requests });
        let response = keygate.send_json("POST /v2alpha1/admin/apiKeys:batchVerify", &batch).await;
        assert_eq!(response.status, 200, "{response:?}");
        outcomes.extend(response.body["results"].as_array().unwrap().iter().cloned());
    }
    for outcome in &mut outcomes {
        outcome.as_object_mut().unwrap().retain(|name, _| !TIMED.contains(&name.as_str()));
    }
    outcomes
}

/// A command that copies the keys of a server into the SQLite file of a folder, with more settings of the configuration.
pub(super) fn migrate(source: &Keygate, folder: &Path, settings: &Value, arguments: &[&str]) -> std::process::Command {
    let mut config = json!({
        "credentials": {"issuer": "https://keys.example.com", "api_keys": {"prefix": {"public_current": "pub"}}},
        "secrets": {"hmac": {"current": HMAC_SECRET}},
        "db": {"dsn": dsn(folder)},
    });
    crate::support::keygate::merge(&mut config, settings);
    let file = folder.join("keygate.json");
    write_private(&file, &config.to_string());
    let mut command = command();
    command.args(["migrate", "from-talos", "--format", "json", "--endpoint", &source.admin, "--config"]);
    command.arg(file).args(arguments).env("KEYGATE_ADMIN_KEY", &source.admin_key);
    command
}
