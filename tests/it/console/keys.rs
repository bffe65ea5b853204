//! `GET /keygate/v1/keys`: both kinds in one list, its conditions, its pages, and the bounds of callers.

use std::collections::BTreeSet;

use keygate::clock::{Clock, SystemClock};
use serde_json::{Value, json};

use crate::admin_auth::serve;
use crate::support::admin::AdminResponse;
use crate::support::keygate::Keygate;

impl Keygate {
    /// All keys of a query, over all pages; `key` is the admin key.
    async fn search_as(&self, key: &str, query: &str) -> Vec<Value> {
        let (mut keys, mut token) = (Vec::new(), String::new());
        loop {
            let page = self.search_page(key, query, &token).await;
            assert_eq!(page.status, 200, "{query}: {page:?}");
            keys.extend(page.body["keys"].as_array().unwrap().iter().cloned());
            token = page.text("/next_page_token");
            if token.is_empty() {
                return keys;
            }
        }
    }

    async fn search_page(&self, key: &str, query: &str, token: &str) -> AdminResponse {
        self.send_as(key, &format!("GET /keygate/v1/keys?{query}&page_token={token}"), "").await
    }

    /// The names of the keys of a query, sorted.
    async fn search_names(&self, key: &str, query: &str) -> Vec<String> {
        let keys = self.search_as(key, query).await;
        let mut names: Vec<_> = keys.iter().map(|key| key["name"].as_str().unwrap().to_owned()).collect();
        names.sort();
        names
    }
}

/// A server with keys of both kinds.
struct Keys {
    keygate: Keygate,
    orders: String,
    orders_secret: String,
    imported: String,
}

impl Keys {
    async fn new() -> Self {
        let keygate = serve(&json!({"last_used": {"flush_interval": "50ms"}}));
        let (orders, orders_secret) = keygate
            .issue(json!({"name": "orders", "actor_id": "team-a/x", "scopes": ["read", "write"], "ttl": "1h"}))
            .await;
        keygate.issue(json!({"name": "orders 2", "actor_id": "team-b/x", "scopes": ["read"], "ttl": "100h"})).await;
        let (revoked, _) = keygate.issue(json!({"name": "old", "actor_id": "team-a/y", "ttl": "200h"})).await;
        keygate.revoke(&revoked).await;
        let imported = json!({"name": "ordinary", "actor_id": "team-b/y", "raw_key": "raw-key-1", "scopes": ["read"]});
        let imported = keygate.import(imported).await;
        Self { keygate, orders, orders_secret, imported }
    }

    async fn names(&self, query: &str) -> Vec<String> {
        self.keygate.search_names(&self.keygate.admin_key, query).await
    }
}

