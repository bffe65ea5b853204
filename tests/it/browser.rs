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
