//! Token introspection (RFC 7662) over plain HTTP, as OAuth clients call it: a form, and Basic authentication that is ignored.

use keygate_test_servers::Postgres;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};

use crate::support::keygate::{HMAC_SECRET, Keygate};
use crate::support::wait::wait_for;

const FORM: &str = "application/x-www-form-urlencoded";
const ISSUER: &str = "https://keys.example.com";
const JWT: &str = "TOKEN_ALGORITHM_JWT";
const MACAROON: &str = "TOKEN_ALGORITHM_MACAROON";

/// A request whose body is sent as it is.
fn request(keygate: &Keygate, body: String) -> RequestBuilder {
    let request = keygate.http.post(format!("{}/keygate/v1/introspect", keygate.admin));
    request.basic_auth("resource-server", Some("an-admin-key")).header(CONTENT_TYPE, FORM).body(body)
}

async fn send(keygate: &Keygate, form: &[(&str, &str)]) -> Response {
    let mut body = form_urlencoded::Serializer::new(String::new());
    body.extend_pairs(form);
    request(keygate, body.finish()).send().await.unwrap()
}

/// The body of a response with the status and headers that every described credential has.
async fn described(response: Response) -> Value {
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["cache-control"], "no-store");
    assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
    response.json().await.unwrap()
}

async fn introspect(keygate: &Keygate, form: &[(&str, &str)]) -> Value {
    described(send(keygate, form).await).await
}

async fn introspect_token(keygate: &Keygate, token: &str) -> Value {
    introspect(keygate, &[("token", token), ("token_type_hint", "access_token")]).await
}

fn inactive() -> Value {
    json!({"active": false})
}

/// Status, `error` and `error_description` of an OAuth error, which no cache may store.
async fn error(response: Response) -> (u16, String, String) {
    assert_eq!(response.headers()["cache-control"], "no-store");
    assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
    let status = response.status().as_u16();
    let body: Value = response.json().await.unwrap();
    let text = |name: &str| body[name].as_str().unwrap().to_owned();
    assert_eq!(body.as_object().unwrap().len(), 2, "{body}");
    (status, text("error"), text("error_description"))
}

async fn derive(keygate: &Keygate, key: &str, algorithm: &str, audiences: &[&str]) -> String {
    let request = json!({"credential": key, "algorithm": algorithm, "ttl": "10m", "audiences": audiences});
    keygate.send_json("POST /v2alpha1/admin/apiKeys:derive", &request).await.text("/token/token")
}

