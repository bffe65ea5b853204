use proptest::prelude::*;

use super::names::*;
use super::*;
use crate::config::CredentialLocation;
use crate::key::encode_words;
use crate::wire::fields::FieldList;

fn fields(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for (name, value) in pairs {
        fields.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    fields
}

static REQUEST_ID: HeaderValue = HeaderValue::from_static("r-1%");

static STANDARD: std::sync::LazyLock<Arc<CredentialLocations>> =
    std::sync::LazyLock::new(|| Arc::new(CredentialLocations::new(&CredentialLocation::standard())));

fn context(identity: Option<IdentityHeaders>, strip_credential: bool) -> ForwardContext<'static> {
    ForwardContext {
        identity,
        credentials: strip_credential.then(|| &*STANDARD),
        forwarded_for: Some(forwarded_for("::ffff:192.0.2.1".parse().unwrap())),
        proto: Some("http"),
        host: Some("api.example.com"),
        request_id: Some(&REQUEST_ID),
        certificate: CertificateHeaders::default(),
        upstream_host: HeaderValue::from_static("upstream:9000"),
        allow_underscores: false,
    }
}

fn edited(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut fields = fields(pairs);
    edit(&mut fields, context(None, true));
    fields
}

fn edit(fields: &mut HeaderMap, context: ForwardContext<'_>) {
    edit_request(fields, context).apply(fields);
}

fn shown(fields: &HeaderMap) -> Vec<String> {
    let mut shown: Vec<_> =
        fields.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap().trim())).collect();
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
fn fields_of_other_locations_are_stripped_in_every_spelling() {
    let locations = [CredentialLocation::header("apikey"), CredentialLocation::scheme("X-My-Auth", "Token")];
    let locations = Arc::new(CredentialLocations::new(&locations));
    for name in ["apikey", "x-my-auth", "authorization", "x-api-key"] {
        let mut received = fields(&[("accept", "a"), ("apikeys", "k"), ("x-my-authx", "k")]);
        received.append(name, HeaderValue::from_static("k"));
        let mut edits = edit_identity(None, Some(&locations));
        edits.apply(&mut received);
        assert_eq!(shown(&received), ["accept: a", "apikeys: k", "x-my-authx: k"], "{name}");
    }
    let edits = edit_identity(None, Some(&locations));
    for name in ["X_My_Auth", "X-My.Auth", "APIKEY"] {
        assert!(edits.removes(name), "{name}");
    }
    let edits = edit_identity(None, None);
    assert!(!edits.removes("apikey") && !edits.removes("authorization"));
}

proptest! {
    /// Stripping a map directly and by edits are the same.
    #[test]
    fn identity_is_stripped_from_a_map_as_by_edits(
        names in prop::collection::vec("(x[-_.]keygate[-_.][a-z]{0,3}|authorization|x[-_.]api[-_.]key|apikeys?|x-my[-_]auth|cookie|[a-z-]{1,14})", 0..12),
        locations in prop::option::of(prop::sample::select(vec!["apikey", "x-my-auth", "authorization"])),
    ) {
        let locations = locations.map(|name| Arc::new(CredentialLocations::new(&[CredentialLocation::header(name)])));
        let mut received = HeaderMap::new();
        for name in &names {
            received.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_static("k"));
        }
        let mut edited = received.clone();
        edit_identity(None, locations.as_ref()).apply(&mut edited);
        strip_identity(&mut received, locations.as_deref());
        prop_assert_eq!(shown(&received), shown(&edited));
    }
}

#[test]
fn spoofable_headers_are_stripped() {
    let stripped = edited(&[
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
        ("client-ip", "10.0.0.1"),
        ("forwarded-for", "10.0.0.1"),
        ("x-original-forwarded-for", "10.0.0.1"),
        ("x-remote-user", "root"),
        ("x-remote-addr", "10.0.0.1"),
        ("remote-user", "root"),
        ("remote_user", "root"),
        ("x-ssl-client-verify", "SUCCESS"),
        ("x-ssl-client-s-dn", "CN=root"),
        ("x-client-cert", "root"),
        ("proxy", "http://evil"),
        ("proxy-user", "root"),
        ("x_user", "root"),
        ("x.user", "root"),
    ]);
    assert_eq!(shown(&stripped), OURS);
}

