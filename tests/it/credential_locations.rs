//! Where requests carry their credential: each location, what the upstream gets, and what is logged.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use reqwest::RequestBuilder;
use serde_json::json;

use crate::support::keygate::Keygate;
use crate::support::upstream::{Upstream, header};

/// A route that takes the credential anywhere, one for each other list, and an upstream.
fn serve(settings: &serde_json::Value) -> (Upstream, Keygate) {
    let upstream = Upstream::start();
    let gateway = json!({
        "routes": [
            {"name": "standard", "path_prefix": "/standard", "upstream": "api"},
            {"name": "all", "path_prefix": "/all", "upstream": "api", "credentials": [
                {"bearer": true}, {"header": "apikey"}, {"header": "Authorization", "scheme": "ApiKey"},
                {"basic": "password"}, {"cookie": "token"}, {"query": "apikey"}
            ]},
            {"name": "cookie", "path_prefix": "/cookie", "upstream": "api", "credentials": [{"cookie": "token"}]},
            {"name": "basic", "path_prefix": "/basic", "upstream": "api", "credentials": [{"basic": "username"}]},
            {"name": "dead", "path_prefix": "/dead", "upstream": "dead", "credentials": [{"query": "apikey"}]},
            {"name": "open", "path_prefix": "/open", "upstream": "api", "auth": "none", "credentials": [{"query": "apikey"}]}
        ],
        "upstreams": {
            "api": {"endpoints": [upstream.url]},
            "dead": {"endpoints": [format!("http://127.0.0.1:{}", keygate_test_servers::free_port())]}
        }
    });
    let keygate = Keygate::serve(&gateway, settings);
    (upstream, keygate)
}

