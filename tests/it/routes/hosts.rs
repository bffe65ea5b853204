//! Which hosts a route matches, and which host the upstream gets.

use std::sync::{Arc, Mutex};

use serde_json::json;

use super::{EVERY_WAY, start, start_with, values};

#[tokio::test]
async fn wildcards_match_hosts_below_a_name() {
    let gateway = start(json!([
        {"name": "none", "respond": {"body": "none"}},
        {"name": "wild", "hosts": ["*.example.com"], "respond": {"body": "wild"}},
        {"name": "deep", "hosts": ["*.eu.example.com"], "respond": {"body": "deep"}},
        {"name": "exact", "hosts": ["api.example.com"], "path_prefix": "/x", "respond": {"body": "exact"}}
    ]));
    for (kind, protocol) in EVERY_WAY {
        for (host, path, name) in [
            ("a.example.com", "/", "wild"),
            ("A.b.EXAMPLE.com.:8080", "/", "wild"),
            ("a.eu.example.com", "/", "deep"),
            ("eu.example.com", "/", "wild"),
            ("api.example.com", "/x/y", "exact"),
            ("api.example.com", "/y", "wild"),
            ("example.com", "/", "none"),
            ("notexample.com", "/", "none"),
        ] {
            assert_eq!(gateway.get_of(kind, protocol, host, path).await, (200, name.into()), "{host}{path}");
        }
    }
}

#[tokio::test]
async fn upstream_gets_the_host_that_the_route_asks_for() {
    let gateway = start(json!([
        {"path_prefix": "/default"},
        {"path_prefix": "/upstream", "host": "upstream"},
        {"path_prefix": "/preserve", "host": "preserve"},
        {"path_prefix": "/named", "host": "orders.internal:8080"}
    ]));
    let endpoint = gateway.upstream.url.trim_start_matches("http://").to_owned();
    for (kind, protocol) in EVERY_WAY {
        for (path, host) in [
            ("/default", &*endpoint),
            ("/upstream", &endpoint),
            ("/preserve", "API.example.com:81"),
            ("/named", "orders.internal:8080"),
        ] {
            assert_eq!(gateway.get_of(kind, protocol, "API.example.com:81", path).await.0, 200);
            let head = gateway.upstream.take().remove(0).head;
            let hosts = head
                .lines()
                .filter_map(|line| line.split_once(": "))
                .filter(|(name, _)| name.eq_ignore_ascii_case("host"));
            assert_eq!(hosts.map(|(_, host)| host).collect::<Vec<_>>(), [host], "{path}");
            assert!(head.to_ascii_lowercase().contains("x-forwarded-host: api.example.com:81\r\n"), "{head}");
        }
    }
    // HTTP/1.0 knows requests without a host.
    assert!(
        gateway.raw("GET /preserve HTTP/1.0\r\n\r\n").starts_with("HTTP/1.0 200") || gateway.upstream.take().len() == 1
    );
}

/// An HTTP/2 server in clear text that records `:authority`, `Host` and `:path`.
async fn http2_upstream() -> (String, Arc<Mutex<Vec<(String, bool, String)>>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let received = Arc::new(Mutex::new(Vec::new()));
    let shared = Arc::clone(&received);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let received = Arc::clone(&shared);
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    let authority = request.uri().authority().map(ToString::to_string).unwrap_or_default();
                    let has_host = request.headers().contains_key("host");
                    received.lock().unwrap().push((authority.clone(), has_host, request.uri().path().to_owned()));
                    let location = format!("http://{authority}/x");
                    let response = http::Response::builder().status(302).header("location", location).body(()).unwrap();
                    respond.send_response(response, true).unwrap();
                }
            });
        }
    });
    (url, received)
}

#[tokio::test]
async fn http2_upstream_gets_the_host_as_its_authority() {
    let (url, received) = http2_upstream().await;
    let routes = json!([
        {"path_prefix": "/default", "upstream": "two"},
        {"path_prefix": "/preserve", "upstream": "two", "host": "preserve", "strip_prefix": "/preserve"},
        {"path_prefix": "/named", "upstream": "two", "host": "orders.internal"}
    ]);
    let gateway = start_with(routes, &json!({"upstreams": {"two": {"endpoints": [url], "protocol": "http2"}}}));
    let endpoint = url.trim_start_matches("http://");
    for caller in gateway.callers() {
        for (path, authority, forwarded, back) in [
            ("/default", endpoint, "/default", "/x"),
            ("/preserve", caller.authority(), "/", "/preserve/x"),
            ("/named", "orders.internal", "/named", "/x"),
        ] {
            let response = caller.get(path, &[]).await;
            assert_eq!(values(&response, "location"), [format!("{}{back}", caller.url)]);
            let received = std::mem::take(&mut *received.lock().unwrap());
            assert_eq!(received, [(authority.to_owned(), false, forwarded.to_owned())], "{path}");
        }
    }
}
