//! Cross-origin requests of browsers: preflights, and the fields of responses and of rejections.

use http::{HeaderMap, Method};
use reqwest::Response;
use serde_json::{Value, json};

use crate::support::keygate::{Keygate, request_path};
use crate::support::raw_upstream::RawUpstream;
use crate::support::wait::wait_for_count;

const ORIGIN: &str = "https://app.example.com";

/// Routes with and without a CORS policy, and an upstream that has one of its own at `/cors`.
fn serve() -> (RawUpstream, Keygate) {
    let upstream = RawUpstream::start();
    let cors =
        json!({"origins": [ORIGIN, "https://*.example.org"], "headers": ["Content-Type", "X-Trace"], "max_age": "5m"});
    let with_credentials = json!({"origins": [ORIGIN], "credentials": true, "expose_headers": ["X-Kept"]});
    let gateway = json!({
        "routes": [
            {"name": "read", "path_prefix": "/orders", "methods": ["GET"], "upstream": "api", "cors": {"origins": ["https://read.example.com"]}},
            {"name": "write", "path_prefix": "/orders", "methods": ["POST", "PUT"], "upstream": "api", "cors": cors, "limits": ["few"]},
            {"name": "scoped", "path_prefix": "/scoped", "upstream": "api", "cors": cors, "scopes": ["admin"]},
            {"name": "dead", "path_prefix": "/dead", "upstream": "dead", "cors": cors},
            {"name": "slow", "path_prefix": "/slow", "upstream": "silent", "cors": cors},
            {"name": "own", "path_prefix": "/cors", "upstream": "api", "cors": cors},
            {"name": "fixed", "path_prefix": "/fixed", "respond": {"body": "hi"}, "auth": "none", "cors": {"origins": ["*"]}},
            {"name": "session", "path_prefix": "/session", "upstream": "api", "credentials": [{"cookie": "token"}], "cors": with_credentials},
            {"name": "plain", "path_prefix": "/plain", "upstream": "api"}
        ],
        "upstreams": {
            "api": {"endpoints": [upstream.url]},
            "dead": {"endpoints": [format!("http://127.0.0.1:{}", keygate_test_servers::free_port())]},
            "silent": {"endpoints": [silent()], "read_timeout": "300ms"}
        },
        "limits": {"few": {"quota": 2, "window": "1h"}}
    });
    let keygate = Keygate::serve(&gateway, &json!({}));
    (upstream, keygate)
}

/// An upstream that accepts connections and answers nothing.
fn silent() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || listener.incoming().collect::<Vec<_>>());
    url
}

async fn preflight(keygate: &Keygate, path: &str, method: &str, origin: &str) -> Response {
    let request = keygate.http.request(Method::OPTIONS, format!("{}{path}", keygate.gateway));
    let request = request.header("origin", origin).header("access-control-request-method", method);
    request.header("access-control-request-headers", "authorization,x-trace").send().await.unwrap()
}

fn field<'f>(fields: &'f HeaderMap, name: &str) -> &'f str {
    let values: Vec<_> = fields.get_all(name).iter().collect();
    assert!(values.len() <= 1 || name == "vary", "{name}: {values:?}");
    values.first().map_or("", |value| value.to_str().unwrap())
}

fn varies_by_origin(fields: &HeaderMap) -> bool {
    fields.get_all("vary").iter().any(|value| value.to_str().unwrap().contains("Origin"))
}

#[tokio::test]
async fn preflight_is_answered_from_the_route_of_the_requested_method() {
    let (upstream, keygate) = serve();
    for (path, method, origin, allowed_origin, methods) in [
        ("/orders/1", "POST", ORIGIN, ORIGIN, "POST, PUT"),
        ("/orders/1", "PUT", "https://a.b.example.org", "https://a.b.example.org", "POST, PUT"),
        ("/orders/1", "GET", "https://read.example.com", "https://read.example.com", "GET"),
        ("/orders/1", "GET", ORIGIN, "", ""),
        ("/orders/1", "POST", "https://evilexample.org", "", ""),
        ("/orders/1", "POST", "null", "", ""),
        ("/scoped", "DELETE", ORIGIN, ORIGIN, "GET, HEAD, POST, PUT, PATCH, DELETE"),
        ("/fixed", "GET", "https://any.example", "*", "GET, HEAD, POST, PUT, PATCH, DELETE"),
    ] {
        let response = preflight(&keygate, path, method, origin).await;
        let (status, fields) = (response.status().as_u16(), response.headers().clone());
        assert_eq!((status, field(&fields, "access-control-allow-origin")), (204, allowed_origin), "{method} {path}");
        assert_eq!(field(&fields, "access-control-allow-methods"), methods, "{method} {path}");
        assert!(varies_by_origin(&fields) && !fields["x-request-id"].is_empty(), "{fields:?}");
        assert!(!fields.contains_key("content-length"), "{fields:?}");
    }
    let fields = preflight(&keygate, "/orders", "POST", ORIGIN).await.headers().clone();
    assert_eq!(field(&fields, "access-control-allow-headers"), "authorization, x-api-key, Content-Type, X-Trace");
    assert_eq!(field(&fields, "access-control-max-age"), "300");
    assert_eq!(field(&fields, "access-control-allow-credentials"), "");
    let fields = preflight(&keygate, "/session", "POST", ORIGIN).await.headers().clone();
    assert_eq!(field(&fields, "access-control-allow-credentials"), "true");
    assert_eq!(upstream.take_summaries(), Vec::<String>::new());
}

