//! Redirects and fixed responses.

use std::io::{BufRead, BufReader, Write};

use serde_json::{Value, json};

use super::{Gateway, start_with, values};
use crate::support::keygate::request_path;
use crate::support::listeners::{ListenerKind, Protocol};
use crate::support::wait::wait_for_count;

fn gateway() -> Gateway {
    let routes = json!([
        {
            "name": "old", "path_prefix": "/old", "rewrite": "/new",
            "redirect": {"to": "https://www.example.com${request.path}${request.query}"}
        },
        {"name": "secure", "path_prefix": "/secure", "redirect": {"to": "https://${request.host}${request.path}", "status": 301}},
        {
            "name": "mine", "path_prefix": "/mine", "auth": "required",
            "redirect": {"to": "/homes/${key.actor}?team=${key.metadata.team}", "status": 303}
        },
        {"name": "robots", "path_prefix": "/robots.txt", "respond": {"body": "User-agent: *\n"}, "limits": ["burst"]},
        {
            "name": "gone", "path_prefix": "/gone",
            "respond": {"status": 410, "body": "{}", "content_type": "application/json"}
        },
        {"name": "empty", "path_prefix": "/empty", "respond": {"status": 204}},
        {"name": "closed", "path_prefix": "/closed", "auth": "required", "scopes": ["a"], "respond": {"body": "secret"}}
    ]);
    let limits = json!({"burst": {"quota": 1000, "window": "1h", "count_by": "address"}});
    start_with(routes, &json!({ "limits": limits }))
}

#[tokio::test]
async fn redirect_names_the_rewritten_path_and_the_query() {
    let gateway = gateway();
    for caller in gateway.callers() {
        let response = caller.get("/old/a%20b?x=1&y=%2F", &[]).await;
        assert_eq!(response.status(), 308);
        assert_eq!(values(&response, "location"), ["https://www.example.com/new/a%20b?x=1&y=%2F"]);
        assert_eq!(values(&response, "content-length"), ["0"]);
        let response = caller.get("/old", &[("x-request-id", "mine-1")]).await;
        assert_eq!(values(&response, "location"), ["https://www.example.com/new"]);
        assert_eq!(values(&response, "x-request-id"), ["mine-1"]);
        let response = caller.get("/secure/x?y", &[]).await;
        let host = caller.authority().rsplit_once(':').unwrap().0;
        assert_eq!(
            (response.status().as_u16(), values(&response, "location")),
            (301, vec![&*format!("https://{host}/secure/x")])
        );
    }
    assert_eq!(gateway.upstream.take_summaries(), [""; 0]);
}

#[tokio::test]
async fn variables_cannot_change_where_a_redirect_leads() {
    let gateway = gateway();
    let fields = json!({"actor_id": "../a b/é", "scopes": ["a"], "metadata": {"team": "x&y=z#"}});
    let (_, key) = gateway.keygate.issue(fields).await;
    for caller in gateway.callers() {
        assert_eq!(caller.get("/mine", &[]).await.status(), 401);
        let response = caller.get("/mine", &[("x-api-key", &key)]).await;
        assert_eq!(response.status(), 303);
        assert_eq!(values(&response, "location"), ["/homes/..%2Fa%20b%2F%C3%A9?team=x%26y%3Dz%23"]);
    }
}

#[tokio::test]
async fn fixed_response_has_its_status_type_and_body() {
    let gateway = gateway();
    for caller in gateway.callers() {
        for (path, status, kind, body) in [
            ("/robots.txt", 200, &["text/plain; charset=utf-8"][..], "User-agent: *\n"),
            ("/gone/x?y", 410, &["application/json"], "{}"),
            ("/empty", 204, &[], ""),
        ] {
            let response = caller.get(path, &[]).await;
            assert_eq!((response.status().as_u16(), values(&response, "content-type")), (status, kind.to_vec()));
            assert_eq!(response.headers().contains_key("content-length"), status != 204);
            assert!(response.headers().contains_key("x-request-id"));
            assert_eq!(values(&response, "ratelimit-policy").len(), usize::from(path == "/robots.txt"));
            assert_eq!(response.text().await.unwrap(), body);
        }
    }
    assert_eq!(gateway.upstream.take_summaries(), [""; 0]);
}

#[tokio::test]
async fn credential_and_scopes_are_required_before_a_response_of_the_route() {
    let gateway = gateway();
    let (_, without_scope) = gateway.keygate.issue(json!({})).await;
    let (_, with_scope) = gateway.keygate.issue(json!({"scopes": ["a"]})).await;
    for caller in gateway.callers() {
        assert_eq!(caller.get("/closed", &[]).await.status(), 401);
        assert_eq!(caller.get("/closed", &[("x-api-key", &without_scope)]).await.status(), 403);
        let response = caller.get("/closed", &[("x-api-key", &with_scope)]).await;
        assert_eq!(response.text().await.unwrap(), "secret");
    }
}

#[tokio::test]
async fn responses_of_a_route_are_counted_and_logged() {
    let mut gateway = gateway();
    gateway.keygate.call("/gone/x?secret=1", "").await;
    let path = request_path();
    let series = format!(r#"keygate_gateway_requests_total{{denial="",path="{path}",route="gone",status="410"}}"#);
    wait_for_count(&gateway.keygate, &series, 1).await;
    let log = gateway.keygate.whole_log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let lines: Vec<_> = lines.filter(|line| line["route"] == "gone").collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert_eq!(
        (&lines[0]["status"], &lines[0]["path"], &lines[0]["bytes"]),
        (&json!(410), &json!("/gone/x"), &json!(2))
    );
}

/// Reads one response: its head and as much of the body as it announces.
fn read(reader: &mut impl BufRead, has_body: bool) -> (String, String) {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0, "the connection was closed after {head:?}");
    }
    let length = head.to_ascii_lowercase();
    let length =
        length.split("content-length: ").nth(1).map_or(0, |rest| rest.split('\r').next().unwrap().parse().unwrap());
    let mut body = vec![0; if has_body { length } else { 0 }];
    reader.read_exact(&mut body).unwrap();
    (head, String::from_utf8(body).unwrap())
}

#[test]
fn connection_goes_on_after_responses_of_a_route() {
    let gateway = gateway();
    for kind in ListenerKind::each() {
        let stream = gateway.listeners.connect(kind, Protocol::Http1);
        let mut stream = BufReader::new(stream);
        for (request, status, body) in [
            ("POST /robots.txt HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello", "200", "User-agent: *\n"),
            ("HEAD /robots.txt HTTP/1.1\r\nHost: h\r\n\r\n", "200", ""),
            ("GET /empty HTTP/1.1\r\nHost: h\r\n\r\n", "204", ""),
            ("GET /old HTTP/1.1\r\nHost: h\r\n\r\n", "308", ""),
            ("GET /gone HTTP/1.1\r\nHost: h\r\n\r\n", "410", "{}"),
        ] {
            stream.get_mut().write_all(request.as_bytes()).unwrap();
            let (head, received) = read(&mut stream, !request.starts_with("HEAD"));
            assert_eq!((head.split(' ').nth(1), &*received), (Some(status), body), "{request}: {head}");
        }
    }
}