/// A limit that gets nothing back during a test, however slow the machine.
fn limit(quota: u64) -> Value {
    json!({"rate_limit_policy": {"quota": quota.to_string(), "window": "3600s"}})
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn every_kind_of_credential_is_described() {
    let keygate = Keygate::serve_admin(&json!({}));
    let (id, key) = keygate.issue(json!({"scopes": ["read:orders", "write:orders"], "ttl": "1h"})).await;
    let issued = introspect_token(&keygate, &key).await;
    let times = [&issued["iat"], &issued["exp"]].map(|time| time.as_i64().unwrap());
    assert!((0..=1).contains(&(times[1] - times[0] - 3600)), "{issued}");
    let expected = json!({"active": true, "scope": "read:orders write:orders", "client_id": id, "sub": "tester",
        "iss": ISSUER, "token_type": "issued", "iat": times[0], "exp": times[1]});
    assert_eq!(issued, expected);

    let id_of_imported = keygate.import(json!({"raw_key": "sk_live_1", "scopes": ["read"], "ttl": "1h"})).await;
    let imported = introspect_token(&keygate, "sk_live_1").await;
    let expected = json!({"active": true, "scope": "read", "client_id": id_of_imported, "sub": "tester",
        "iss": ISSUER, "token_type": "imported", "exp": imported["exp"]});
    assert_eq!(imported, expected);
    assert!(imported["exp"].is_i64());

    for (algorithm, kind) in [(JWT, "derived_jwt"), (MACAROON, "derived_macaroon")] {
        let token = introspect_token(&keygate, &derive(&keygate, &key, algorithm, &[]).await).await;
        let expected = json!({"active": true, "scope": "read:orders write:orders", "client_id": id, "sub": "tester",
            "iss": ISSUER, "token_type": kind, "iat": token["iat"], "nbf": token["iat"], "jti": token["jti"],
            "exp": token["iat"].as_i64().unwrap() + 600});
        assert_eq!(token, expected);
        assert_eq!(token["jti"].as_str().unwrap().len(), 36);
    }
}

#[tokio::test]
async fn unusable_credential_is_inactive_and_nothing_else_is_said() {
    let keygate = Keygate::serve_admin(&json!({}));
    let (expired_id, expired) = keygate.issue(json!({"ttl": "1s"})).await;
    let (revoked_id, revoked) = keygate.issue(json!({})).await;
    let tokens = [derive(&keygate, &revoked, JWT, &[]).await, derive(&keygate, &revoked, MACAROON, &[]).await];
    for credential in [&revoked, &tokens[0], &tokens[1]] {
        assert_eq!(introspect_token(&keygate, credential).await["active"], true);
    }
    keygate.revoke(&revoked_id).await;
    keygate.wait_until_expired(&expired_id).await;
    let long = "x".repeat(8193);
    let forged = format!("{}x", &revoked[..revoked.len() - 1]);
    for credential in [
        &expired,
        &revoked,
        &tokens[0],
        &tokens[1],
        &forged,
        &long,
        "unknown",
        "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.c2ln",
        "mc_v1_AgEX",
        "\u{0}\u{fffd} \n",
    ] {
        assert_eq!(introspect_token(&keygate, credential).await, inactive(), "{credential}");
    }
}

#[tokio::test]
async fn token_of_a_revoked_key_stays_active_where_the_gateway_accepts_it() {
    let settings = json!({"credentials": {"derived_tokens": {"revoke_with_parent": false}}});
    let keygate = Keygate::serve_admin(&settings);
    let (id, key) = keygate.issue(json!({})).await;
    let token = derive(&keygate, &key, JWT, &[]).await;
    keygate.revoke(&id).await;
    assert_eq!(introspect_token(&keygate, &token).await["active"], true);
    assert_eq!(introspect_token(&keygate, &key).await, inactive());
}

#[tokio::test]
async fn token_with_audiences_is_active_only_where_one_is_expected() {
    let keygate = Keygate::serve_admin(&json!({}));
    let (_, key) = keygate.issue(json!({})).await;
    for algorithm in [JWT, MACAROON] {
        let token = derive(&keygate, &key, algorithm, &["a", "b"]).await;
        for audiences in [&["b"][..], &["c", "a"], &["", "a"]] {
            let form: Vec<_> = audiences.iter().map(|audience| ("audience", *audience)).collect();
            let body = introspect(&keygate, &[&[("token", token.as_str())], &form[..]].concat()).await;
            assert_eq!((&body["active"], &body["aud"]), (&json!(true), &json!(["a", "b"])), "{audiences:?}");
        }
        assert_eq!(introspect(&keygate, &[("token", &token), ("audience", "c")]).await, inactive());
        assert_eq!(introspect_token(&keygate, &token).await, inactive());
    }
    assert_eq!(introspect(&keygate, &[("token", &key), ("audience", "a")]).await, inactive());
}

#[tokio::test]
async fn malformed_request_is_an_oauth_error_that_repeats_no_value() {
    let keygate = Keygate::serve_admin(&json!({}));
    let (_, key) = keygate.issue(json!({})).await;
    for (body, description) in [
        (String::new(), "token is missing"),
        ("token=".into(), "token is missing"),
        (format!("toke={key}"), "token is missing"),
        (format!("{{\"token\":\"{key}\"}}"), "token is missing"),
        (format!("token={key}&token={key}"), "token is given more than once"),
        (format!("token=&token={key}"), "token is given more than once"),
        (format!("token={key}&charge=true&charge=true"), "charge is given more than once"),
        (format!("token={key}&charge={key}"), "charge must be true or false"),
        (format!("token={key}&client_ip={key}"), "client_ip must be an IP address without a port"),
        (format!("token={key}&a=%ff"), "the form is not UTF-8"),
    ] {
        let response = error(request(&keygate, body.clone()).send().await.unwrap()).await;
        assert_eq!(response, (400, "invalid_request".into(), description.into()), "{body}");
    }
    for kind in ["application/json", "text/plain", "multipart/form-data; boundary=x", ""] {
        let mut request = request(&keygate, format!("token={key}")).build().unwrap();
        request.headers_mut().insert(CONTENT_TYPE, kind.parse().unwrap());
        let (status, code, _) = error(keygate.http.execute(request).await.unwrap()).await;
        assert_eq!((status, code.as_str()), (415, "invalid_request"), "{kind}");
    }
    let kind = "Application/X-Www-Form-Urlencoded;charset=utf-8";
    let mut accepted = request(&keygate, format!("token={key}")).build().unwrap();
    accepted.headers_mut().insert(CONTENT_TYPE, kind.parse().unwrap());
    assert_eq!(described(keygate.http.execute(accepted).await.unwrap()).await["active"], true);
    let large = request(&keygate, format!("token={key}&a={}", "x".repeat(1 << 20))).send().await.unwrap();
    let message = "request body exceeds maximum allowed size of 65536 bytes";
    assert_eq!(error(large).await, (413, "invalid_request".into(), message.into()));
}

#[tokio::test]
async fn other_methods_and_paths_are_404_without_allow() {
    let keygate = Keygate::serve_admin(&json!({}));
    let (_, key) = keygate.issue(json!({})).await;
    for (method, path) in [
        ("GET", "introspect"),
        ("HEAD", "introspect"),
        ("PUT", "introspect"),
        ("OPTIONS", "introspect"),
        ("POST", "introspect/"),
        ("POST", "other"),
    ] {
        let url = format!("{}/keygate/v1/{path}?token={key}", keygate.admin);
        let response = keygate.http.request(method.parse().unwrap(), url).send().await.unwrap();
        assert_eq!((response.status().as_u16(), header(&response, "allow")), (404, ""), "{method} {path}");
    }
    let query = format!("{}/keygate/v1/introspect?token={key}", keygate.admin);
    let response = keygate.http.post(query).header(CONTENT_TYPE, FORM).send().await.unwrap();
    assert_eq!(error(response).await.2, "token is missing", "the token is not read from the URL");
}

#[tokio::test]
async fn limit_is_charged_only_on_request_and_an_exceeded_one_stays_active() {
    let keygate = Keygate::serve_admin(&json!({}));
    let (_, key) = keygate.issue(limit(1)).await;
    for form in [&[("token", key.as_str())][..], &[("token", &key), ("charge", "false")]] {
        let response = send(&keygate, form).await;
        assert_eq!((header(&response, "ratelimit"), header(&response, "ratelimit-policy")), ("", ""));
        assert!(described(response).await.get("rate_limit_remaining").is_none());
    }
    let response = send(&keygate, &[("token", &key), ("charge", "true")]).await;
    assert_eq!(header(&response, "ratelimit-policy"), r#""default";q=1;w=3600"#);
    assert!(header(&response, "ratelimit").starts_with(r#""default";r=0;t="#), "{response:?}");
    assert_eq!(header(&response, "retry-after"), "");
    let body = described(response).await;
    assert_eq!((&body["rate_limit_exceeded"], &body["rate_limit_remaining"]), (&json!(false), &json!(0)));

    let token = derive(&keygate, &key, MACAROON, &[]).await;
    for credential in [&key, &token] {
        let response = send(&keygate, &[("token", credential), ("charge", "true")]).await;
        assert!((1..=3600).contains(&header(&response, "retry-after").parse::<u32>().unwrap()), "{response:?}");
        let body = described(response).await;
        assert_eq!((&body["active"], &body["rate_limit_exceeded"]), (&json!(true), &json!(true)), "{credential}");
        assert_eq!((&body["rate_limit_remaining"], &body["sub"]), (&json!(0), &json!("tester")));
    }
    let (_, unlimited) = keygate.issue(json!({})).await;
    let body = introspect(&keygate, &[("token", &unlimited), ("charge", "true")]).await;
    assert_eq!((&body["active"], body.get("rate_limit_exceeded")), (&json!(true), None));
}

#[tokio::test]
async fn token_charges_the_limit_of_its_key() {
    let keygate = Keygate::serve_admin(&json!({}));
    let (_, key) = keygate.issue(limit(3)).await;
    let tokens = [derive(&keygate, &key, JWT, &[]).await, derive(&keygate, &key, MACAROON, &[]).await];
    for (credential, left) in [(&tokens[0], 2), (&tokens[1], 1), (&key, 0)] {
        let body = introspect(&keygate, &[("token", credential), ("charge", "true")]).await;
        assert_eq!(body["rate_limit_remaining"], left, "{body}");
    }
    let off = Keygate::serve_admin(&json!({"rate_limit": {"enabled": false}}));
    let (_, key) = off.issue(limit(1)).await;
    let response = send(&off, &[("token", &key), ("charge", "true")]).await;
    assert_eq!(
        (header(&response, "ratelimit"), header(&response, "ratelimit-policy")),
        ("", r#""default";q=1;w=3600"#)
    );
    assert!(described(response).await.get("rate_limit_exceeded").is_none());
}

#[tokio::test]
async fn address_rule_applies_to_client_ip_or_else_to_the_caller() {
    let keygate = Keygate::serve_admin(&json!({}));
    let rule = |range: &str| json!({"ip_restriction": {"allowed_cidrs": [range]}});
    let (_, remote) = keygate.issue(rule("10.0.0.0/8")).await;
    let (_, local) = keygate.issue(rule("127.0.0.0/8")).await;
    let bound = derive(&keygate, &local, JWT, &[]).await;
    for (token, client_ip, active) in [
        (&remote, "10.1.2.3", true),
        (&remote, "::ffff:10.1.2.3", true),
        (&remote, "192.0.2.1", false),
        (&remote, "", false),
        (&local, "", true),
        (&local, "10.1.2.3", false),
        (&bound, "", true),
        (&bound, "127.1.1.1", true),
        (&bound, "10.1.2.3", false),
    ] {
        let body = introspect(&keygate, &[("token", token), ("client_ip", client_ip)]).await;
        assert_eq!(body["active"], active, "{token} {client_ip}");
        if client_ip.is_empty() {
            let verified = keygate.post("apiKeys:verify", &json!({"credential": token})).await;
            let verified: Value = verified.json().await.unwrap();
            assert_eq!(verified["is_valid"], active, "{token}");
        }
    }
}

#[tokio::test]
async fn without_the_database_the_response_is_503_and_never_inactive() {
    let postgres = Postgres::start();
    let options = "acquire_timeout=3s&connect_timeout=3s&statement_timeout=3s";
    let url = postgres.url("postgres");
    let separator = if url.contains('?') { '&' } else { '?' };
    let keygate = Keygate::serve_admin(&json!({
        "db": {"dsn": format!("{url}{separator}{options}"), "auto_migrate": true},
        "cache": {"stale_limit": "1h"},
    }));
    let (_, cached) = keygate.issue(json!({})).await;
    let (_, uncached) = keygate.issue(json!({})).await;
    let (revoked_id, revoked) = keygate.issue(json!({})).await;
    assert_eq!(introspect_token(&keygate, &cached).await["active"], true);
    keygate.revoke(&revoked_id).await;
    assert_eq!(introspect_token(&keygate, &revoked).await, inactive());

    let stopped = postgres.stop();
    assert_eq!(introspect_token(&keygate, &cached).await["active"], true);
    assert_eq!(introspect_token(&keygate, "eyJa.b.c").await, inactive(), "a forged token needs no lookup");
    for token in [uncached.as_str(), "unknown"] {
        let response = send(&keygate, &[("token", token)]).await;
        assert_eq!(header(&response, "retry-after"), "1");
        let (status, code, _) = error(response).await;
        assert_eq!((status, code.as_str()), (503, "temporarily_unavailable"), "{token}");
    }
    let _postgres = stopped.start_again();
    wait_for(async || match send(&keygate, &[("token", &uncached)]).await.status().as_u16() {
        200 => Ok(()),
        status => Err(format!("{status}\n{}", keygate.log())),
    })
    .await;
    assert_eq!(introspect_token(&keygate, &uncached).await["active"], true);
}

#[tokio::test]
async fn authorization_is_ignored_and_no_secret_is_in_logs_errors_or_metrics() {
    let mut keygate = Keygate::serve_admin(&json!({"log": {"level": "debug"}}));
    let (_, key) = keygate.issue(limit(1)).await;
    let token = derive(&keygate, &key, JWT, &[]).await;
    keygate.import(json!({"raw_key": "sk_live_imported-secret"})).await;
    let secrets = [key.as_str(), &token, "sk_live_imported-secret", "sk_live_unknown-secret", "admin-secret"];
    let mut texts = Vec::new();
    for secret in &secrets[..4] {
        for authorization in ["Bearer admin-secret", "Basic OmFkbWluLXNlY3JldA==", "nonsense admin-secret", "Bearer"] {
            for body in [
                format!("token={secret}"),
                format!("token={secret}&charge=true"),
                format!("token={secret}&token={secret}"),
                format!("token=x&charge={secret}"),
                format!("{secret}={secret}&client_ip={secret}&token=x"),
            ] {
                let mut request = request(&keygate, body).build().unwrap();
                request.headers_mut().insert(AUTHORIZATION, authorization.parse().unwrap());
                let response = keygate.http.execute(request).await.unwrap();
                assert!(matches!(response.status().as_u16(), 200 | 400), "{response:?}");
                texts.push(format!("{:?}", response.headers()));
                texts.push(response.text().await.unwrap());
            }
        }
    }
    // The credential of `Authorization` is not introspected.
    let response = request(&keygate, "token=unknown".into()).bearer_auth(&key).send().await.unwrap();
    assert_eq!(described(response).await, inactive());
    let requests = r#"http_requests_total{code="200",endpoint="/keygate/v1/introspect",method="post"}"#;
    assert!(keygate.metric(requests).await.unwrap() >= 33.0);
    texts.push(keygate.http.get(format!("{}/metrics", keygate.metrics)).send().await.unwrap().text().await.unwrap());
    let log = keygate.whole_log();
    let is_logged = |line: &str| line.contains("HTTP request completed") && line.contains("/keygate/v1/introspect");
    assert!(log.lines().any(is_logged), "{log}");
    texts.extend(log.lines().map(str::to_owned));
    for text in &texts {
        for secret in secrets.into_iter().chain([HMAC_SECRET, "OmFkbWluLXNlY3JldA=="]) {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}
