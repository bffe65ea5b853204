//! Pages that are sent while they are made, and what a page costs.

use std::collections::HashSet;

use serde_json::{Value, json};
use sqlx::{ConnectOptions, Connection};

use super::visitor::{Visitor, encode};
use crate::admin_auth::serve;
use crate::support::keygate::Keygate;
use crate::support::wait::wait_for;

#[tokio::test]
async fn page_costs_one_call_of_the_rate_limit() {
    let keygate = serve(&json!({}));
    let limit = json!({"roles": ["read"], "rate_limit_policy": {"quota": 5, "window": "36000s"}});
    let (_, secret) = keygate.admin_key(limit).await;
    // The form, and the overview after it.
    let mut visitor = Visitor::signed_in(&keygate, &secret).await;
    for path in ["/console/keys", "/console/audit", "/console/routes"] {
        let page = visitor.get(path).await;
        assert_eq!(page.status, 200, "{path}: {}", page.html);
    }
    let page = visitor.get("/console/keys").await;
    assert!(page.status == 429 && page.html.contains("Too many requests"), "{}", page.html);
    let call = keygate.send_as(&secret, "GET /v2alpha1/admin/issuedApiKeys", "").await;
    assert_eq!(call.status, 429, "the limit is that of the API");
}

#[tokio::test]
async fn import_shows_results_while_it_runs_and_goes_on_without_the_browser() {
    const KEYS: usize = 1200;
    let keygate = serve(&json!({}));
    let mut visitor = Visitor::signed_in(&keygate, &keygate.admin_key).await;
    let form = visitor.get("/console/import").await;
    for (prefix, leaves) in [("first", false), ("second", true)] {
        let rows = (1..=KEYS).map(|number| format!("name {number},a,{prefix}-raw-key-{number},\n"));
        let csv = format!("name,actor_id,raw_key,scopes\n{}", rows.collect::<String>());
        let mut fields = form.hidden_fields("/console/import");
        fields.push(("text".into(), csv));
        let request = visitor.request("POST /console/import").body(encode(&fields));
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let mut response = request.header("origin", &keygate.admin).send().await.unwrap();
        assert_eq!(response.status(), 200);
        let mut first = String::new();
        while !first.contains(">name 100<") {
            let chunk = response.chunk().await.unwrap().expect("the page has not ended");
            first.push_str(&String::from_utf8_lossy(&chunk));
        }
        assert!(first.contains("1200 keys are imported in their order"), "{first}");
        assert!(!first.contains(">name 1200<") && !first.contains("of 1200 keys are imported"), "{first}");
        if leaves {
            drop(response);
        } else {
            let rest = response.text().await.unwrap();
            assert!(rest.contains(">name 1200<") && rest.contains("1200 of 1200 keys are imported"), "{rest}");
            assert!(rest.trim_end().ends_with("</html>"), "{rest}");
        }
    }
    wait_for(async || match keygate.list("imported", "page_size=1000").await.len() {
        count if count == 2 * KEYS => Ok(()),
        count => Err(format!("{count} keys")),
    })
    .await;
}

/// Imports keys by the API, each of which is a row of the audit trail.
async fn import(keygate: &Keygate, count: usize) {
    let numbers: Vec<usize> = (0..count).collect();
    for part in numbers.chunks(1000) {
        let item = |number: &usize| json!({"name": "n", "actor_id": "exported", "raw_key": format!("key-{number}")});
        let batch = json!({"requests": part.iter().map(item).collect::<Vec<_>>()});
        let response = keygate.send_json("POST /v2alpha1/admin/importedApiKeys:batchCreate", &batch).await;
        assert_eq!(response.status, 200, "{response:?}");
    }
}

#[tokio::test]
async fn export_has_all_rows_once() {
    const ROWS: usize = 11_500;
    let keygate = serve(&json!({}));
    import(&keygate, ROWS).await;
    let visitor = Visitor::signed_in(&keygate, &keygate.admin_key).await;
    let response = visitor.request("GET /console/audit/export?actor_id=exported").send().await.unwrap();
    assert_eq!((response.status(), response.content_length()), (reqwest::StatusCode::OK, None));
    let text = response.text().await.unwrap();
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ids: HashSet<&str> = rows.iter().map(|row| row["id"].as_str().unwrap()).collect();
    assert_eq!((rows.len(), ids.len()), (ROWS, ROWS));
    let refused = visitor.request("GET /console/audit/export?from=yesterday").send().await.unwrap();
    assert_eq!(refused.status(), 400, "the first rows are read before the head is sent");
}

#[tokio::test]
async fn audit_page_says_whether_the_latest_rows_fit() {
    const ROWS: i64 = 1300;
    let keygate = serve(&json!({}));
    let mut visitor = Visitor::signed_in(&keygate, &keygate.admin_key).await;
    import(&keygate, 1300).await;
    let chain = wait_for(async || match keygate.send("GET /keygate/v1/auditChain", "").await.body {
        chain if chain["last_row"].as_i64().unwrap() >= ROWS => Ok(chain),
        chain => Err(chain.to_string()),
    })
    .await;
    let last = chain["last_row"].as_i64().unwrap();
    assert_eq!((&chain["is_intact"], &chain["problem_count"]), (&json!(true), &json!(0)), "{chain}");
    assert_eq!(chain["first_row"], last - 999, "at most 1000 rows are read");
    let page = visitor.get("/console/audit").await;
    assert!(page.html.contains(">intact<") && page.html.contains("of the chain that was sealed last"), "{}", page.html);

    let file = sqlx::sqlite::SqliteConnectOptions::new().filename(keygate.path().join("keys.db"));
    let mut database = file.connect().await.unwrap();
    let edit = "UPDATE audit_events SET principal = 'admin:other' WHERE seq = ?";
    for (row, is_intact) in [(last - 1200, true), (last - 100, false)] {
        assert_eq!(sqlx::query(edit).bind(row).execute(&mut database).await.unwrap().rows_affected(), 1);
        let chain = keygate.send("GET /keygate/v1/auditChain", "").await.body;
        assert_eq!(chain["is_intact"], is_intact, "row {row}: {chain}");
    }
    database.close().await.unwrap();
    let page = visitor.get("/console/audit").await;
    assert!(page.html.contains(">not intact<") && page.html.contains("keygate audit verify"), "{}", page.html);
}
