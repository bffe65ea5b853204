//! The endpoints for HTTP.

use std::net::TcpStream;

use keygate_test_servers::{WAIT_TIMEOUT, free_port};
use serde_json::json;

use super::Fixture;
use super::check::{PROXIES, Proxy, exchange};
use crate::support::keygate::Keygate;
use crate::support::upstream::Upstream;
use crate::support::wait::wait_for;

/// A limit so slow that no token is replenished during a test.
fn limit(quota: u64) -> serde_json::Value {
    json!({"rate_limit_policy": {"quota": quota.to_string(), "window": "3600s"}})
}

#[tokio::test]
async fn authorized_request_gets_the_identity_of_its_caller() {
    let fixture = Fixture::start();
    for proxy in PROXIES {
        let mut fields = limit(9);
        fields["scopes"] = json!(["read:orders"]);
        let (id, key) = fixture.keygate.issue(fields).await;
        let id_field = "X-Request-Id: req-1\r\n";
        let answer =
            fixture.check(proxy, "GET /orders/1?page=2", &format!("{id_field}Authorization: Bearer {key}\r\n"));
        assert_eq!((answer.status, answer.body.len()), (200, 0), "{proxy:?} {answer:?}");
        for (name, value) in [
            ("x-keygate-key-id", &*id),
            ("x-keygate-actor-id", "tester"),
            ("x-keygate-scopes", "read:orders"),
            ("x-keygate-credential-type", "issued"),
            ("x-keygate-tenant-id", "00000000-0000-0000-0000-000000000000"),
            ("x-request-id", "req-1"),
            ("cache-control", "no-store"),
            ("ratelimit-policy", r#""default";q=9;w=3600"#),
        ] {
            assert_eq!(answer.field(name), value, "{proxy:?} {name}");
        }
        assert!(answer.field("ratelimit").starts_with(r#""default";r=8;t="#), "{answer:?}");
        let removed = if proxy == Proxy::Envoy { "authorization" } else { "" };
        assert_eq!(answer.field("x-envoy-auth-headers-to-remove"), removed, "{proxy:?}");
        let api_key = fixture.check(proxy, "GET /orders/1", &format!("X-API-Key: {key}\r\n"));
        assert_eq!(api_key.status, 200, "{proxy:?}");
    }
}

#[tokio::test]
async fn each_rejection_has_the_form_that_the_proxy_reads() {
    let fixture = Fixture::start();
    let (_, key) = fixture.keygate.issue(json!({"scopes": ["read:orders"]})).await;
    let bearer = format!("Authorization: Bearer {key}\r\n");
    let (revoked_id, revoked) = fixture.keygate.issue(json!({})).await;
    fixture.keygate.revoke(&revoked_id).await;
    let revoked = format!("Authorization: Bearer {revoked}\r\n");
    let ambiguous = format!("{bearer}X-API-Key: another\r\n");
    for proxy in PROXIES {
        for (line, fields, status, code, challenge) in [
            ("GET /orders", "", 401, "credential_missing", r#"Bearer realm="keygate""#),
            ("GET /orders", &revoked, 401, "credential_revoked", r#"Bearer realm="keygate", error="invalid_token""#),
            ("GET /plain", "Authorization: Bearer x\r\n", 401, "credential_invalid", "Bearer realm"),
            ("POST /orders", &bearer, 403, "scope_insufficient", r#"error="insufficient_scope", scope="write:orders""#),
            ("GET /orders", &ambiguous, 400, "credential_ambiguous", r#"error="invalid_request""#),
            ("GET /nowhere", &bearer, 404, "route_not_found", ""),
            ("GET /open/..%2forders", "", 404, "route_not_found", ""),
            ("GET /ORDERS", &bearer, 404, "route_not_found", ""),
        ] {
            let answer = fixture.check(proxy, line, fields);
            assert_eq!(answer.rejection(proxy), (status, code.to_owned()), "{proxy:?} {line} {fields}");
            assert!(answer.field("www-authenticate").contains(challenge), "{proxy:?} {line} {answer:?}");
            assert!(!answer.head.contains("x-keygate-key-id"), "{answer:?}");
        }
    }
}

#[tokio::test]
async fn exceeded_limit_is_reported_with_the_time_to_wait() {
    let fixture = Fixture::start();
    for proxy in PROXIES {
        let (_, key) = fixture.keygate.issue(limit(1)).await;
        assert_eq!(fixture.check_with_key(proxy, "GET /plain", &key).status, 200);
        let refused = fixture.check_with_key(proxy, "GET /plain", &key);
        assert_eq!(refused.rejection(proxy), (429, "quota_exceeded".to_owned()));
        let wait: u64 = refused.field("retry-after").parse().unwrap();
        assert!((1800..=3600).contains(&wait), "{wait}");
        assert!(refused.field("ratelimit").starts_with(r#""default";r=0;t="#), "{refused:?}");
        assert_eq!(refused.field("ratelimit-policy"), r#""default";q=1;w=3600"#);
    }
}

#[tokio::test]
async fn revocation_takes_effect_on_the_next_check() {
    let fixture = Fixture::start();
    for proxy in PROXIES {
        let (id, key) = fixture.keygate.issue(json!({})).await;
        for _ in 0..2 {
            assert_eq!(fixture.check_with_key(proxy, "GET /plain", &key).status, 200);
        }
        fixture.keygate.revoke(&id).await;
        let answer = fixture.check_with_key(proxy, "GET /plain", &key);
        assert_eq!(answer.rejection(proxy), (401, "credential_revoked".to_owned()), "{proxy:?}");
    }
}

#[tokio::test]
async fn address_of_the_client_is_the_one_that_the_proxy_states() {
    let fixture = Fixture::start();
    let (_, inside) = fixture.keygate.issue(json!({"ip_restriction": {"allowed_cidrs": ["203.0.113.0/24"]}})).await;
    let (_, outside) =
        fixture.keygate.issue(json!({"ip_restriction": {"allowed_cidrs": ["10.0.0.0/8", "127.0.0.0/8"]}})).await;
    for proxy in PROXIES {
        assert_eq!(fixture.check_with_key(proxy, "GET /plain", &inside).status, 200, "{proxy:?}");
        let refused = fixture.check_with_key(proxy, "GET /plain", &outside);
        assert_eq!(refused.rejection(proxy), (403, "address_not_allowed".to_owned()), "{proxy:?}");
    }
}

#[tokio::test]
async fn anonymous_request_passes_without_forged_identity() {
    let fixture = Fixture::start();
    let forged =
        "X-Keygate-Actor-Id: root\r\nX-Keygate_Scopes: admin\r\nX-Keygate-Key-Id: 1\r\nX-Keygate-Key-Id: 2\r\n";
    for proxy in PROXIES {
        for line in ["GET /maybe", "GET /open"] {
            let answer = fixture.check(proxy, line, forged);
            assert_eq!(answer.status, 200, "{proxy:?} {line} {answer:?}");
            for name in ["x-keygate-actor-id", "x-keygate-scopes", "x-keygate-key-id"] {
                assert_eq!(answer.field(name), "", "{proxy:?} {line} {name}");
            }
            if proxy == Proxy::Envoy {
                let mut removed: Vec<_> = answer.field("x-envoy-auth-headers-to-remove").split(',').collect();
                removed.sort_unstable();
                assert_eq!(removed, ["x-keygate-actor-id", "x-keygate-key-id", "x-keygate_scopes"]);
            }
        }
        let answer = fixture.check(proxy, "GET /maybe", "Authorization: Bearer x\r\n");
        assert_eq!(answer.rejection(proxy), (401, "credential_invalid".to_owned()));
    }
    // On a route without authentication the credential belongs to the upstream.
    let answer = fixture.check(Proxy::Envoy, "GET /open", "Authorization: Bearer x\r\n");
    assert_eq!((answer.status, answer.field("x-envoy-auth-headers-to-remove")), (200, ""));
}

#[tokio::test]
async fn contradictory_and_repeated_descriptions_are_rejected() {
    let fixture = Fixture::start();
    for (proxy, line, fields) in [
        (Proxy::Ingress, "GET /orders", "X-Original-URI: /open\r\n"),
        (Proxy::Ingress, "GET /orders", "X-Forwarded-Host: other.example.com\r\n"),
        (Proxy::Nginx, "GET /open", "X-Original-URI: /open\r\n"),
        (Proxy::Nginx, "GET /open", "X-Original-Method: GET\r\n"),
        (Proxy::Nginx, "GET /open", "X-Original-Host: api.example.com\r\n"),
        (Proxy::Nginx, "GET /open", "X-Original-URL: https://admin.example.com/open\r\n"),
        (Proxy::Nginx, "GET /open", "Host: api.example.com\r\n"),
        (Proxy::Forward, "GET /open", "X-Forwarded-Uri: /open\r\n"),
        (Proxy::Forward, "GET /open", "X-Forwarded-Method: GET\r\n"),
        (Proxy::Forward, "GET /open", "X-Forwarded-Host: api.example.com\r\n"),
        (Proxy::Envoy, "GET /open", "Host: api.example.com\r\n"),
        (Proxy::Forward, "GET *", ""),
        (Proxy::Forward, "GET http://api.example.com/open", ""),
    ] {
        let answer = fixture.check(proxy, line, fields);
        assert_eq!(answer.rejection(proxy), (400, "request_invalid".to_owned()), "{proxy:?} {line} {fields}");
    }
}

#[tokio::test]
async fn route_is_chosen_by_the_original_request() {
    let fixture = Fixture::start();
    let (_, key) = fixture.keygate.issue(json!({"scopes": ["admin"]})).await;
    let host = |proxy: Proxy, line: &str| {
        let request = proxy.request(line, &format!("Authorization: Bearer {key}\r\n"));
        request.replace("api.example.com", "Admin.Example.com:443")
    };
    for proxy in PROXIES {
        let mut stream = TcpStream::connect(&fixture.address).unwrap();
        stream.set_read_timeout(Some(WAIT_TIMEOUT)).unwrap();
        let answer = exchange(&mut stream, &host(proxy, "DELETE /anything"));
        assert_eq!((answer.status, answer.field("x-keygate-scopes")), (200, "admin"), "{proxy:?} {answer:?}");
    }
}

#[tokio::test]
async fn bodies_are_discarded_within_bounds() {
    let fixture = Fixture::start();
    let mut stream = TcpStream::connect(&fixture.address).unwrap();
    stream.set_read_timeout(Some(WAIT_TIMEOUT)).unwrap();
    let body = "x".repeat(60_000);
    for _ in 0..2 {
        let request = Proxy::Forward.request("GET /open", &format!("Content-Length: {}\r\n", body.len()));
        assert_eq!(exchange(&mut stream, &format!("{request}{body}")).status, 200);
    }
    let request = Proxy::Forward.request("GET /open", "Content-Length: 1000000\r\n");
    let answer = exchange(&mut stream, &format!("{request}{body}{body}"));
    assert_eq!((answer.status, answer.field("connection")), (200, "close"), "{answer:?}");
}

#[tokio::test]
async fn unknown_paths_of_the_listener_are_not_found() {
    let fixture = Fixture::start();
    for path in ["/", "/nginx/orders", "/forwards", "/metrics", "/envoy.service.auth.v3.Other/Check"] {
        let mut stream = TcpStream::connect(&fixture.address).unwrap();
        let answer = exchange(&mut stream, &format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n"));
        assert_eq!(answer.rejection(Proxy::Forward), (404, "route_not_found".to_owned()), "{path}");
    }
}

#[tokio::test]
async fn gateway_and_checks_charge_the_same_limits() {
    let upstream = Upstream::start();
    let address = format!("127.0.0.1:{}", free_port());
    let gateway = json!({
        "routes": [{"name": "plain", "path_prefix": "/plain", "upstream": "api"}],
        "upstreams": {"api": {"endpoints": [upstream.url]}}
    });
    let keygate = Keygate::serve(&gateway, &json!({"external_auth": {"address": address}}));
    let fixture = Fixture { keygate, address };
    let (_, key) = fixture.keygate.issue(limit(2)).await;
    assert_eq!(fixture.check_with_key(Proxy::Nginx, "GET /plain", &key).status, 200);
    assert_eq!(fixture.keygate.call("/plain", &key).await.status(), 200);
    assert_eq!(fixture.keygate.call("/plain", &key).await.status(), 429);
    assert_eq!(fixture.check_with_key(Proxy::Nginx, "GET /plain", &key).rejection(Proxy::Nginx).0, 429);
    let counted = |status: u16, denial: &str| {
        format!(r#"keygate_gateway_requests_total{{denial="{denial}",path="",route="plain",status="{status}"}}"#)
    };
    assert_eq!(fixture.keygate.metric(&counted(200, "")).await, Some(2.0));
    assert_eq!(fixture.keygate.metric(&counted(429, "quota_exceeded")).await, Some(2.0));
}

#[tokio::test]
async fn checks_are_counted_in_the_usage_of_the_key() {
    let fixture = Fixture::with(&json!({"usage": {"flush_interval": "50ms"}}));
    let (id, key) = fixture.keygate.issue(json!({"scopes": ["read:orders"]})).await;
    let bearer = format!("Authorization: Bearer {key}\r\n");
    for proxy in PROXIES {
        assert_eq!(fixture.check(proxy, "GET /orders", &bearer).status, 200, "{proxy:?}");
        assert_eq!(fixture.check(proxy, "POST /orders", &bearer).status, 403, "{proxy:?}");
    }
    let expected = json!({"scope_insufficient": PROXIES.len()});
    wait_for(async || {
        let usage = fixture.keygate.send(&format!("GET /keygate/v1/keys/{id}/usage"), "").await;
        let total = &usage.body["total"];
        let is_complete = total["requests"] == 2 * PROXIES.len() && total["refusals"] == expected;
        if is_complete { Ok(()) } else { Err(format!("{usage:?}")) }
    })
    .await;
}
