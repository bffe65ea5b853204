//! `/health/ready?verbose` lists dependencies and listeners; liveness depends on none of them.

use keygate_test_servers::{Postgres, Redis, free_port};
use serde_json::{Value, json};

use crate::support::keygate::Keygate;
use crate::support::upstream::Upstream;
use crate::support::wait::wait_for;

async fn report(keygate: &Keygate) -> (u16, Value) {
    let response = keygate.http.get(format!("{}/health/ready?verbose", keygate.metrics)).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

/// The names, statuses and addresses; each entry must have an age.
fn shown(report: &Value, list: &str, member: &str) -> Vec<String> {
    let entries = report[list].as_array().unwrap_or_else(|| panic!("{report}"));
    let entries = entries.iter().inspect(|entry| assert!(entry["age_seconds"].as_f64().is_some_and(|age| age >= 0.0)));
    entries.map(|entry| format!("{} {}", entry["name"].as_str().unwrap(), entry[member].as_str().unwrap())).collect()
}

#[tokio::test]
async fn verbose_readiness_lists_dependencies_and_listeners_and_liveness_depends_on_none() {
    let (upstream, postgres, redis) = (Upstream::start(), Postgres::start(), Redis::start());
    let gateway = json!({
        "routes": [{"name": "open", "upstream": "api", "auth": "none"}],
        "upstreams": {"api": {"endpoints": [upstream.url]}}
    });
    let external_auth = format!("127.0.0.1:{}", free_port());
    let settings = json!({
        "db": {"dsn": postgres.url("postgres"), "auto_migrate": true},
        "cache": {"type": "redis", "redis": {"addrs": [redis.address()]}},
        "external_auth": {"address": external_auth}
    });
    let keygate = Keygate::serve(&gateway, &settings);
    let all_up = ["database ok", "change_feed ok", "redis ok"];
    let first = wait_for(async || match report(&keygate).await {
        (200, report) if shown(&report, "dependencies", "status") == all_up => Ok(report),
        other => Err(format!("{other:?}")),
    })
    .await;
    assert_eq!(first["status"], "ok");
    assert_eq!(first["upstreams"]["api"].as_object().map(serde_json::Map::len), Some(1), "{first}");
    let address = |url: &str| url.trim_start_matches("http://").to_owned();
    let expected = [
        format!("gateway {}", address(&keygate.gateway)),
        format!("admin {}", address(&keygate.admin)),
        format!("metrics {}", address(&keygate.metrics)),
        format!("external_auth {external_auth}"),
    ];
    assert_eq!(shown(&first, "listeners", "address"), expected);

    let _stopped = (postgres.stop(), redis.stop());
    wait_for(async || match report(&keygate).await {
        (503, report)
            if shown(&report, "dependencies", "status")
                == ["database unavailable", "change_feed unavailable", "redis unavailable"] =>
        {
            Ok(())
        }
        other => Err(format!("{other:?}")),
    })
    .await;
    let alive = keygate.http.get(format!("{}/health/alive", keygate.metrics)).send().await.unwrap();
    assert_eq!(alive.status(), 200);
}

#[tokio::test]
async fn other_listeners_show_no_addresses() {
    let keygate = Keygate::serve_admin(&json!({}));
    let response = keygate.http.get(format!("{}/health/ready?verbose", keygate.admin)).send().await.unwrap();
    let text = response.text().await.unwrap();
    assert!(
        text.contains(r#""status":"ok""#) && !text.contains("listeners") && !text.contains("dependencies"),
        "{text}"
    );
    let (status, report) = report(&keygate).await;
    assert_eq!((status, shown(&report, "dependencies", "status")), (200, vec!["database ok".to_owned()]));
}