#[test]
fn other_headers_pass() {
    let kept = edited(&[
        ("accept", "*/*"),
        ("cookie", "a=b"),
        ("cookie", "c=d"),
        ("x-keygat", "1"),
        ("x-keygates", "1"),
        ("x-forwarded", "1"),
        ("x-remote", "1"),
        ("remote-users", "1"),
        ("proxies", "1"),
        ("x-ssl-client", "1"),
        ("transfer-encoding", "chunked"),
    ]);
    let mut expected = OURS.to_vec();
    expected.extend(["accept: */*", "cookie: a=b", "cookie: c=d", "x-keygat: 1", "x-keygates: 1", "x-forwarded: 1"]);
    expected.extend(["x-remote: 1", "remote-users: 1", "proxies: 1", "x-ssl-client: 1"]);
    expected.push("transfer-encoding: chunked");
    expected.sort_unstable();
    assert_eq!(shown(&kept), expected);
}

#[test]
fn names_with_underscores_and_dots_are_kept_if_they_are_allowed() {
    let mut fields = fields(&[("x_user", "1"), ("x.user", "1"), ("x_keygate_key_id", "x"), ("x_api_key", "x")]);
    edit(&mut fields, ForwardContext { allow_underscores: true, ..context(None, true) });
    let mut expected = OURS.to_vec();
    expected.extend(["x.user: 1", "x_user: 1"]);
    expected.sort_unstable();
    assert_eq!(shown(&fields), expected);
}

#[test]
fn credential_passes_on_routes_without_authentication() {
    let mut fields = fields(&[("authorization", "Bearer k"), ("x-api-key", "k"), ("x-keygate-key-id", "x")]);
    edit(&mut fields, context(None, false));
    assert_eq!(fields["authorization"], "Bearer k");
    assert_eq!(fields["x-api-key"], "k");
    assert!(!fields.contains_key("x-keygate-key-id"));
}

#[test]
fn unselected_headers_are_stripped_but_not_set() {
    let identity = IdentityHeaders::default();
    let bare = ForwardContext {
        forwarded_for: None,
        proto: None,
        host: None,
        request_id: None,
        ..context(Some(identity), true)
    };
    let mut fields = fields(&[("x-keygate-key-id", "x"), ("x-forwarded-for", "x"), ("x-request-id", "x"), ("a", "b")]);
    edit(&mut fields, bare);
    assert_eq!(shown(&fields), ["a: b", "host: upstream:9000"]);
    let selection = HeaderSelection::new(&[AddedHeader::XKeygateKeyId, AddedHeader::XForwardedHost]);
    let selected = AddedHeader::DEFAULT.map(|header| selection.when(header, || ()).is_some());
    assert_eq!(selected, [true, false, false, false, false, false, false, false, true]);
}

