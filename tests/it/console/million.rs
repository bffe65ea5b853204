//! The time of a page at a million keys. Run by hand: `cargo nextest run --all-features --run-ignored only console::million`.

use std::time::{Duration, Instant};

use keygate::clock::{Clock, SystemClock};
use keygate_test_servers::Postgres;
use serde_json::json;
use sqlx::{ConnectOptions, Connection};

use crate::admin_auth::serve;
use crate::console_pages::visitor::Visitor;
use crate::support::keygate::Keygate;

const KEYS: u32 = 1_000_000;
/// The maximum time of a page.
const LIMIT: Duration = Duration::from_millis(100);

/// How a database writes keys in bulk.
struct Bulk {
    /// A table of the numbers `n`.
    numbers: String,
    /// The id of an issued and of an imported key.
    ids: [String; 2],
    /// Casts to the types of tenant, JSON that is searched, and other JSON.
    casts: [&'static str; 3],
    /// The time a number of seconds from now.
    time: fn(&str) -> String,
}

impl Bulk {
    fn insert(&self) -> String {
        let Self { numbers, ids: [issued, imported], casts: [tenant, searched, json], time } = self;
        let (created, expiry) = (time("-9000000"), time("(n % 1000) * 10000 - 1000000"));
        let used = time("-(n % 1000) * 8000");
        format!(
            "INSERT INTO keys (tenant, kind, key_id, name, actor_id, scopes, metadata, status, visibility, create_time, \
             update_time, expire_time, last_used_time, allowed_cidrs, version) \
             SELECT '00000000-0000-0000-0000-000000000000'{tenant}, CASE WHEN n % 3 = 0 THEN 'imported' ELSE 'issued' END, \
             CASE WHEN n % 3 = 0 THEN {imported} ELSE {issued} END, 'key ' || n, 'team-' || (n % 1000) || '/service', \
             CASE WHEN n % 200000 = 7 THEN '[\"rare\"]' ELSE '[\"orders:read\", \"orders:write\"]' END{searched}, '{{}}'{json}, \
             CASE WHEN n % 100 = 0 THEN 'revoked' ELSE 'active' END, 'secret', {created}, {created}, {expiry}, \
             CASE WHEN n % 5 = 0 THEN NULL ELSE {used} END, '[]'{searched}, 1 FROM {numbers}"
        )
    }
}

/// Measures pages of each condition: the median and the longest of all pages, at most 150 of them.
async fn measure(keygate: &Keygate, database: &str) {
    let (_, bound) = keygate.admin_key(json!({"roles": ["read"], "actors": ["team-77/"]})).await;
    let soon = (SystemClock.now() + chrono::TimeDelta::days(3)).to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    let long_ago = (SystemClock.now() - chrono::TimeDelta::days(80)).to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    let mut late = Vec::new();
    println!("{database}: page of 50 at {KEYS} keys");
    for (key, query) in [
        (&keygate.admin_key, String::new()),
        (&keygate.admin_key, "name_prefix=key 777".into()),
        (&keygate.admin_key, "name_prefix=key".into()),
        (&keygate.admin_key, "actor_prefix=team-77".into()),
        (&keygate.admin_key, "key_id_prefix=abc".into()),
        (&keygate.admin_key, "scope=orders:read".into()),
        (&keygate.admin_key, "scope=rare".into()),
        (&keygate.admin_key, "status=KEY_STATUS_ACTIVE".into()),
        (&keygate.admin_key, "status=KEY_STATUS_REVOKED".into()),
        (&keygate.admin_key, "status=KEY_STATUS_EXPIRED".into()),
        (&keygate.admin_key, format!("expiring_before={soon}&status=KEY_STATUS_ACTIVE")),
        (&keygate.admin_key, format!("unused_since={long_ago}")),
        (&keygate.admin_key, format!("unused_since={long_ago}&never_used=true&scope=rare")),
        (&keygate.admin_key, "never_used=true".into()),
        (&keygate.admin_key, "name_prefix=key&status=KEY_STATUS_REVOKED&scope=rare".into()),
        (&bound, String::new()),
        (&bound, "scope=rare".into()),
    ] {
        let (mut times, mut token, mut found) = (Vec::new(), String::new(), 0);
        let query = query.replace(' ', "%20");
        while times.len() < 150 {
            let start = Instant::now();
            let page = keygate.send_as(key, &format!("GET /keygate/v1/keys?{query}&page_token={token}"), "").await;
            times.push(start.elapsed());
            assert_eq!(page.status, 200, "{page:?}");
            found += page.body["keys"].as_array().unwrap().len();
            token = page.text("/next_page_token");
            if token.is_empty() {
                break;
            }
        }
        let pages = times.len();
        times.sort();
        let (median, max) = (times[pages / 2], times[pages - 1]);
        println!("{median:>10.1?} median {max:>10.1?} longest {pages:>4} pages {found:>6} keys  {query}");
        if median > LIMIT {
            late.push(query);
        }
    }
    assert!(late.is_empty(), "{late:?}");
    measure_console(keygate).await;
}

/// Measures pages of the console: the median and the longest of ten requests.
async fn measure_console(keygate: &Keygate) {
    let mut visitor = Visitor::signed_in(keygate, &keygate.admin_key).await;
    let page = visitor.get("/console/keys").await;
    let key = page.html.split("/console/keys/").find_map(|rest| rest.get(..36).filter(|id| id.contains('-'))).unwrap();
    let mut late = Vec::new();
    for path in [
        "/console/".to_owned(),
        "/console/keys".into(),
        "/console/keys?status=all".into(),
        "/console/keys?q=key%20777".into(),
        "/console/keys?q=key&in=name".into(),
        "/console/keys?q=team-77".into(),
        format!("/console/keys?q={}", &key[..6]),
        "/console/keys?q=nothing".into(),
        "/console/keys?scope=rare".into(),
        "/console/keys?use=90".into(),
        "/console/keys?use=never&expires=7".into(),
        format!("/console/keys/{key}"),
        "/console/audit".into(),
    ] {
        let mut times = Vec::new();
        for _ in 0..10 {
            let start = Instant::now();
            let page = visitor.get(&path).await;
            times.push(start.elapsed());
            assert_eq!(page.status, 200, "{path}: {}", page.html);
        }
        times.sort();
        println!("{:>10.1?} median {:>10.1?} longest  {path}", times[5], times[9]);
        if times[5] > LIMIT {
            late.push(path);
        }
    }
    assert!(late.is_empty(), "{late:?}");
}

#[tokio::test]
#[ignore = "measures with a million keys"]
async fn page_of_a_million_keys_in_sqlite() {
    let keygate = serve(&json!({}));
    let file = keygate.path().join("keys.db");
    let mut connection = sqlx::sqlite::SqliteConnectOptions::new().filename(file).connect().await.unwrap();
    let part = |bytes: u32| format!("lower(hex(randomblob({bytes})))");
    let bulk = Bulk {
        numbers: format!(
            "(WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {KEYS}) SELECT n FROM numbers)"
        ),
        ids: [[4, 2, 2, 2, 6].map(part).join(" || '-' || "), part(32)],
        casts: [""; 3],
        time: |seconds| format!("(unixepoch() + {seconds}) * 1000000"),
    };
    sqlx::query(sqlx::AssertSqlSafe(bulk.insert())).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    measure(&keygate, "SQLite").await;
}

#[tokio::test]
#[ignore = "measures with a million keys"]
async fn page_of_a_million_keys_in_postgresql() {
    let postgres = Postgres::start();
    let dsn = format!("{}?acquire_timeout=10s&statement_timeout=60s", postgres.url("postgres"));
    let keygate = serve(&json!({"db": {"dsn": dsn, "auto_migrate": true}}));
    let bulk = Bulk {
        numbers: format!("generate_series(1, {KEYS}) AS numbers (n)"),
        ids: ["gen_random_uuid()::text", "md5(n::text) || md5((n + 1)::text)"].map(str::to_owned),
        casts: ["::uuid", "::jsonb", "::json"],
        time: |seconds| format!("now() + make_interval(secs => {seconds})"),
    };
    assert!(postgres.query(&bulk.insert()).is_some(), "{}", bulk.insert());
    assert!(postgres.query("ANALYZE keys").is_some());
    measure(&keygate, "PostgreSQL").await;
}
