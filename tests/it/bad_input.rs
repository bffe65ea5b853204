//! Bad input to every admin operation is rejected with the documented 4xx within a bounded time, and nothing is stored.

use std::time::{Duration, Instant};

use keygate::clock::{Clock, SystemClock};
use keygate::credential::Keyring;
use keygate::id::{KeyId, TenantId};
use keygate::key::seal_page_token;
use rand::SeedableRng;
use serde_json::{Value, json};

use crate::support::admin::AdminResponse;
use crate::support::keygate::{HMAC_SECRET, Keygate};

/// How long all calls of one operation may take together on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);
/// The longest error body, in bytes.
const ERROR_MAX: usize = 1024;
const BODY_MAX: usize = 4 << 20;
/// A nesting depth beyond every limit.
const DEPTH: usize = 100_000;
/// A number of items beyond every limit.
const MANY: usize = 10_000;

/// The type of a request field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    Text,
    Texts,
    Object,
    Enum,
    Policy,
    Restriction,
    Requests,
}

/// An operation and a valid call of it.
struct Operation {
    /// Method and path; `{id}` is replaced by a key id.
    line: &'static str,
    /// A valid body; empty if none is read. `{secret}` is replaced by an issued key.
    valid: &'static str,
    /// The fields of the body, or of the items of `requests`.
    members: &'static [(&'static str, Type)],
    /// Status and reason of a call without a body; the key does not exist if the path has one.
    without_body: (u16, &'static str),
}

const BAD_REQUEST: (u16, &str) = (400, "BAD_REQUEST");
const NOT_FOUND: (u16, &str) = (404, "API_KEY_NOT_FOUND");
const OK: (u16, &str) = (200, "");

const ISSUE: [(&str, Type); 9] = [
    ("name", Type::Text),
    ("actor_id", Type::Text),
    ("scopes", Type::Texts),
    ("ttl", Type::Text),
    ("metadata", Type::Object),
    ("rate_limit_policy", Type::Policy),
    ("ip_restriction", Type::Restriction),
    ("request_id", Type::Text),
    ("visibility", Type::Enum),
];
const IMPORT: [(&str, Type); 10] = [
    ("raw_key", Type::Text),
    ("name", Type::Text),
    ("actor_id", Type::Text),
    ("scopes", Type::Texts),
    ("ttl", Type::Text),
    ("metadata", Type::Object),
    ("rate_limit_policy", Type::Policy),
    ("ip_restriction", Type::Restriction),
    ("request_id", Type::Text),
    ("visibility", Type::Enum),
];
const UPDATE: [(&str, Type); 5] = [
    ("name", Type::Text),
    ("scopes", Type::Texts),
    ("metadata", Type::Object),
    ("rate_limit_policy", Type::Policy),
    ("ip_restriction", Type::Restriction),
];
const ROTATE: [(&str, Type); 6] = [
    ("name", Type::Text),
    ("scopes", Type::Texts),
    ("metadata", Type::Object),
    ("rate_limit_policy", Type::Policy),
    ("ip_restriction", Type::Restriction),
    ("visibility", Type::Enum),
];
const REVOKE: [(&str, Type); 2] = [("reason", Type::Enum), ("description", Type::Text)];
const BATCH: [(&str, Type); 1] = [("requests", Type::Requests)];
const VERIFY: [(&str, Type); 2] = [("credential", Type::Text), ("expected_audiences", Type::Texts)];
const DERIVE: [(&str, Type); 6] = [
    ("credential", Type::Text),
    ("algorithm", Type::Enum),
    ("ttl", Type::Text),
    ("scopes", Type::Texts),
    ("custom_claims", Type::Object),
    ("audiences", Type::Texts),
];
const SELF_REVOKE: [(&str, Type); 2] = [("credential", Type::Text), ("reason", Type::Enum)];

const ISSUE_BODY: &str = r#"{"name":"n","actor_id":"a"}"#;
const IMPORT_BODY: &str = r#"{"name":"n","actor_id":"a","raw_key":"another raw key"}"#;
const BATCH_BODY: &str = r#"{"requests":[{"name":"n","actor_id":"a","raw_key":"another raw key"}]}"#;
const UPDATE_BODY: &str = r#"{"name":"m"}"#;
const REVOKE_BODY: &str = r#"{"reason":"REVOCATION_REASON_PRIVILEGE_WITHDRAWN","description":"d"}"#;
const CREDENTIAL_BODY: &str = r#"{"credential":"{secret}"}"#;