#[tokio::test]
async fn preflight_is_not_limited_and_is_logged_and_counted() {
    let (_upstream, mut keygate) = serve();
    let (_, key) = keygate.issue(json!({})).await;
    for _ in 0..5 {
        let response = preflight(&keygate, "/orders/1", "POST", ORIGIN).await;
        assert_eq!((response.status().as_u16(), response.headers().get("ratelimit")), (204, None));
    }
    let path = request_path();
    let counter = format!(r#"keygate_gateway_requests_total{{denial="",path="{path}",route="write",status="204"}}"#);
    // A request is counted when its response was sent.
    wait_for_count(&keygate, &counter, 5).await;
    let post = || keygate.http.post(format!("{}/orders/1", keygate.gateway)).bearer_auth(&key).header("origin", ORIGIN);
    assert_eq!(post().send().await.unwrap().status(), 200);
    let log = keygate.whole_log();
    let is_preflight =
        |line: &&str| line.contains("request served") && line.contains("OPTIONS") && line.contains("204");
    assert_eq!(log.lines().filter(is_preflight).count(), 5, "{log}");
}

#[tokio::test]
async fn rejections_have_the_cors_fields() {
    let (_upstream, keygate) = serve();
    let (_, key) = keygate.issue(json!({})).await;
    let request = |method: Method, path: &str| {
        keygate.http.request(method, format!("{}{path}", keygate.gateway)).header("origin", ORIGIN)
    };
    let post = || request(Method::POST, "/orders/1");
    for (request, status) in [
        (post(), 401),
        (post().bearer_auth("unknown"), 401),
        (post().bearer_auth(&key).header("x-api-key", "other"), 400),
        (request(Method::GET, "/scoped").bearer_auth(&key), 403),
        (request(Method::GET, "/dead").bearer_auth(&key), 502),
        (request(Method::GET, "/slow").bearer_auth(&key), 504),
        (post().bearer_auth(&key), 200),
        (post().bearer_auth(&key), 200),
        (post().bearer_auth(&key), 429),
        (request(Method::GET, "/session"), 401),
    ] {
        let response = request.send().await.unwrap();
        let fields = response.headers();
        assert_eq!((response.status().as_u16(), field(fields, "access-control-allow-origin")), (status, ORIGIN));
        assert!(varies_by_origin(fields), "{fields:?}");
        let exposed = field(fields, "access-control-expose-headers");
        for name in ["X-Request-Id", "RateLimit", "Retry-After", "WWW-Authenticate"] {
            assert!(exposed.split(", ").any(|listed| listed == name), "{name} is not in {exposed}");
        }
    }
    let other = keygate.http.post(format!("{}/orders/1", keygate.gateway)).header("origin", "https://evil.example");
    let response = other.send().await.unwrap();
    let fields = response.headers();
    assert_eq!((response.status().as_u16(), field(fields, "access-control-allow-origin")), (401, ""));
    assert!(varies_by_origin(fields), "{fields:?}");
}

#[tokio::test]
async fn fields_of_the_upstream_are_replaced() {
    let (_upstream, keygate) = serve();
    let (_, key) = keygate.issue(json!({})).await;
    let url = format!("{}/cors", keygate.gateway);
    for (origin, allowed) in [(Some(ORIGIN), ORIGIN), (Some("https://evil.example"), ""), (None, "")] {
        let mut request = keygate.http.get(&url).bearer_auth(&key);
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        let response = request.send().await.unwrap();
        let fields = response.headers();
        assert_eq!((response.status().as_u16(), field(fields, "access-control-allow-origin")), (200, allowed));
        assert_eq!(field(fields, "access-control-allow-credentials"), "");
        assert_eq!(field(fields, "vary"), "Accept, Origin");
    }
    let response = keygate.http.get(format!("{}/fixed", keygate.gateway)).header("origin", "https://any.example");
    let response = response.send().await.unwrap();
    assert_eq!(field(response.headers(), "access-control-allow-origin"), "*");
    assert_eq!(response.text().await.unwrap(), "hi");
}

#[tokio::test]
async fn route_without_a_policy_forwards_options() {
    let (upstream, keygate) = serve();
    let (_, key) = keygate.issue(json!({})).await;
    assert_eq!(preflight(&keygate, "/plain", "GET", ORIGIN).await.status(), 401);
    let request = || keygate.http.request(Method::OPTIONS, format!("{}/plain", keygate.gateway)).bearer_auth(&key);
    let preflight = request().header("origin", ORIGIN).header("access-control-request-method", "GET");
    for request in [request(), preflight] {
        let response = request.send().await.unwrap();
        assert_eq!((response.status().as_u16(), response.headers().get("vary")), (200, None));
    }
    // Without the fields of a preflight it is a request as any other on a route with a policy, too.
    let request = keygate.http.request(Method::OPTIONS, format!("{}/scoped", keygate.gateway)).header("origin", ORIGIN);
    assert_eq!(request.send().await.unwrap().status(), 401);
    assert_eq!(upstream.take_summaries(), ["OPTIONS /plain", "OPTIONS /plain"]);
}

#[tokio::test]
async fn cookie_is_accepted_in_writes_of_origins_that_are_trusted_with_credentials() {
    let (_upstream, keygate) = serve();
    let (_, key) = keygate.issue(json!({})).await;
    for (origin, status) in [(ORIGIN, 200), ("https://evil.example", 403)] {
        let request =
            keygate.http.post(format!("{}/session", keygate.gateway)).header("cookie", format!("token={key}"));
        let response = request.header("origin", origin).header("sec-fetch-site", "cross-site").send().await.unwrap();
        assert_eq!(response.status(), status, "{origin}");
        let is_allowed = field(response.headers(), "access-control-allow-credentials") == "true";
        assert_eq!(is_allowed, status == 200);
        if status == 403 {
            let body: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
            assert_eq!(body["code"], "cross_origin_forbidden");
        }
    }
}
