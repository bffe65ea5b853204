//! Other paths for the upstream, and the way back.

use serde_json::json;

use super::{Gateway, start, values};
use crate::support::listeners::ListenerKind;

fn gateway() -> Gateway {
    start(json!([
        {"path_prefix": "/v1", "strip_prefix": "/v1"},
        {"path_prefix": "/v1/admin", "strip_prefix": "/v1", "auth": "required"},
        {"path_prefix": "/api/orders", "strip_prefix": "/api"},
        {"path_prefix": "/public", "rewrite": "/internal/files"},
        {"path_prefix": "/plain"}
    ]))
}

#[test]
fn upstream_gets_the_rewritten_path() {
    let gateway = gateway();
    for (path, forwarded) in [
        ("/v1", Some("/")),
        ("/v1/", Some("/")),
        ("/v1?x=/v1", Some("/?x=/v1")),
        ("/v1/orders//1/./2", Some("/orders/1/2")),
        ("/v1/orders/a%2Fb", Some("/orders/a%2Fb")),
        ("/api/orders/1", Some("/orders/1")),
        ("/public/a/b?c", Some("/internal/files/a/b?c")),
        ("/public", Some("/internal/files")),
        ("/plain/../v1/x", Some("/x")),
        ("/v1x", None),
        ("/v1/../x", None),
        ("/v1%2f..%2fx", None),
        ("/v1/..%2fx", None),
        ("/v1/a%2f..%2fadmin", None),
        ("/v1/Admin", None),
        ("/public/..%2f..%2fx", None),
        ("/public/%2e%2e%2f%2e%2e%2fx", None),
        ("/public/..%5c..%5cx", None),
        ("/public/..;/x", None),
    ] {
        let status = gateway.status("h", path);
        let expected = if forwarded.is_some() { 200 } else { 404 };
        assert_eq!(status, expected, "{path}");
        let forwarded: Vec<_> = forwarded.iter().map(|path| format!("GET {path}")).collect();
        assert_eq!(gateway.upstream.take_summaries(), forwarded, "{path}");
    }
    assert_eq!(gateway.status("h", "/v1//admin/x"), 401);
}

#[tokio::test]
async fn rewriting_is_the_same_in_http2_and_with_tls() {
    let gateway = gateway();
    for caller in gateway.callers() {
        for (path, forwarded) in [("/v1/a%2Fb?c", "/a%2Fb?c"), ("/public/x", "/internal/files/x"), ("/v1", "/")] {
            assert_eq!(caller.get(path, &[]).await.status(), 200);
            assert_eq!(gateway.upstream.take_summaries(), [format!("GET {forwarded}")]);
        }
        assert_eq!(caller.get("/v1/a%2F..%2Fadmin", &[]).await.status(), 404);
    }
}

#[tokio::test]
async fn own_address_of_the_upstream_is_mapped_to_the_address_of_the_client() {
    let gateway = gateway();
    let upstream = gateway.upstream.url.clone();
    let authority = upstream.trim_start_matches("http://").to_owned();
    for caller in gateway.callers() {
        let own = &caller.url;
        for (path, sent, received) in [
            ("/plain", format!("{upstream}/plain/x?y#z"), format!("{own}/plain/x?y#z")),
            ("/plain", format!("//{authority}/other"), format!("{own}/other")),
            ("/plain", "/plain/x".to_owned(), "/plain/x".to_owned()),
            ("/plain", "x".to_owned(), "x".to_owned()),
            ("/plain", format!("https://{authority}/x"), format!("https://{authority}/x")),
            ("/plain", "http://elsewhere.example.com/x".to_owned(), "http://elsewhere.example.com/x".to_owned()),
            ("/v1", format!("{upstream}/login?next=/"), format!("{own}/v1/login?next=/")),
            ("/v1", "/login".to_owned(), "/v1/login".to_owned()),
            ("/public", "/internal/files/x".to_owned(), "/public/x".to_owned()),
            ("/public", "/internal/filesx".to_owned(), "/internal/filesx".to_owned()),
            ("/public", format!("{upstream}/internal/files"), format!("{own}/public")),
        ] {
            let answer = format!("307 Temporary Redirect; Location: {sent}; Content-Location: {sent}; X-Other: {sent}");
            let response = caller.get(path, &[("x-answer", &answer)]).await;
            assert_eq!(response.status(), 307);
            assert_eq!(values(&response, "location"), [&*received], "{path} {sent}");
            assert_eq!(values(&response, "content-location"), [&*received], "{path} {sent}");
            assert_eq!(values(&response, "x-other"), [&*sent]);
        }
    }
}

#[tokio::test]
async fn host_that_was_sent_is_an_own_address_as_well() {
    let gateway = start(json!([
        {"path_prefix": "/named", "host": "orders.internal:8080"},
        {"path_prefix": "/preserved", "host": "preserve"}
    ]));
    for caller in gateway.callers() {
        let answer = "302 Found; Location: http://orders.internal:8080/x";
        let response = caller.get("/named", &[("x-answer", answer)]).await;
        assert_eq!(values(&response, "location"), [format!("{}/x", caller.url)]);
        // An upstream that builds the URL of the client itself has no other scheme than its own.
        let answer = format!("302 Found; Location: http://{}/x", caller.authority());
        let response = caller.get("/preserved", &[("x-answer", &answer)]).await;
        assert_eq!(values(&response, "location"), [format!("{}/x", caller.url)]);
        // A redirect from http to https stays one.
        let answer = format!("302 Found; Location: https://{}/x", caller.authority());
        let response = caller.get("/preserved", &[("x-answer", &answer)]).await;
        assert_eq!(values(&response, "location"), [format!("https://{}/x", caller.authority())]);
        assert!(caller.kind == ListenerKind::Tls || caller.url.starts_with("http://"));
    }
}
