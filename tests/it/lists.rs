//! Lists of many keys contain each key once and in order, with every filter and during writes.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::keygate::Keygate;
use crate::support::wait::wait_for;

const BATCH: usize = 1000;

/// Imports `count` keys, numbered from `from`. One in 100 expires after a second; the actors have numbers 0 to 9.
async fn import_batch(keygate: &Keygate, from: usize, count: usize) -> Vec<String> {
    let item = |number: usize| {
        json!({
            "name": format!("key {number}"),
            "actor_id": format!("user {} AND co", number % 10),
            "raw_key": format!("raw key {number}"),
            "ttl": if number % 100 == 7 { "1s" } else { "1h" },
        })
    };
    let batch = json!({"requests": (from..from + count).map(item).collect::<Vec<_>>()});
    let response = keygate.send_json("POST /v2alpha1/admin/importedApiKeys:batchCreate", &batch).await;
    assert_eq!((response.status, &response.body["success_count"]), (200, &json!(count)), "{response:.300?}");
    assert_eq!(response.body["failure_count"], 0);
    let results = response.body["results"].as_array().unwrap();
    results.iter().map(|result| result["imported_api_key"]["key_id"].as_str().unwrap().to_owned()).collect()
}

fn ids(keys: &[Value]) -> Vec<String> {
    keys.iter().map(|key| key["key_id"].as_str().unwrap().to_owned()).collect()
}

/// The ids in descending order, as lists return them.
fn descending(ids: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut ids: Vec<String> = ids.into_iter().collect();
    ids.sort_unstable_by(|a, b| b.cmp(a));
    ids
}

fn encoded(filter: &str) -> String {
    form_urlencoded::byte_serialize(filter.as_bytes()).collect()
}

/// Ten thousand imported keys; the number of a key is its index in `ids`.
struct Many {
    keygate: Keygate,
    ids: Vec<String>,
}

impl Many {
    async fn import() -> Self {
        let keygate = Keygate::serve_admin(&json!({}));
        let mut ids = Vec::new();
        for batch in 0..10 {
            ids.extend(import_batch(&keygate, batch * BATCH, BATCH).await);
        }
        let many = Self { keygate, ids };
        for number in (0..10 * BATCH).filter(|number| is_revoked(*number)) {
            let line = format!("POST /v2alpha1/admin/importedApiKeys/{}:revoke", many.ids[number]);
            assert_eq!(many.keygate.send(&line, "").await.status, 204);
        }
        let last = format!("GET /v2alpha1/admin/importedApiKeys/{}", many.ids[9907]);
        wait_for(async || match many.keygate.send(&last, "").await.text("/status") {
            status if status == "KEY_STATUS_EXPIRED" => Ok(()),
            status => Err(format!("the last key is {status}")),
        })
        .await;
        many
    }

    fn of(&self, matches: impl Fn(usize) -> bool) -> Vec<String> {
        descending((0..self.ids.len()).filter(|number| matches(*number)).map(|number| self.ids[number].clone()))
    }
}

/// The numbers of the keys that match a filter.
type Matches<'a> = Box<dyn Fn(usize) -> bool + 'a>;

fn is_revoked(number: usize) -> bool {
    number % 1000 == 3
}

fn is_expired(number: usize) -> bool {
    number % 100 == 7
}