/// The status and the `code` of the problem, if there is one.
async fn status(request: RequestBuilder) -> (StatusCode, String) {
    let response = request.send().await.unwrap();
    let status = response.status();
    let body: serde_json::Value = serde_json::from_str(&response.text().await.unwrap()).unwrap_or_default();
    (status, body["code"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn credential_is_accepted_in_each_listed_location_and_is_not_forwarded() {
    let (upstream, keygate) = serve(&json!({}));
    let (_, key) = keygate.issue(json!({})).await;
    let basic = format!("Basic {}", STANDARD.encode(format!("ana:{key}")));
    let get = |target: &str| keygate.http.get(format!("{}{target}", keygate.gateway)).header("accept", "x");
    let requests = [
        (get("/all/1?a=1").bearer_auth(&key), "/all/1?a=1", None),
        (get("/all/2").header("apikey", &key), "/all/2", None),
        (get("/all/3").header("authorization", format!("apikey {key}")), "/all/3", None),
        (get("/all/4").header("authorization", &basic), "/all/4", None),
        (get("/all/5").header("cookie", format!("a=1; token={key}; b=2")), "/all/5", Some("a=1; b=2")),
        (get("/all/6").header("cookie", format!("token={key}")), "/all/6", None),
        (get(&format!("/all/7?apikey={key}")), "/all/7", None),
        (get(&format!("/all/8?a=1&%61pi%6Bey={key}&b=%20")), "/all/8?a=1&b=%20", None),
        (get(&format!("/all/9?apikey={key}&apikey={key}")).header("apikey", &key).bearer_auth(&key), "/all/9", None),
        (get("/cookie").header("cookie", format!("token=\"{key}\"; a")), "/cookie", Some("a")),
        (
            get("/standard?apikey=1").header("cookie", "token=2").bearer_auth(&key),
            "/standard?apikey=1",
            Some("token=2"),
        ),
    ];
    for (request, target, cookies) in requests {
        let response = request.header("referer", "https://api.example.com/").send().await.unwrap();
        assert_eq!(response.status(), 200, "{target}");
        let head = upstream.heads().pop().unwrap();
        assert!(head.starts_with(&format!("GET {target} HTTP/1.1\r\n")), "{head}");
        assert_eq!(header(&head, "cookie"), cookies, "{head}");
        assert!(header(&head, "accept").is_some() && header(&head, "referer").is_some(), "{head}");
        for name in ["authorization", "apikey", "x-api-key"] {
            assert_eq!(header(&head, name), None, "{head}");
        }
        assert!(!head.contains(&key) && !head.contains(&basic[6..]), "{head}");
    }
}

#[tokio::test]
async fn other_locations_are_not_looked_at_and_two_credentials_are_ambiguous() {
    let (upstream, keygate) = serve(&json!({}));
    let (_, key) = keygate.issue(json!({})).await;
    let get = |target: &str| keygate.http.get(format!("{}{target}", keygate.gateway));
    for (request, expected) in [
        (get(&format!("/standard?apikey={key}")), (StatusCode::UNAUTHORIZED, "credential_missing")),
        (get("/standard").header("apikey", &key), (StatusCode::UNAUTHORIZED, "credential_missing")),
        (get("/cookie").bearer_auth(&key), (StatusCode::UNAUTHORIZED, "credential_missing")),
        (get("/all?apikey=other").bearer_auth(&key), (StatusCode::BAD_REQUEST, "credential_ambiguous")),
        (get("/all").header("cookie", "token=a; token=b"), (StatusCode::BAD_REQUEST, "credential_ambiguous")),
        (get("/all?apikey="), (StatusCode::BAD_REQUEST, "credential_malformed")),
        (get("/all").header("authorization", "Basic ?"), (StatusCode::BAD_REQUEST, "credential_malformed")),
        (get("/all?apikey=unknown"), (StatusCode::UNAUTHORIZED, "credential_invalid")),
    ] {
        let shown = format!("{request:?}");
        let (status, code) = status(request).await;
        assert_eq!((status, code.as_str()), expected, "{shown}");
    }
    assert_eq!(upstream.heads(), Vec::<String>::new());
    // A route without authentication leaves what it was sent.
    assert_eq!(get("/open?apikey=1").send().await.unwrap().status(), 200);
    assert!(upstream.heads()[0].starts_with("GET /open?apikey=1 "));
}

#[tokio::test]
async fn response_without_a_credential_says_where_to_send_it() {
    let (_upstream, keygate) = serve(&json!({}));
    for (path, challenge, place) in [
        ("/standard", r#"Bearer realm="keygate""#, "`X-API-Key: <key>`"),
        ("/cookie", r#"Key realm="keygate""#, "Send an API key as the cookie `token`."),
        ("/basic", r#"Basic realm="keygate", charset="UTF-8""#, "the user name of `Authorization: Basic`"),
        (
            "/all",
            r#"Bearer realm="keygate", ApiKey realm="keygate", Basic realm="keygate", charset="UTF-8""#,
            "`apikey: <key>`, `Authorization: ApiKey <key>`",
        ),
    ] {
        let response = keygate.http.get(format!("{}{path}", keygate.gateway)).send().await.unwrap();
        assert_eq!(response.headers()["www-authenticate"], challenge);
        let body: serde_json::Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
        assert!(body["detail"].as_str().unwrap().contains(place), "{body}");
    }
}

#[tokio::test]
async fn credential_that_a_browser_adds_is_rejected_in_writes_of_other_sites() {
    let (_upstream, keygate) = serve(&json!({}));
    let (_, key) = keygate.issue(json!({})).await;
    let post = |path: &str| keygate.http.post(format!("{}{path}", keygate.gateway));
    let cookie = format!("token={key}");
    let basic = |request: RequestBuilder| request.basic_auth(&key, Some("x"));
    let host = keygate.gateway.trim_start_matches("http://");
    for (request, is_allowed) in [
        (post("/cookie").header("cookie", &cookie), true),
        (post("/cookie").header("cookie", &cookie).header("sec-fetch-site", "same-origin"), true),
        (post("/cookie").header("cookie", &cookie).header("origin", format!("http://{host}")), true),
        (post("/cookie").header("cookie", &cookie).header("sec-fetch-site", "cross-site"), false),
        (post("/cookie").header("cookie", &cookie).header("sec-fetch-site", "same-site"), false),
        (post("/cookie").header("cookie", &cookie).header("origin", "https://evil.example"), false),
        (post("/cookie").header("cookie", &cookie).header("origin", "null"), false),
        (basic(post("/basic")).header("sec-fetch-site", "cross-site"), false),
        (basic(post("/basic")).header("origin", format!("http://{host}")), true),
        (post("/all").bearer_auth(&key).header("sec-fetch-site", "cross-site"), true),
        (post("/all").bearer_auth(&key).header("cookie", &cookie).header("sec-fetch-site", "cross-site"), true),
        (post("/all").header("cookie", &cookie).header("sec-fetch-site", "cross-site"), false),
        (
            keygate
                .http
                .get(format!("{}/cookie", keygate.gateway))
                .header("cookie", &cookie)
                .header("sec-fetch-site", "cross-site"),
            true,
        ),
    ] {
        let shown = format!("{request:?}");
        let expected =
            if is_allowed { (StatusCode::OK, "") } else { (StatusCode::FORBIDDEN, "cross_origin_forbidden") };
        let (status, code) = status(request).await;
        assert_eq!((status, code.as_str()), expected, "{shown}");
    }
}

#[tokio::test]
async fn credential_in_the_query_is_neither_logged_nor_sent_on() {
    let (upstream, mut keygate) = serve(&json!({"log": {"level": "debug"}}));
    let (_, key) = keygate.issue(json!({})).await;
    for target in ["/all/ok", "/dead", "/nowhere", "/all/%00"] {
        for query in [format!("apikey={key}"), format!("a=1&%61pikey={key}&apikey={key}")] {
            let url = format!("{}{target}?{query}", keygate.gateway);
            let response = keygate.http.get(&url).header("referer", &url).send().await.unwrap();
            for (name, value) in response.headers() {
                assert!(!String::from_utf8_lossy(value.as_bytes()).contains(&key), "{name}: {value:?}");
            }
            assert!(!response.text().await.unwrap().contains(&key), "{target}");
        }
    }
    let heads = upstream.heads();
    assert_eq!(heads.len(), 2);
    for head in heads {
        assert!(header(&head, "referer").unwrap().ends_with("/all/ok") || head.contains("?a=1"), "{head}");
        assert!(!head.contains(&key), "{head}");
    }
    let log = keygate.whole_log();
    for event in ["request served", "upstream_unreachable", "route_not_found"] {
        assert!(log.contains(event), "the test did not cause {event}");
    }
    assert!(!log.contains(&key), "{}", log.lines().find(|line| line.contains(&key)).unwrap_or_default());
}

#[tokio::test]
async fn credential_in_any_location_requires_tls() {
    let upstream = Upstream::start();
    let address = format!("127.0.0.1:{}", keygate_test_servers::free_port());
    let gateway = json!({
        "listeners": [{"address": address, "require_tls": true}],
        "credentials": [{"cookie": "token"}, {"query": "apikey"}],
        "routes": [{"name": "all", "upstream": "api"}],
        "upstreams": {"api": {"endpoints": [upstream.url]}}
    });
    let keygate = Keygate::serve(&gateway, &json!({}));
    let get = |target: &str| keygate.http.get(format!("http://{address}{target}"));
    for (request, expected) in [
        (get("/").header("cookie", "token=k"), (StatusCode::FORBIDDEN, "tls_required")),
        (get("/?apikey=k"), (StatusCode::FORBIDDEN, "tls_required")),
        (get("/"), (StatusCode::UNAUTHORIZED, "credential_missing")),
    ] {
        let (status, code) = status(request).await;
        assert_eq!((status, code.as_str()), expected);
    }
}