/// The time a number of hours from now, as a parameter.
fn in_hours(hours: i64) -> String {
    let time = SystemClock.now() + chrono::TimeDelta::hours(hours);
    time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

#[tokio::test]
async fn conditions_select_keys_of_both_kinds() {
    let keys = Keys::new().await;
    let id_prefix = &keys.imported[..10];
    for (query, expected) in [
        (String::new(), vec!["old", "orders", "orders 2", "ordinary"]),
        ("kind=issued".into(), vec!["old", "orders", "orders 2"]),
        ("kind=imported".into(), vec!["ordinary"]),
        ("name_prefix=ord".into(), vec!["orders", "orders 2", "ordinary"]),
        ("namePrefix=orders%20".into(), vec!["orders 2"]),
        ("name_prefix=Ord".into(), vec![]),
        ("actor_prefix=team-a/".into(), vec!["old", "orders"]),
        (format!("key_id_prefix={id_prefix}"), vec!["ordinary"]),
        (format!("key_id_prefix={}", keys.orders), vec!["orders"]),
        ("scope=read".into(), vec!["orders", "orders 2", "ordinary"]),
        ("scope=write&name_prefix=o".into(), vec!["orders"]),
        ("scope=rea".into(), vec![]),
        ("status=KEY_STATUS_REVOKED".into(), vec!["old"]),
        ("status=KEY_STATUS_ACTIVE&actor_prefix=team-a".into(), vec!["orders"]),
        ("status=KEY_STATUS_EXPIRED".into(), vec![]),
        (format!("expiring_before={}", in_hours(2)), vec!["orders"]),
        (format!("expiringBefore={}&status=KEY_STATUS_ACTIVE", in_hours(101)), vec!["orders", "orders 2"]),
        (format!("unused_since={}", in_hours(-1)), vec![]),
        (format!("unusedSince={}", in_hours(1)), vec!["old", "orders", "orders 2", "ordinary"]),
        ("never_used=true&kind=imported".into(), vec!["ordinary"]),
        ("never_used=false".into(), vec!["old", "orders", "orders 2", "ordinary"]),
    ] {
        assert_eq!(keys.names(&query).await, expected, "{query}");
    }
}

#[tokio::test]
async fn used_key_is_no_longer_among_those_never_used() {
    let keys = Keys::new().await;
    assert_eq!(keys.keygate.call("/", &keys.orders_secret).await.status(), 502, "the upstream of the test is closed");
    crate::support::wait::wait_for(async || match keys.names("never_used=true").await {
        names if names == ["old", "orders 2", "ordinary"] => Ok(()),
        names => Err(format!("{names:?}")),
    })
    .await;
}

#[tokio::test]
async fn item_has_the_members_of_the_contract_and_its_kind() {
    let keys = Keys::new().await;
    for (kind, path, id) in [("issued", "issuedApiKeys", &keys.orders), ("imported", "importedApiKeys", &keys.imported)]
    {
        let mut expected = keys.keygate.send(&format!("GET /v2alpha1/admin/{path}/{id}"), "").await.body;
        expected["kind"] = kind.into();
        let query = format!("key_id_prefix={id}");
        assert_eq!(keys.keygate.search_as(&keys.keygate.admin_key, &query).await, [expected]);
    }
    let rotated =
        keys.keygate.post(&format!("issuedApiKeys/{}:rotate", keys.orders), &json!({"revoke_old_after": "10m"})).await;
    let rotated: Value = rotated.json().await.unwrap();
    let old = keys.keygate.search_as(&keys.keygate.admin_key, &format!("key_id_prefix={}", keys.orders)).await;
    assert_eq!(old[0]["replaced_by"], rotated["issued_api_key"]["key_id"]);
    assert!(old[0]["revoke_time"].is_string(), "{old:?}");
}

#[tokio::test]
async fn admin_keys_are_not_listed_and_bound_callers_see_only_their_actors() {
    let keys = Keys::new().await;
    let keygate = &keys.keygate;
    let (admin_id, bound) = keygate.admin_key(json!({"roles": ["read"], "actors": ["team-a/"]})).await;
    let (_, two) = keygate.admin_key(json!({"roles": ["read"], "actors": ["team-a/x", "team-b/y"]})).await;
    assert_eq!(keys.names(&format!("key_id_prefix={admin_id}")).await, Vec::<String>::new());
    assert_eq!(keys.names("actor_prefix=admin").await, Vec::<String>::new());
    for (key, query, expected) in [
        (&bound, "", vec!["old", "orders"]),
        (&bound, "name_prefix=o", vec!["old", "orders"]),
        (&bound, "actor_prefix=team-b", vec![]),
        (&bound, "actor_prefix=team", vec!["old", "orders"]),
        (&bound, "scope=read", vec!["orders"]),
        (&bound, "status=KEY_STATUS_REVOKED", vec!["old"]),
        (&two, "", vec!["orders", "ordinary"]),
        (&two, "page_size=1", vec!["orders", "ordinary"]),
    ] {
        assert_eq!(keygate.search_names(key, query).await, expected, "{query}");
    }
    let foreign = keygate.search_page(&bound, &format!("key_id_prefix={}", keys.imported), "").await;
    assert_eq!(foreign.body, json!({"keys": [], "next_page_token": ""}));
    let (_, verifier) = keygate.admin_key(json!({"roles": ["verify", "manage", "admin"]})).await;
    assert_eq!(keygate.search_page(&verifier, "", "").await.status, 403);
    assert_eq!(keygate.search_page("", "", "").await.status, 401);
}

#[tokio::test]
async fn invalid_parameters_are_errors() {
    let keys = Keys::new().await;
    let long = "x".repeat(256);
    for (query, word) in [
        ("kind=other", "kind"),
        ("status=ACTIVE", "status"),
        ("never_used=1", "never_used"),
        ("expiring_before=tomorrow", "expiring_before"),
        ("unused_since=1960-01-01T00:00:00Z", "unused_since"),
        ("page_size=1001", "page_size"),
        ("page_token=x", "page token"),
        ("name=orders", "name_prefix"),
        ("name_prefix=a&namePrefix=b", "name_prefix"),
        (&format!("name_prefix={long}"), "name_prefix"),
        (&format!("scope={long}"), "scope"),
        ("key_id_prefix=%00", "key_id_prefix"),
    ] {
        let response = keys.keygate.send(&format!("GET /keygate/v1/keys?{query}"), "").await;
        assert_eq!((response.status, response.reason()), (400, "BAD_REQUEST"), "{query}: {response:?}");
        assert!(response.message().contains(word), "{query}: {response:?}");
    }
    // A token continues only a search of the same order.
    let token = keys.keygate.search_page(&keys.keygate.admin_key, "name_prefix=o&page_size=1", "").await;
    let token = token.text("/next_page_token");
    let other = keys.keygate.search_page(&keys.keygate.admin_key, "page_size=1", &token).await;
    assert_eq!((other.status, other.message()), (400, "invalid page token"));
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_complete_and_without_duplicates_while_keys_are_added() {
    let keygate = serve(&json!({}));
    let mut existing = BTreeSet::new();
    for number in 0..60 {
        let name = format!("key {}", number % 7);
        let id = match number % 3 {
            0 => keygate.import(json!({"name": name, "raw_key": format!("raw key {number}")})).await,
            _ => keygate.issue(json!({"name": name})).await.0,
        };
        existing.insert(id);
    }
    for query in ["page_size=7", "page_size=7&name_prefix=key", "page_size=7&scope=none"] {
        let (mut listed, mut token) = (Vec::new(), String::new());
        loop {
            let add = keygate.issue(json!({"name": "key 3"}));
            let import =
                keygate.import(json!({"name": "key 4", "raw_key": uuid::Uuid::from_u128(rand::random()).to_string()}));
            let (page, ..) = tokio::join!(keygate.search_page(&keygate.admin_key, query, &token), add, import);
            assert_eq!(page.status, 200, "{page:?}");
            let ids =
                page.body["keys"].as_array().unwrap().iter().map(|key| key["key_id"].as_str().unwrap().to_owned());
            listed.extend(ids);
            token = page.text("/next_page_token");
            if token.is_empty() {
                break;
            }
        }
        let unique: BTreeSet<_> = listed.iter().cloned().collect();
        assert_eq!(unique.len(), listed.len(), "{query}");
        if !query.contains("scope") {
            assert!(existing.is_subset(&unique), "{query}: {:?}", existing.difference(&unique));
        }
    }
}