#[tokio::test]
async fn each_of_ten_thousand_keys_is_listed_once_with_every_filter() {
    let many = Many::import().await;
    let (issued, _) = many.keygate.issue(json!({"actor_id": "user 3 AND co"})).await;

    let mut pages = Vec::new();
    let mut token = String::new();
    loop {
        let page = many.keygate.page("imported", "page_size=1000", &token).await;
        pages.push(page.body["imported_api_keys"].as_array().unwrap().len());
        token = page.text("/next_page_token");
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(pages, [1000; 10], "a full last page has no next page token");

    let active = |number: usize| !is_revoked(number) && !is_expired(number);
    let filters: Vec<(&str, Matches<'_>)> = vec![
        ("", Box::new(|_| true)),
        (" \t ", Box::new(|_| true)),
        ("status=KEY_STATUS_ACTIVE", Box::new(active)),
        ("status = \"KEY_STATUS_REVOKED\"", Box::new(is_revoked)),
        ("status=KEY_STATUS_EXPIRED", Box::new(is_expired)),
        ("actor_id=\"user 3 AND co\"", Box::new(|number| number % 10 == 3)),
        ("  actor_id  =  \"user 3 AND co\"  ", Box::new(|number| number % 10 == 3)),
        ("actor_id=\"user 3 AND co\" AND status=KEY_STATUS_REVOKED", Box::new(is_revoked)),
        ("actor_id=\"user 7 AND co\" AND status=KEY_STATUS_EXPIRED", Box::new(is_expired)),
        ("status=KEY_STATUS_EXPIRED and actor_id=\"user 3 AND co\"", Box::new(|_| false)),
        (
            "status=\"KEY_STATUS_ACTIVE\"\taNd\t actor_id=\"user 7 AND co\"",
            Box::new(|number| number % 10 == 7 && active(number)),
        ),
        ("actor_id=unknown", Box::new(|_| false)),
        ("actor_id=user_3.x-Y", Box::new(|_| false)),
        ("actor_id=AND AND status=KEY_STATUS_ACTIVE", Box::new(|_| false)),
    ];
    for (filter, matches) in filters {
        for size in ["page_size=1000", "pageSize=777"] {
            let query = format!("{size}&filter={}", encoded(filter));
            let listed = ids(&many.keygate.list("imported", &query).await);
            assert!(listed == many.of(&matches), "{filter:?}, {size}: {} keys", listed.len());
        }
    }
    assert_eq!(ids(&many.keygate.list("issued", "page_size=1000").await), [issued.as_str()]);
    assert_eq!(ids(&many.keygate.list("issued", "filter=actor_id%3D%22user+3+AND+co%22").await), [issued]);
}

#[tokio::test]
async fn default_page_size_is_fifty() {
    let keygate = Keygate::serve_admin(&json!({}));
    let all = import_batch(&keygate, 0, 120).await;
    for query in ["", "page_size=0", "pageSize=0"] {
        let page = keygate.page("imported", query, "").await;
        assert_eq!(page.body["imported_api_keys"].as_array().unwrap().len(), 50, "{query:?}");
        assert_eq!(ids(&keygate.list("imported", query).await), descending(all.clone()));
    }
    assert_eq!(ids(&keygate.list("imported", "page_size=1").await), descending(all));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_created_during_a_listing_do_not_hide_existing_ones() {
    let keygate = Keygate::serve_admin(&json!({}));
    let mut existing = Vec::new();
    for batch in 0..2 {
        existing.extend(import_batch(&keygate, batch * BATCH, BATCH).await);
    }
    let reading = async {
        let mut listed = Vec::new();
        let mut token = String::new();
        let mut next = 2 * BATCH;
        loop {
            // The ids of keys created between two pages are hashes: they sort before, after or into the next page.
            let (page, newer) =
                tokio::join!(keygate.page("imported", "page_size=100", &token), import_batch(&keygate, next, 50));
            next += newer.len();
            listed.extend(ids(page.body["imported_api_keys"].as_array().unwrap()));
            token = page.text("/next_page_token");
            if token.is_empty() {
                return (listed, next);
            }
        }
    };
    let (listed, created) = reading.await;
    assert!(created > 3 * BATCH, "{created} keys were created meanwhile");
    assert_eq!(listed, descending(listed.clone()), "the order is kept over all pages");
    let unique: BTreeSet<&String> = listed.iter().collect();
    assert_eq!(unique.len(), listed.len(), "no key is listed twice");
    let missing: Vec<&String> = existing.iter().filter(|id| !unique.contains(id)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
