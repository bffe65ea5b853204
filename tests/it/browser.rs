//! A browser in front of the gateway.

use serde_json::json;

use crate::support::chromium::shown;
use crate::support::listeners::{ListenerKind, Listeners};
use crate::support::raw_upstream::RawUpstream;

#[tokio::test]
async fn fetch_of_a_browser_is_authorized_over_tls_and_http_2() {
    let upstream = RawUpstream::start();
    let listeners = Listeners::new();
    let gateway = json!({
        "routes": [{"name": "all", "upstream": "api", "auth": "none"}, {"name": "keys", "path_prefix": "/keys", "upstream": "api"}],
        "upstreams": {"api": {"endpoints": [upstream.url]}}
    });
    let keygate = listeners.serve(&gateway, &json!({}));
    let (_, key) = keygate.issue(json!({})).await;
    let Some(page) = shown(&format!("{}/page#{key}", listeners.url(ListenerKind::Tls)), &[]).await else { return };
    assert!(page.contains("/a 200 h2; /keys?without 401 h2; /keys?with 200 h2"), "{page}");
    let received = upstream.take_summaries();
    assert_eq!(received, ["GET /page", "POST /a hi", "GET /keys?with"]);
}

#[tokio::test]
async fn page_of_another_origin_reads_rejections_and_sends_keys() {
    let upstream = RawUpstream::start();
    let listeners = Listeners::new();
    let origin = listeners.url(ListenerKind::Tcp);
    let gateway = json!({
        "routes": [
            {"name": "page", "path_prefix": "/page", "upstream": "api", "auth": "none"},
            {"name": "keys", "path_prefix": "/keys", "upstream": "api", "cors": {"origins": [origin]}},
            {"name": "plain", "path_prefix": "/plain", "upstream": "api"}
        ],
        "upstreams": {"api": {"endpoints": [upstream.url]}}
    });
    let keygate = listeners.serve(&gateway, &json!({}));
    let (_, key) = keygate.issue(json!({})).await;
    let url = format!("{origin}/page/cors#{key},{}", listeners.url(ListenerKind::Tls));
    let Some(page) = shown(&url, &[]).await else { return };
    let expected = "/keys/without 401 id credential_missing; /keys/with 200 id ok; /keys/header failed; /plain/with failed; \
                    /plain/without failed";
    assert!(page.contains(expected), "{page}");
    let received = upstream.take_summaries();
    assert_eq!(received, ["GET /page/cors", "PUT /keys/with {}"]);
}
