use proptest::prelude::*;

use super::*;
use crate::key::encode_words;

fn fields(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for (name, value) in pairs {
        fields.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    fields
}

static REQUEST_ID: HeaderValue = HeaderValue::from_static("r-1%");

fn hop(identity: Option<Identity>, take_credential: bool) -> Hop<'static> {
    Hop {
        identity,
        take_credential,
        peer: Some(forwarded_for("::ffff:192.0.2.1".parse().unwrap())),
        proto: Some("http"),
        host: Some("api.example.com"),
        request_id: Some(&REQUEST_ID),
        upstream_host: HeaderValue::from_static("upstream:9000"),
    }
}

fn edited(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut fields = fields(pairs);
    edit_request(&mut fields, hop(None, true));
    fields
}

fn shown(fields: &HeaderMap) -> Vec<String> {
    let mut shown: Vec<_> = fields.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    shown.sort();
    shown
}

const OURS: [&str; 5] = [
    "host: upstream:9000",
    "x-forwarded-for: 192.0.2.1",
    "x-forwarded-host: api.example.com",
    "x-forwarded-proto: http",
    "x-request-id: r-1%",
];

#[test]
fn nothing_that_a_client_pretends_gets_through() {
    let pretended = edited(&[
        ("host", "other.example.com"),
        ("authorization", "Bearer k"),
        ("authorization", "Bearer k"),
        ("x-api-key", "k"),
        ("x_api_key", "k"),
        ("x-keygate-actor-id", "root"),
        ("x_keygate_actor_id", "root"),
        ("x-keygate.actor_id", "root"),
        ("x-keygate-", "root"),
        ("x-keygate-whatever", "root"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-forwarded-for", "10.0.0.2"),
        ("x_forwarded_host", "evil"),
        ("x-forwarded-prefix", "/admin"),
        ("forwarded", "for=10.0.0.1"),
        ("x-real-ip", "10.0.0.1"),
        ("x_real-ip", "10.0.0.1"),
        ("x-client-ip", "10.0.0.1"),
        ("true-client-ip", "10.0.0.1"),
        ("cf_connecting_ip", "10.0.0.1"),
        ("x-original-url", "/admin"),
        ("x_rewrite_url", "/admin"),
        ("x-http-method-override", "DELETE"),
        ("x-request-id", "theirs"),
        ("x_request_id", "theirs"),
    ]);
    assert_eq!(shown(&pretended), OURS);
}

#[test]
fn everything_else_gets_through() {
    let kept = edited(&[
        ("accept", "*/*"),
        ("cookie", "a=b"),
        ("cookie", "c=d"),
        ("x-keygat", "1"),
        ("x-keygates", "1"),
        ("x-forwarded", "1"),
        ("transfer-encoding", "chunked"),
    ]);
    let mut expected = OURS.to_vec();
    expected.extend(["accept: */*", "cookie: a=b", "cookie: c=d", "x-keygat: 1", "x-keygates: 1", "x-forwarded: 1"]);
    expected.push("transfer-encoding: chunked");
    expected.sort_unstable();
    assert_eq!(shown(&kept), expected);
}

#[test]
fn a_credential_that_is_not_ours_is_left_alone() {
    let mut fields = fields(&[("authorization", "Bearer k"), ("x-api-key", "k"), ("x-keygate-key-id", "x")]);
    edit_request(&mut fields, hop(None, false));
    assert_eq!(fields["authorization"], "Bearer k");
    assert_eq!(fields["x-api-key"], "k");
    assert!(!fields.contains_key("x-keygate-key-id"));
}

#[test]
fn what_is_not_wanted_is_not_added_but_taken_out_all_the_same() {
    let identity = Identity { key_id: None, actor_id: None, tenant_id: None, scopes: None, credential_type: None };
    let bare = Hop { peer: None, proto: None, host: None, request_id: None, ..hop(Some(identity), true) };
    let mut fields = fields(&[("x-keygate-key-id", "x"), ("x-forwarded-for", "x"), ("x-request-id", "x"), ("a", "b")]);
    edit_request(&mut fields, bare);
    assert_eq!(shown(&fields), ["a: b", "host: upstream:9000"]);
    let added = Added::new(&[AddedHeader::XKeygateKeyId, AddedHeader::XForwardedHost]);
    let seen = AddedHeader::ALL.map(|header| added.when(header, || ()).is_some());
    assert_eq!(seen, [true, false, false, false, false, false, false, false, true]);
}

#[test]
fn the_upstream_learns_who_asks() {
    let identity = Identity {
        key_id: Some(owned("key-1".into())),
        actor_id: Some(owned(encode_text("Ana\r\nX-Evil: 1").into_owned())),
        tenant_id: Some(owned("tenant-1".into())),
        scopes: Some(ready(&encode_words(["read:orders", "a b", "é"]).into())),
        credential_type: Some(HeaderValue::from_static("api_key")),
    };
    let mut fields = fields(&[("x-keygate-actor-id", "root"), ("connection", "x-keygate-key-id, x-forwarded-for")]);
    edit_request(&mut fields, hop(Some(identity), true));
    let mut expected = OURS.to_vec();
    expected.extend([
        "x-keygate-actor-id: Ana%0D%0AX-Evil: 1",
        "x-keygate-credential-type: api_key",
        "x-keygate-key-id: key-1",
        "x-keygate-scopes: read:orders a%20b %C3%A9",
        "x-keygate-tenant-id: tenant-1",
    ]);
    expected.sort_unstable();
    assert_eq!(shown(&fields), expected);
}

#[test]
fn fields_for_one_connection_go_no_further() {
    let fields = edited(&[
        ("connection", "keep-alive, X-Private"),
        ("connection", "Host,, Content-Length , x other"),
        ("x-private", "1"),
        ("content-length", "3"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("proxy-authenticate", "Basic"),
        ("proxy-authorization", "Basic x"),
        ("te", "trailers"),
        ("trailer", "x-sum"),
        ("upgrade", "websocket"),
    ]);
    let mut expected = OURS.to_vec();
    expected.push("content-length: 3");
    expected.sort_unstable();
    assert_eq!(shown(&fields), expected);
}

#[test]
fn an_upgrade_goes_through() {
    let fields = edited(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]);
    assert_eq!(fields["connection"], "upgrade");
    assert_eq!(fields["upgrade"], "websocket");
}

#[test]
fn an_upgrade_to_a_protocol_of_requests_does_not() {
    for protocol in ["h2c", "H2C", "websocket, h2c", "HTTP/2.0", "TLS/1.2"] {
        let fields = edited(&[
            ("connection", "Upgrade, HTTP2-Settings"),
            ("upgrade", protocol),
            ("http2-settings", "AAMAAABkAARAAAAAAAIAAAAA"),
        ]);
        assert_eq!(shown(&fields), OURS, "{protocol}");
    }
    let mut unreadable = fields(&[("connection", "upgrade")]);
    HeaderMap::insert(&mut unreadable, UPGRADE, HeaderValue::from_bytes(b"h2c\xff").unwrap());
    edit_request(&mut unreadable, hop(None, true));
    assert_eq!(shown(&unreadable), OURS);
}

#[test]
fn an_answer_keeps_what_the_client_needs() {
    let answer = [
        ("connection", "close, X-Private, Upgrade"),
        ("x-private", "1"),
        ("keep-alive", "timeout=5"),
        ("upgrade", "websocket"),
        ("content-length", "3"),
        ("x-keygate-key-id", "upstream's own"),
        ("x-request-id", "theirs"),
    ];
    let id = HeaderValue::from_static("r-1");
    let kept = ["content-length: 3", "x-keygate-key-id: upstream's own", "x-request-id: r-1"];
    let mut plain = fields(&answer);
    edit_response(&mut plain, StatusCode::OK, &id);
    assert_eq!(shown(&plain), kept);
    for status in [StatusCode::SWITCHING_PROTOCOLS, StatusCode::UPGRADE_REQUIRED] {
        let mut upgraded = fields(&answer);
        edit_response(&mut upgraded, status, &id);
        let mut expected = kept.to_vec();
        expected.extend(["connection: upgrade", "upgrade: websocket"]);
        expected.sort_unstable();
        assert_eq!(shown(&upgraded), expected);
    }
}

#[test]
fn the_host_that_was_asked_for_is_passed_on_however_it_was_said() {
    for (field, asked, forwarded) in [
        (Some("api.example.com"), "api.example.com", "api.example.com"),
        (Some("other.example.com"), "api.example.com", "api.example.com"),
        (None, "api.example.com", "api.example.com"),
        (Some("a\tb"), "a\tb", "a%09b"),
        (Some("a%b"), "a%b", "a%b"),
    ] {
        let mut fields = HeaderMap::new();
        field.map(|host| fields.insert(HOST, HeaderValue::from_static(host)));
        edit_request(&mut fields, Hop { host: Some(asked), ..hop(None, true) });
        assert_eq!(fields["x-forwarded-host"], forwarded, "{field:?}");
        assert_eq!(fields["host"], "upstream:9000");
    }
}

/// Every name that is in a list, and near misses.
fn name_near_the_lists() -> impl Strategy<Value = String> {
    let all = [&PRETENCES[..], &CREDENTIALS, &HOP_BY_HOP, &PRETENCE_PREFIXES, &["upgrade", "accept", "host"]].concat();
    let fold = |(name, dash, rest): (&str, &str, String)| name.replace('-', dash) + &rest;
    (proptest::sample::select(all), "[-_.~!]", "[a-z_-]{0,2}")
        .prop_map(move |(name, dash, rest)| fold((name, &dash, rest)))
}

proptest! {
    #[test]
    fn the_glance_at_a_name_misses_none_that_is_in_a_list(name in prop_oneof![name_near_the_lists(), "[a-z_.~-]{1,40}"]) {
        let listed = is_pretence(&name) || is_credential(&name) || HOP_BY_HOP.contains(&&*name) || name == "upgrade";
        prop_assert!(!listed || is_suspect(&name), "{}", name);
    }

    #[test]
    fn no_field_of_a_client_passes_for_ours(name in "x[-_.!~]keygate[-_.!~][a-z_-]{0,8}|X[-_]Forwarded[-_][a-z]{1,5}") {
        let mut fields = HeaderMap::new();
        fields.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_static("theirs"));
        edit_request(&mut fields, hop(None, true));
        prop_assert!(!fields.values().any(|value| value == "theirs"));
    }
}