#[test]
fn identity_headers_are_set() {
    let identity = IdentityHeaders {
        key_id: Some(value_of("key-1".into())),
        actor_id: Some(value_of(encode_text("Ana\r\nX-Evil: 1").into_owned())),
        tenant_id: Some(value_of("tenant-1".into())),
        scopes: Some(shared_value(&encode_words(["read:orders", "a b", "é"]).into())),
        credential_type: Some(HeaderValue::from_static("api_key")),
    };
    let mut fields = fields(&[("x-keygate-actor-id", "root"), ("connection", "x-keygate-key-id, x-forwarded-for")]);
    edit(&mut fields, context(Some(identity), true));
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
fn hop_by_hop_headers_are_removed() {
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
fn websocket_upgrade_passes() {
    let fields = edited(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]);
    assert_eq!(fields["connection"], "upgrade");
    assert_eq!(fields["upgrade"], "websocket");
}

#[test]
fn upgrade_to_another_protocol_is_stripped() {
    for protocol in ["h2c", "H2C", "websocket, h2c", "HTTP/2.0", "TLS/1.2", "foo", "websocket/13", ""] {
        let fields = edited(&[
            ("connection", "Upgrade, HTTP2-Settings"),
            ("upgrade", protocol),
            ("http2-settings", "AAMAAABkAARAAAAAAAIAAAAA"),
        ]);
        assert_eq!(shown(&fields), OURS, "{protocol}");
    }
    let mut unreadable = fields(&[("connection", "upgrade")]);
    HeaderMap::insert(&mut unreadable, UPGRADE, HeaderValue::from_bytes(b"h2c\xff").unwrap());
    edit(&mut unreadable, context(None, true));
    assert_eq!(shown(&unreadable), OURS);
}

#[test]
fn response_keeps_end_to_end_headers() {
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
    edit_response(&plain, StatusCode::OK, &id).apply(&mut plain);
    assert_eq!(shown(&plain), kept);
    for status in [StatusCode::SWITCHING_PROTOCOLS, StatusCode::UPGRADE_REQUIRED] {
        let mut upgraded = fields(&answer);
        edit_response(&upgraded, status, &id).apply(&mut upgraded);
        let mut expected = kept.to_vec();
        expected.extend(["connection: upgrade", "upgrade: websocket"]);
        expected.sort_unstable();
        assert_eq!(shown(&upgraded), expected);
    }
}

#[test]
fn requested_host_is_forwarded() {
    for (field, requested, forwarded) in [
        (Some("api.example.com"), "api.example.com", "api.example.com"),
        (Some("other.example.com"), "api.example.com", "api.example.com"),
        (None, "api.example.com", "api.example.com"),
        (Some("a\tb"), "a\tb", "a%09b"),
        (Some("a%b"), "a%b", "a%b"),
    ] {
        let mut fields = HeaderMap::new();
        field.map(|host| fields.insert(HOST, HeaderValue::from_static(host)));
        edit(&mut fields, ForwardContext { host: Some(requested), ..context(None, true) });
        assert_eq!(fields["x-forwarded-host"], forwarded, "{field:?}");
        assert_eq!(fields["host"], "upstream:9000");
    }
}

#[test]
fn custom_edits_replace_received_fields_and_those_of_earlier_edits() {
    let name = HeaderName::from_static;
    let value = |text| Some(HeaderValue::from_static(text));
    let mut fields = fields(&[
        ("x-team", "theirs"),
        ("x_team", "theirs"),
        ("cookie", "a=b"),
        ("via", "1.1 a"),
        ("x-empty", "theirs"),
        ("authorization", "Bearer theirs"),
    ]);
    let mut edits = edit_request(&fields, ForwardContext { allow_underscores: true, ..context(None, true) });
    edits.replace(&name("x-team"), value("ours"));
    edits.replace(&name("x-team"), value("ours in the end"));
    edits.replace(&name("cookie"), None);
    edits.replace(&name("x-empty"), None);
    edits.replace(&name("authorization"), value("Basic ours"));
    edits.replace(&name("x-forwarded-for"), None);
    edits.replace(&name("x-request-id"), value("fixed"));
    edits.add(&name("via"), value("1.1 keygate"));
    edits.add(&name("x-forwarded-host"), value("second"));
    edits.add(&name("x-none"), None);
    assert!(["X_Team", "cookie", "x-empty", "x-request-id"].iter().all(|name| edits.removes(name)));
    assert!(!edits.removes("via"));
    edits.apply(&mut fields);
    let expected = [
        "authorization: Basic ours",
        "host: upstream:9000",
        "via: 1.1 a",
        "via: 1.1 keygate",
        "x-forwarded-host: api.example.com",
        "x-forwarded-host: second",
        "x-forwarded-proto: http",
        "x-request-id: fixed",
        "x-team: ours in the end",
    ];
    assert_eq!(shown(&fields), expected);
}

/// Listed names and near misses.
fn name_near_the_lists() -> impl Strategy<Value = String> {
    let all =
        [&SPOOFABLE_HEADERS[..], &CREDENTIAL_HEADERS, &HOP_BY_HOP, &SPOOFABLE_PREFIXES, &["upgrade", "accept", "host"]]
            .concat();
    let fold = |(name, dash, rest): (&str, &str, String)| name.replace('-', dash) + &rest;
    (proptest::sample::select(all), "[-_.~!]", "[a-z_-]{0,2}")
        .prop_map(move |(name, dash, rest)| fold((name, &dash, rest)))
}

#[test]
fn names_of_set_fields_are_the_same_as_text() {
    use SetName as Name;
    let proxied = [Name::ForwardedFor, Name::ForwardedProto, Name::ForwardedHost, Name::TraceParent, Name::TraceState];
    let identity = [Name::KeyId, Name::ActorId, Name::TenantId, Name::Scopes, Name::CredentialType];
    let limits = [Name::RateLimitPolicy, Name::RateLimit, Name::LegacyLimit, Name::LegacyRemaining, Name::LegacyReset];
    let others = [Name::Connection, Name::Host, Name::RequestId, Name::ClientSubject, Name::ClientSan];
    for name in [proxied, identity, limits, others].concat() {
        assert_eq!(name.header(), name.as_str());
    }
}

proptest! {
    #[test]
    fn prefilter_never_misses_a_listed_name(name in prop_oneof![name_near_the_lists(), "[a-z_.~-]{1,40}"]) {
        let listed = is_spoofable(&name) || is_credential(&name) || HOP_BY_HOP.contains(&&*name) || name == "upgrade";
        prop_assert!(!listed || is_possibly_listed(&name), "{}", name);
    }

    #[test]
    fn ambiguous_names_are_those_with_an_underscore_or_a_dot(name in "[-_./^`a-zA-Z0-9]{0,30}") {
        prop_assert_eq!(is_ambiguous(&name), name.contains(['_', '.']), "{}", name);
    }

    #[test]
    fn client_headers_never_replace_identity_headers(name in "x[-_.!~]keygate[-_.!~][a-z_-]{0,8}|X[-_]Forwarded[-_][a-z]{1,5}") {
        let mut fields = HeaderMap::new();
        fields.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_static("theirs"));
        edit(&mut fields, context(None, true));
        prop_assert!(!fields.values().any(|value| value == "theirs"));
    }

    /// A front that keeps heads as bytes makes the same message of the same edits.
    #[test]
    fn edits_agree_for_maps_and_for_lists(
        received in proptest::collection::vec((name_near_the_lists(), "[ -~]{0,12}"), 0..8),
        connection in "(close|keep-alive|upgrade|x-keygate-a|accept|host|,| ){0,4}",
        upgrade in proptest::option::of("(websocket|h2c|http/2)"),
        is_upper in any::<bool>(),
        rules in proptest::collection::vec((name_near_the_lists(), proptest::option::of("[!-~]{1,8}"), any::<bool>()), 0..4),
    ) {
        let mut received = received;
        received.push(("connection".into(), connection));
        received.extend(upgrade.map(|protocol| ("upgrade".into(), protocol)));
        let mut map = HeaderMap::new();
        for (name, value) in &received {
            map.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
        }
        let spelled: Vec<_> = received
            .iter()
            .map(|(name, value)| (if is_upper { name.to_ascii_uppercase() } else { name.clone() }, value))
            .collect();
        let list: Vec<_> = spelled.iter().map(|(name, value)| (&**name, value.as_bytes())).collect();
        let list = FieldList(&list);
        let rule = |edits: &mut FieldEdits| {
            for (name, value, is_added) in &rules {
                let (name, value) = (name.parse().unwrap(), value.as_ref().map(|value| HeaderValue::from_str(value).unwrap()));
                if *is_added { edits.add(&name, value) } else { edits.replace(&name, value) }
            }
        };
        for (mut map_edits, mut list_edits) in [
            (edit_request(&map, context(None, true)), edit_request(&list, context(None, true))),
            (
                edit_response(&map, StatusCode::SWITCHING_PROTOCOLS, &REQUEST_ID),
                edit_response(&list, StatusCode::SWITCHING_PROTOCOLS, &REQUEST_ID),
            ),
        ] {
            rule(&mut map_edits);
            rule(&mut list_edits);
            let mut edited = map.clone();
            map_edits.apply(&mut edited);
            prop_assert_eq!(shown(&edited), written(&list, &list_edits));
        }
    }
}

/// The fields that a front writes which keeps heads as bytes.
fn written(fields: &FieldList<'_>, edits: &FieldEdits) -> Vec<String> {
    let kept = fields.0.iter().filter(|(name, _)| !edits.removes(name));
    let kept = kept.map(|(name, value)| (name.to_ascii_lowercase(), value.to_vec()));
    let set = edits.set().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()));
    let mut written: Vec<_> =
        kept.chain(set).map(|(name, value)| format!("{name}: {}", String::from_utf8(value).unwrap().trim())).collect();
    written.sort();
    written
}