#[rustfmt::skip]
const OPERATIONS: [Operation; 21] = [
    Operation { line: "POST /v2alpha1/admin/issuedApiKeys", valid: ISSUE_BODY, members: &ISSUE, without_body: BAD_REQUEST },
    Operation { line: "GET /v2alpha1/admin/issuedApiKeys", valid: "", members: &[], without_body: OK },
    Operation { line: "GET /v2alpha1/admin/issuedApiKeys/{id}", valid: "", members: &[], without_body: NOT_FOUND },
    Operation { line: "PATCH /v2alpha1/admin/issuedApiKeys/{id}", valid: UPDATE_BODY, members: &UPDATE, without_body: NOT_FOUND },
    Operation { line: "POST /v2alpha1/admin/issuedApiKeys/{id}:rotate", valid: UPDATE_BODY, members: &ROTATE, without_body: NOT_FOUND },
    Operation { line: "POST /v2alpha1/admin/issuedApiKeys/{id}:revoke", valid: REVOKE_BODY, members: &REVOKE, without_body: NOT_FOUND },
    Operation { line: "POST /v2alpha1/admin/importedApiKeys", valid: IMPORT_BODY, members: &IMPORT, without_body: BAD_REQUEST },
    Operation { line: "GET /v2alpha1/admin/importedApiKeys", valid: "", members: &[], without_body: OK },
    Operation { line: "GET /v2alpha1/admin/importedApiKeys/{id}", valid: "", members: &[], without_body: NOT_FOUND },
    Operation { line: "PATCH /v2alpha1/admin/importedApiKeys/{id}", valid: UPDATE_BODY, members: &UPDATE, without_body: NOT_FOUND },
    Operation { line: "DELETE /v2alpha1/admin/importedApiKeys/{id}", valid: "", members: &[], without_body: NOT_FOUND },
    Operation { line: "POST /v2alpha1/admin/importedApiKeys/{id}:revoke", valid: REVOKE_BODY, members: &REVOKE, without_body: NOT_FOUND },
    Operation { line: "POST /v2alpha1/admin/importedApiKeys:batchCreate", valid: BATCH_BODY, members: &BATCH, without_body: BAD_REQUEST },
    Operation { line: "POST /v2alpha1/admin/apiKeys:verify", valid: CREDENTIAL_BODY, members: &VERIFY, without_body: BAD_REQUEST },
    Operation { line: "POST /v2alpha1/admin/apiKeys:batchVerify", valid: r#"{"requests":[{"credential":"{secret}"}]}"#, members: &BATCH, without_body: BAD_REQUEST },
    Operation { line: "POST /v2alpha1/admin/apiKeys:derive", valid: CREDENTIAL_BODY, members: &DERIVE, without_body: BAD_REQUEST },
    Operation { line: "GET /v2alpha1/derivedKeys/jwks.json", valid: "", members: &[], without_body: OK },
    Operation { line: "POST /v2alpha1/apiKeys:selfRevoke", valid: CREDENTIAL_BODY, members: &SELF_REVOKE, without_body: BAD_REQUEST },
    Operation { line: "POST /v2alpha1/admin/importedApiKeys:batchImport", valid: BATCH_BODY, members: &BATCH, without_body: BAD_REQUEST },
    Operation { line: "POST /v2alpha1/admin/apiKeys/{id}:revoke", valid: REVOKE_BODY, members: &REVOKE, without_body: NOT_FOUND },
    Operation { line: "GET /v2alpha1/admin/derivedKeys/jwks.json", valid: "", members: &[], without_body: OK },
];

/// A server with a key of each type.
struct Server {
    keygate: Keygate,
    issued: String,
    imported: String,
    secret: String,
}

/// An invalid call and its expected response.
struct Call {
    what: String,
    line: String,
    body: Vec<u8>,
    expected: (u16, &'static str),
}

impl Server {
    async fn start() -> Self {
        let keygate = Keygate::serve_admin(&json!({}));
        let (issued, secret) = keygate.issue(json!({"scopes": ["read"]})).await;
        let imported = keygate.import(json!({"raw_key": "raw key"})).await;
        Self { keygate, issued, imported, secret }
    }

    /// The operation with the id of a key of its own type, or of the other one.
    fn known(&self, line: &str, own_kind: bool) -> String {
        let imported = line.contains("importedApiKeys");
        line.replace("{id}", if imported == own_kind { &self.imported } else { &self.issued })
    }

    async fn stored(&self) -> [Vec<Value>; 2] {
        [self.keygate.list("issued", "").await, self.keygate.list("imported", "").await]
    }

    /// Makes the calls; returns the unexpected responses.
    async fn make(&self, calls: Vec<Call>) -> Vec<String> {
        let mut mismatches = Vec::new();
        for call in calls {
            let response = self.keygate.send(&call.line, call.body).await;
            if let Some(mismatch) = mismatch(&response, call.expected) {
                mismatches.push(format!("{}, {}: {mismatch}", call.line, call.what));
            }
        }
        mismatches
    }
}

fn mismatch(response: &AdminResponse, (status, reason): (u16, &str)) -> Option<String> {
    let actual = (response.status, response.reason());
    let short = status < 400 || response.body.to_string().len() <= ERROR_MAX;
    let is_expected = actual == (status, reason) && short && (status < 400 || response.body["error"]["code"] == status);
    (!is_expected).then(|| format!("{actual:?} instead of {:?}: {:.300}", (status, reason), response.body.to_string()))
}

/// The operation with a well-formed id that no key has.
fn unknown(line: &str) -> String {
    let imported = "0".repeat(64);
    let id = if line.contains("importedApiKeys") { &imported } else { "11111111-2222-4333-8444-555555555555" };
    line.replace("{id}", id)
}

/// JSON values of a wrong type.
fn wrong_type_values(kind: Type) -> &'static [&'static str] {
    match kind {
        Type::Text => &["1", "true", "{}", "[]", r#"["x"]"#, "99999999999999999999999999"],
        Type::Texts => &[r#""x""#, "1", "{}", "[1]", "[[]]", "[null]", r#"[{"a":"b"}]"#],
        Type::Object => &[r#""x""#, "1", "[]", "false"],
        Type::Enum => &["{}", "[]", "true", r#"["KEY_VISIBILITY_SECRET"]"#],
        Type::Policy => &[
            r#""x""#,
            "1",
            "[1]",
            r#"{"quota":true,"window":"1s"}"#,
            r#"{"quota":1.5,"window":"1s"}"#,
            r#"{"quota":99999999999999999999999999,"window":"1s"}"#,
            r#"{"quota":"99999999999999999999999999","window":"1s"}"#,
            r#"{"quota":-1,"window":"1s"}"#,
            r#"{"quota":1,"window":1}"#,
            r#"{"quota":1,"window":"99999999999999999999999999s"}"#,
            r#"{"quota":1,"window":"-1s"}"#,
            r#"{"quota":1,"window":"1s","unit":1}"#,
        ],
        Type::Restriction => &[
            r#""x""#,
            "1",
            r#"{"allowed_cidrs":"10.0.0.0/8"}"#,
            r#"{"allowed_cidrs":[1]}"#,
            r#"{"allowed_cidrs":["10.0.0.0/33"]}"#,
            r#"{"allowed_cidrs":["10.0.0.0"]}"#,
            r#"{"allowed_cidrs":["10.0.0.0/8\u0000"]}"#,
            r#"{"allowed_cidrs":[""]}"#,
        ],
        Type::Requests => &[r#""x""#, "1", "{}", "[]", "[1]", r#"["x"]"#, "[[]]", r#"[{"credential":1,"name":1}]"#],
    }
}

/// Values of the right type beyond a limit.
fn beyond(member: &str, kind: Type) -> Vec<String> {
    let long = |length: usize| json!("x".repeat(length)).to_string();
    let many = |count: usize| json!(vec!["x"; count]).to_string();
    let nul = json!("a\0b").to_string();
    match (member, kind) {
        ("name", _) => vec![nul, long(256)],
        ("actor_id", _) => vec![nul, long(256), long(0)],
        ("request_id", _) => vec![nul, long(37)],
        ("description", _) => vec![nul, long(501)],
        ("credential" | "raw_key", _) => vec![long(0), long(8193), long(1 << 20)],
        ("ttl", _) => ["", "0", "-1s", "1", "1.5d", "1s1", "500ms", "9999y"]
            .into_iter()
            .map(|ttl| json!(ttl).to_string())
            .chain([format!("\"{}h\"", "9".repeat(1000)), nul])
            .collect(),
        ("scopes", _) => vec![many(MANY), many(101), json!(["\0"]).to_string(), json!([""]).to_string()],
        (_, Type::Texts) => vec![many(MANY), many(101), json!([""]).to_string(), json!(["x".repeat(256)]).to_string()],
        (_, Type::Requests) => {
            vec![format!("[{}]", vec!["{}"; MANY].join(",")), format!("[{}]", vec!["null"; 1001].join(","))]
        }
        ("metadata", _) => vec![format!("{{\"a\":{}}}", long(65_536)), deep(1000)],
        (_, Type::Object) => vec![deep(1000)],
        (_, Type::Restriction) => vec![
            json!({"allowed_cidrs": vec!["10.0.0.0/8"; 51]}).to_string(),
            json!({"allowed_cidrs": vec!["10.0.0.0/8"; MANY]}).to_string(),
            json!({"allowed_cidrs": ["1".repeat(1 << 20)]}).to_string(),
        ],
        _ => Vec::new(),
    }
}

fn deep(depth: usize) -> String {
    format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth))
}

/// The valid body with one field added or replaced; in the first item, if it has items.
fn with(valid: &str, member: &str, value: &str) -> String {
    let mut body: Value = serde_json::from_str(valid).unwrap();
    let at = if member != "requests" && body.get("requests").is_some() { "/requests/0" } else { "" };
    body.pointer_mut(at).unwrap()[member] = json!("{value}");
    // `Value` cannot hold some of the values.
    body.to_string().replace("\"{value}\"", value)
}

/// The fields of the body and of its items.
fn members(operation: &Operation) -> Vec<(&'static str, Type)> {
    let items: &[(&str, Type)] = match operation.line {
        line if line.contains("importedApiKeys:batch") => &IMPORT,
        line if line.contains(":batchVerify") => &VERIFY,
        _ => &[],
    };
    operation.members.iter().chain(items).copied().collect()
}

/// Calls with bodies that are no valid JSON object. Operations without a body ignore them.
fn bad_bodies(operation: &Operation, server: &Server) -> Vec<Call> {
    let digits = "9".repeat(400);
    let bodies: Vec<(&str, Vec<u8>)> = vec![
        ("a list", b"[]".into()),
        ("a number", b"1".into()),
        ("a text", b"\"x\"".into()),
        ("null", b"null".into()),
        ("cut off", b"{\"name\":\"n\"".into()),
        ("followed by more", b"{} {}".into()),
        ("with a byte order mark", b"\xef\xbb\xbf{}".into()),
        ("invalid UTF-8", b"{\"unknown\":\"\xff\"}".into()),
        ("invalid UTF-8 in a name", b"{\"\xc3\":1}".into()),
        ("a lone surrogate", b"{\"unknown\":\"\\ud800\"}".into()),
        ("an unescaped NUL", b"{\"unknown\":\"\0\"}".into()),
        ("a number of 400 digits", format!("{{\"unknown\":{digits}}}").into()),
        ("a number that is too large", b"{\"unknown\":1e400}".into()),
        ("deep lists", format!("{{\"unknown\":{}", "[".repeat(DEPTH)).into()),
        ("deep objects", format!("{{\"unknown\":{}}}", deep(DEPTH)).into()),
        ("a member twice", b"{\"unknown\":1,\"unknown\":1}".into()),
        ("a member twice, further down", b"{\"unknown\":[{\"a\":1,\"a\":1}]}".into()),
    ];
    let reads = !operation.valid.is_empty();
    let line = if reads { server.known(operation.line, true) } else { unknown(operation.line) };
    let expected = if reads { BAD_REQUEST } else { operation.without_body };
    bodies.into_iter().map(|(what, body)| Call { what: what.to_owned(), line: line.clone(), body, expected }).collect()
}

/// Calls with one invalid field.
fn bad_members(operation: &Operation, server: &Server) -> Vec<Call> {
    let line = server.known(operation.line, true);
    let mut calls = Vec::new();
    for (member, kind) in members(operation) {
        let twice = format!("{{\"{member}\":null,\"{member}\":null}}");
        let values = wrong_type_values(kind).iter().map(|value| (*value).to_owned()).chain(beyond(member, kind));
        let bodies = values.map(|value| with(operation.valid, member, &value)).chain([twice]);
        calls.extend(bodies.map(|body| Call {
            what: format!("{member} in {body:.200}"),
            line: line.clone(),
            body: body.replace("{secret}", &server.secret).into(),
            expected: BAD_REQUEST,
        }));
    }
    calls
}

/// Calls without any known field, to keys that do not exist.
fn calls_without_fields(operation: &Operation) -> Vec<Call> {
    let nulls: Vec<String> = operation.members.iter().map(|(member, _)| format!("\"{member}\":null")).collect();
    let bodies = [
        ("no body", String::new()),
        ("blanks", " \r\n\t".into()),
        ("an empty object", "{}".into()),
        ("only nulls", format!("{{{}}}", nulls.join(","))),
        ("unknown members", r#"{"unknown":{"name":1},"Name":"n","actor-id":1,"":0,"requests[]":[]}"#.into()),
    ];
    let line = unknown(operation.line);
    let call = |(what, body): (&str, String)| Call {
        what: what.to_owned(),
        line: line.clone(),
        body: body.into(),
        expected: operation.without_body,
    };
    bodies.into_iter().map(call).collect()
}

/// Calls with malformed ids.
fn bad_ids(operation: &Operation, server: &Server) -> Vec<Call> {
    if !operation.line.contains("{id}") {
        return Vec::new();
    }
    let long = "x".repeat(8000);
    let other = server.known("{id} importedApiKeys", !operation.line.contains("importedApiKeys"));
    let other = other.split(' ').next().unwrap().to_owned();
    let upper = server.issued.to_uppercase();
    let mut ids = vec!["x", "%00", "%ff", "%c3%28", "..%2f", "a%20b", "0", "-", "*", "null", &upper, &long];
    // The deprecated revocation accepts both types.
    if !operation.line.contains("/apiKeys/{id}") {
        ids.push(&other);
    }
    let call = |id: &str| Call {
        what: "a malformed id".into(),
        line: operation.line.replace("{id}", id),
        body: operation.valid.into(),
        expected: NOT_FOUND,
    };
    ids.into_iter().map(call).collect()
}

fn page_token(tenant: u128, last: KeyId) -> String {
    let keyring = Keyring::new(&HMAC_SECRET.to_owned().into(), &[]);
    let tenant = TenantId(uuid::Uuid::from_u128(tenant));
    seal_page_token((tenant, last), &keyring, SystemClock.now(), &mut rand::rngs::StdRng::seed_from_u64(1))
}

/// Lists and updates with invalid queries.
fn bad_queries(operation: &Operation) -> Vec<Call> {
    let list = operation.line.starts_with("GET") && operation.line.ends_with("edApiKeys");
    let update = operation.line.starts_with("PATCH");
    let issued = KeyId::Issued(uuid::Uuid::from_u128(7));
    let imported = KeyId::Imported([7; 32]);
    let (own, other) = if operation.line.contains("imported") { (imported, issued) } else { (issued, imported) };
    let valid = page_token(0, own);
    let long = "a".repeat(10_000);
    let queries = if list {
        vec![
            format!("page_token={}", page_token(1, own)),
            format!("page_token={}", page_token(0, other)),
            format!("page_token={}", &valid[..valid.len() - 1]),
            format!("page_token={}", &valid[..40]),
            format!("pageToken={}", &valid[1..]),
            format!("page_token={valid}&pageToken={valid}"),
            format!("page_token={long}"),
            "page_token=%00".into(),
            "page_token=%ff".into(),
            "page_size=-1".into(),
            "page_size=1001".into(),
            "page_size=99999999999999999999".into(),
            "page_size=1e2".into(),
            "page_size=%ff".into(),
            "pageSize=1&page_size=1".into(),
            "filter=name%3Dx".into(),
            "filter=actor_id%3D%ff".into(),
            "filter=actor_id%3D%22%00%22".into(),
            format!("filter=actor_id%3D{long}"),
            "filter=status%3DKEY_STATUS_UNSPECIFIED".into(),
            "filter=actor_id%3Da+OR+actor_id%3Db".into(),
        ]
    } else if update {
        ["*", "key_id", "actor_id", "name.x", "name,", ",", "rate_limit_policy.quota", "name%00", "%ff"]
            .into_iter()
            .map(|mask| format!("update_mask={mask}"))
            .chain(["update_mask=name&updateMask=name".into()])
            .collect()
    } else {
        Vec::new()
    };
    let call = |query: String| Call {
        what: "a query".into(),
        line: format!("{}?{query}", unknown(operation.line)),
        body: operation.valid.into(),
        expected: BAD_REQUEST,
    };
    queries.into_iter().map(call).collect()
}

#[test]
fn every_described_operation_is_tested() {
    let described: Value = serde_json::from_str(include_str!("../../config/openapi.json")).unwrap();
    let mut described: Vec<String> = described["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| {
            let path = path.replace("{key_id}", "{id}");
            methods.as_object().unwrap().keys().map(move |method| format!("{} {path}", method.to_uppercase()))
        })
        .collect();
    let mut called: Vec<String> = OPERATIONS.iter().map(|operation| operation.line.to_owned()).collect();
    described.sort();
    called.sort();
    assert_eq!(called, described);
}

#[tokio::test]
async fn every_operation_rejects_bad_input_and_stores_nothing() {
    let server = Server::start().await;
    let before = server.stored().await;
    let mut mismatches = Vec::new();
    for operation in &OPERATIONS {
        let start = Instant::now();
        let mut calls = calls_without_fields(operation);
        calls.extend(bad_bodies(operation, &server));
        calls.extend(bad_members(operation, &server));
        calls.extend(bad_ids(operation, &server));
        calls.extend(bad_queries(operation));
        mismatches.extend(server.make(calls).await);
        if start.elapsed() > LIMIT {
            mismatches.push(format!("{} took {:?}", operation.line, start.elapsed()));
        }
        if server.stored().await != before {
            mismatches.push(format!("{} changed what is stored", operation.line));
            break;
        }
    }
    assert!(mismatches.is_empty(), "{} mismatches\n{}", mismatches.len(), mismatches.join("\n"));
}

#[tokio::test]
async fn every_operation_with_a_body_rejects_one_over_the_size_limit() {
    let server = Server::start().await;
    let before = server.stored().await;
    for operation in OPERATIONS.iter().filter(|operation| !operation.valid.is_empty()) {
        let line = server.known(operation.line, true);
        for size in [BODY_MAX + 1, 5 << 20] {
            let body = format!("{{\"unknown\":\"{}\"}}", "x".repeat(size - 14));
            assert_eq!(body.len(), size);
            let response = server.keygate.send(&line, body).await;
            assert_eq!(mismatch(&response, (429, "TOO_MANY_REQUESTS")), None, "{line}");
            assert_eq!(response.message(), "request body exceeds maximum allowed size of 4194304 bytes");
        }
        // A body of exactly the limit is read.
        let body = format!("{{\"unknown\":\"{}\"}}", "x".repeat(BODY_MAX - 14));
        let response = server.keygate.send(&unknown(operation.line), body).await;
        assert_eq!(mismatch(&response, operation.without_body), None, "{line}");
    }
    assert_eq!(server.stored().await, before);
}

#[tokio::test]
async fn page_token_errors_have_the_messages_of_the_contract() {
    let server = Server::start().await;
    let line = "GET /v2alpha1/admin/issuedApiKeys?page_token=";
    let last = KeyId::parse_issued("ffffffff-ffff-4fff-bfff-ffffffffffff").unwrap();
    for (tenant, status, message) in [(0, 200, ""), (1, 400, "page token network mismatch")] {
        let response = server.keygate.send(&format!("{line}{}", page_token(tenant, last)), "").await;
        assert_eq!((response.status, response.message()), (status, message));
    }
    let response = server.keygate.send(&format!("{line}x"), "").await;
    assert_eq!((response.status, response.message()), (400, "invalid page token"));
}

#[tokio::test]
async fn other_methods_are_404() {
    let server = Server::start().await;
    for operation in &OPERATIONS {
        let path = server.known(operation.line.split_once(' ').unwrap().1, true);
        for method in ["HEAD", "PUT", "OPTIONS", "TRACE", "PATCH", "DELETE", "GET", "POST", "NONSENSE"] {
            let known = |other: &Operation| {
                let (verb, rest) = other.line.split_once(' ').unwrap();
                verb == method && server.known(rest, true) == path
            };
            if OPERATIONS.iter().any(known) {
                continue;
            }
            let url = format!("{}{path}", server.keygate.admin);
            let request = server.keygate.http.request(method.parse().unwrap(), url);
            assert_eq!(request.send().await.unwrap().status(), 404, "{method} {path}");
        }
    }
}
