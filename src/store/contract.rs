//! What every store must do. Each test runs against every implementation.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::*;
use crate::cidr::CidrSet;
use crate::key::{RevocationReason, Status};
use crate::policy::{RateLimitPolicy, Visibility};

/// Runs a test of the contract against the stores named.
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
    };
}

contract!(
    a_key_is_read_back_as_it_was_stored,
    an_unknown_key_is_absent_not_an_error,
    tenants_do_not_see_each_other,
    an_id_is_taken_once,
    a_request_id_returns_the_first_key,
    of_many_equal_requests_one_inserts,
    a_revocation_is_stored_whole,
    a_key_is_revoked_once,
    the_revoked_expiry_is_the_later_one,
    only_active_keys_are_counted,
);

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_timestamp(1_780_000_000 + seconds, 123_456_000).unwrap()
}

fn issued(number: u128) -> KeyId {
    KeyId::Issued(Uuid::from_u128(number))
}

fn key(id: KeyId) -> ApiKey {
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

async fn a_key_is_read_back_as_it_was_stored(store: Arc<dyn KeyStore>) {
    for id in [issued(1), KeyId::Imported([7; 32])] {
        assert_eq!(store.insert(&key(id), None).await.unwrap(), Inserted::New);
        assert_eq!(store.find(TenantId::NIL, id).await.unwrap(), Some(key(id)));
    }
    store.ping().await.unwrap();
}

async fn an_unknown_key_is_absent_not_an_error(store: Arc<dyn KeyStore>) {
    assert_eq!(store.find(TenantId::NIL, issued(1)).await.unwrap(), None);
    let revoked = store.revoke(TenantId::NIL, issued(1), &compromise(), at(0)).await.unwrap();
    assert_eq!(revoked, Revoked::Absent);
}

async fn tenants_do_not_see_each_other(store: Arc<dyn KeyStore>) {
    let other = TenantId(Uuid::from_u128(9));
    store.insert(&key(issued(1)), Some("r")).await.unwrap();
    assert_eq!(store.find(other, issued(1)).await.unwrap(), None);
    assert_eq!(store.find_by_request(other, issued(1), "r").await.unwrap(), None);
    assert_eq!(store.revoke(other, issued(1), &compromise(), at(0)).await.unwrap(), Revoked::Absent);
    let same_id = ApiKey { tenant: other, ..key(issued(1)) };
    assert_eq!(store.insert(&same_id, Some("r")).await.unwrap(), Inserted::New);
}

async fn an_id_is_taken_once(store: Arc<dyn KeyStore>) {
    store.insert(&key(issued(1)), None).await.unwrap();
    let second = ApiKey { name: "second".into(), ..key(issued(1)) };
    assert_eq!(store.insert(&second, None).await.unwrap(), Inserted::Exists);
    assert_eq!(store.find(TenantId::NIL, issued(1)).await.unwrap(), Some(key(issued(1))));
}

async fn a_request_id_returns_the_first_key(store: Arc<dyn KeyStore>) {
    store.insert(&key(issued(1)), Some("r")).await.unwrap();
    let replay = store.insert(&key(issued(2)), Some("r")).await.unwrap();
    assert_eq!(replay, Inserted::Replay(Box::new(key(issued(1)))));
    assert_eq!(store.find(TenantId::NIL, issued(2)).await.unwrap(), None);
    let imported = KeyId::Imported([1; 32]);
    assert_eq!(store.insert(&key(imported), Some("r")).await.unwrap(), Inserted::New);
}

async fn of_many_equal_requests_one_inserts(store: Arc<dyn KeyStore>) {
    let calls = (1..=16).map(|number| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.insert(&key(issued(number)), Some("same")).await.unwrap() })
    });
    let mut new = 0;
    for call in calls.collect::<Vec<_>>() {
        new += usize::from(call.await.unwrap() == Inserted::New);
    }
    assert_eq!(new, 1);
    assert_eq!(store.count_active(TenantId::NIL).await.unwrap(), 1);
}

async fn a_revocation_is_stored_whole(store: Arc<dyn KeyStore>) {
    store.insert(&key(issued(1)), None).await.unwrap();
    let revocation =
        Revocation { reason: RevocationReason::PrivilegeWithdrawn, description: Some("left the team".into()) };
    let Revoked::Done(revoked) = store.revoke(TenantId::NIL, issued(1), &revocation, at(5)).await.unwrap() else {
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

async fn a_key_is_revoked_once(store: Arc<dyn KeyStore>) {
    store.insert(&key(issued(1)), None).await.unwrap();
    store.revoke(TenantId::NIL, issued(1), &compromise(), at(5)).await.unwrap();
    let second = store.revoke(TenantId::NIL, issued(1), &compromise(), at(6)).await.unwrap();
    assert_eq!(second, Revoked::Already);
}

async fn the_revoked_expiry_is_the_later_one(store: Arc<dyn KeyStore>) {
    let far = Some(at(100 * 24 * 3600));
    store.insert(&ApiKey { expire_time: far, ..key(issued(1)) }, None).await.unwrap();
    store.insert(&ApiKey { expire_time: None, ..key(issued(2)) }, None).await.unwrap();
    for (id, expected) in [(1, far), (2, Some(at(0) + chrono::TimeDelta::days(30)))] {
        let revoked = store.revoke(TenantId::NIL, issued(id), &compromise(), at(0)).await.unwrap();
        assert!(matches!(revoked, Revoked::Done(key) if key.expire_time == expected));
    }
}

async fn only_active_keys_are_counted(store: Arc<dyn KeyStore>) {
    for number in 1..=3 {
        store.insert(&key(issued(number)), None).await.unwrap();
    }
    store.insert(&key(KeyId::Imported([1; 32])), None).await.unwrap();
    store.revoke(TenantId::NIL, issued(2), &compromise(), at(0)).await.unwrap();
    assert_eq!(store.count_active(TenantId::NIL).await.unwrap(), 3);
}
