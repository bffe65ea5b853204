//! The table: what each request results in, on every front. The routes are those of `fixture`.

use super::credentials::{Kind, State};
use super::row::Row;

/// All rows.
pub(crate) fn rows() -> Vec<Row> {
    let mut rows: Vec<_> = Kind::ALL.into_iter().flat_map(of_kind).collect();
    rows.extend(Kind::ALL.into_iter().filter(|kind| kind.is_derived()).flat_map(audiences));
    rows.extend(without_credential());
    rows.extend(extraction());
    rows.extend(routing());
    rows.extend(spoofing());
    rows.extend(limits());
    rows
}

/// What every kind of credential has in common.
fn of_kind(kind: Kind) -> Vec<Row> {
    let expired = if kind.is_derived() { "credential_invalid" } else { "credential_expired" };
    vec![
        Row::get("/required").bearer(kind, State::Valid).identified(),
        Row::get("/required").credential(kind, State::Valid).field("X-API-Key", "{}").note("in X-API-Key").identified(),
        Row::get("/orders/1").bearer(kind, State::Valid).identified(),
        Row::get("/orders/1").bearer(kind, State::OtherScope).lacks("read:orders"),
        Row::get("/orders").method("POST").body("hello").bearer(kind, State::Valid).lacks("write:orders"),
        Row::get("/optional").bearer(kind, State::Valid).identified(),
        Row::get("/optional").bearer(kind, State::Forged).rejected("credential_invalid"),
        Row::get("/optional").bearer(kind, State::Revoked).rejected("credential_revoked"),
        Row::get("/open").bearer(kind, State::Valid).untouched(),
        Row::get("/open").bearer(kind, State::Revoked).untouched(),
        Row::get("/bound").bearer(kind, State::Valid).rejected("audience_mismatch"),
        Row::get("/required").bearer(kind, State::Forged).rejected("credential_invalid"),
        Row::get("/required").bearer(kind, State::Expired).rejected(expired),
        Row::get("/required").bearer(kind, State::Revoked).rejected("credential_revoked"),
        Row::get("/required").bearer(kind, State::Loopback).identified(),
        Row::get("/required").bearer(kind, State::OtherAddress).rejected("address_not_allowed"),
        Row::get("/required").bearer(kind, State::Limited).identified().policy(r#""default";q=5;w=3600"#),
        Row::get("/required")
            .bearer(kind, State::Single)
            .after(1)
            .exceeds("default", true)
            .policy(r#""default";q=1;w=3600"#),
        Row::get("/limited")
            .bearer(kind, State::LimitedByRoute)
            .after(1)
            .exceeds("hourly", true)
            .policy(r#""hourly";q=1;w=3600"#),
    ]
}

fn audiences(kind: Kind) -> Vec<Row> {
    vec![
        Row::get("/bound").bearer(kind, State::Audience).identified(),
        Row::get("/bound").bearer(kind, State::OtherAudience).rejected("audience_mismatch"),
        Row::get("/required").bearer(kind, State::Audience).rejected("audience_mismatch"),
        Row::get("/optional").bearer(kind, State::Audience).rejected("audience_mismatch"),
        Row::get("/open").bearer(kind, State::OtherAudience).untouched(),
    ]
}

fn without_credential() -> Vec<Row> {
    vec![
        Row::get("/required").rejected("credential_missing"),
        Row::get("/required").method("HEAD").rejected("credential_missing"),
        Row::get("/required").method("POST").body("hello").rejected("credential_missing"),
        Row::get("/orders").rejected("credential_missing"),
        Row::get("/bound").rejected("credential_missing"),
        Row::get("/limited").rejected("credential_missing"),
        Row::get("/optional"),
        Row::get("/optional").method("POST").body("hello"),
        Row::get("/open"),
        Row::get("/open").field("Authorization", "Basic dXNlcjpwYXNz").note("with Basic authorization").untouched(),
    ]
}

fn extraction() -> Vec<Row> {
    let valid = |target| Row::get(target).credential(Kind::Issued, State::Valid);
    vec![
        valid("/required").field("Authorization", "bEARER   {}").note("with another spelling of Bearer").identified(),
        valid("/required")
            .field("Authorization", "Bearer {}")
            .field("X-API-Key", "{}")
            .note("in both fields")
            .identified(),
        valid("/required")
            .field("Authorization", "Basic dXNlcjpwYXNz")
            .field("X-API-Key", "{}")
            .note("in X-API-Key, with Basic authorization")
            .identified(),
        valid("/required?api_key={}").note("in the query").rejected("credential_missing"),
        Row::get("/required")
            .field("Authorization", "Basic dXNlcjpwYXNz")
            .note("with Basic authorization")
            .rejected("credential_missing"),
        Row::get("/required").field("Authorization", "Bearer").note("empty Bearer").rejected("credential_malformed"),
        Row::get("/required").field("X-API-Key", "").note("empty X-API-Key").rejected("credential_malformed"),
        Row::get("/optional").field("Authorization", "Bearer").note("empty Bearer").rejected("credential_malformed"),
        Row::get("/required")
            .field("Authorization", "Bearer two words")
            .note("a credential with a space")
            .rejected("credential_malformed"),
        Row::get("/required")
            .field("X-API-Key", "clé")
            .note("a credential that is not ASCII")
            .rejected("credential_invalid"),
        valid("/required")
            .field("Authorization", "Bearer {}")
            .field("X-API-Key", "other")
            .note("and another one in X-API-Key")
            .rejected("credential_ambiguous"),
        valid("/required").field("X-API-Key", "{}").field("X-API-Key", "{}").note("in X-API-Key, twice").identified(),
        valid("/required")
            .field("Authorization", "Bearer {}")
            .field("Authorization", "Bearer {}")
            .note("in Authorization, twice")
            .identified(),
        valid("/required")
            .field("X-API-Key", "{}")
            .field("X-API-Key", "other")
            .note("in X-API-Key, twice, two values")
            .rejected("credential_ambiguous"),
        valid("/required")
            .field("Authorization", "Bearer {}")
            .field("Authorization", "Bearer other")
            .note("in Authorization, twice, two values")
            .rejected("credential_ambiguous"),
        valid("/optional")
            .field("Authorization", "Bearer {}")
            .field("X-API-Key", "other")
            .note("and another one in X-API-Key")
            .rejected("credential_ambiguous"),
        Row::get("/required").bearer(Kind::Issued, State::Unknown).rejected("credential_invalid"),
    ]
}

fn routing() -> Vec<Row> {
    let valid = |target| Row::get(target).bearer(Kind::Issued, State::Valid);
    vec![
        valid("/nowhere").rejected("route_not_found"),
        Row::get("/nowhere").rejected("route_not_found"),
        valid("/required-not").rejected("route_not_found"),
        valid("/hosted").host("api.example.com").identified(),
        Row::get("/hosted").host("api.example.com").rejected("credential_missing"),
        valid("/hosted").host("other.example.com").rejected("route_not_found"),
        valid("/read-only").identified(),
        valid("/read-only").method("DELETE").rejected("route_not_found"),
        valid("/required").method("DELETE").identified(),
        valid("/required").method("POST").body("hello").identified(),
        Row::get("/open/../required").note("dot segments").rejected("credential_missing"),
        Row::get("/open/%2e%2e/required").note("encoded dots").rejected("credential_missing"),
        Row::get("//required").note("repeated slash").rejected("credential_missing"),
        Row::get("/%72equired").note("encoded letter").rejected("credential_missing"),
        Row::get("/open%2f..%2frequired").note("encoded slashes").rejected("route_not_found"),
        Row::get("/open/..;/required").note("path parameters").rejected("route_not_found"),
        Row::get("/REQUIRED").note("another case").rejected("route_not_found"),
    ]
}

/// Requests whose fields claim an identity, an address or another target.
fn spoofing() -> Vec<Row> {
    let identity = |row: Row| {
        row.field("X-Keygate-Actor-Id", "root")
            .field("X-Keygate-Key-Id", "root")
            .field("X-Keygate-Scopes", "admin")
            .field("X-Keygate-Tenant-Id", "root")
            .field("X-Keygate-Credential-Type", "issued")
            .note("with identity fields")
    };
    let underscore = |row: Row| row.field("X_Keygate_Actor_Id", "root").note("with X_Keygate_Actor_Id");
    let address = |row: Row, address| {
        row.field("X-Forwarded-For", address)
            .field("X-Real-IP", address)
            .field("Forwarded", "for=192.0.2.1")
            .field("X-Envoy-External-Address", address)
            .note("with address fields")
    };
    let target = |row: Row| {
        row.field("X-Forwarded-Uri", "/open")
            .field("X-Forwarded-Method", "GET")
            .field("X-Forwarded-Host", "api.test")
            .field("X-Original-URI", "/open")
            .field("X-Original-URL", "/open")
            .field("X-Original-Method", "GET")
            .field("X-Original-Host", "api.test")
            .field("X-Rewrite-URL", "/open")
            .note("with fields of another target")
    };
    vec![
        identity(Row::get("/required").bearer(Kind::Issued, State::Valid)).identified(),
        identity(Row::get("/optional")),
        identity(Row::get("/open")),
        underscore(Row::get("/required").bearer(Kind::Issued, State::Valid)).identified(),
        underscore(Row::get("/open")),
        address(Row::get("/required").bearer(Kind::Issued, State::OtherAddress), "192.0.2.1")
            .rejected("address_not_allowed"),
        address(Row::get("/required").bearer(Kind::Jwt, State::OtherAddress), "192.0.2.1")
            .rejected("address_not_allowed"),
        address(Row::get("/required").bearer(Kind::Issued, State::Loopback), "192.0.2.1").identified(),
        target(Row::get("/required")).rejected("credential_missing"),
        target(Row::get("/nowhere")).rejected("route_not_found"),
        target(Row::get("/orders").method("POST").bearer(Kind::Issued, State::Valid)).lacks("write:orders"),
        target(Row::get("/required").bearer(Kind::Issued, State::Valid)).identified(),
        Row::get("/required")
            .bearer(Kind::Issued, State::Valid)
            .field("RateLimit", "\"default\";r=9;t=9")
            .field("RateLimit-Policy", "\"default\";q=9;w=9")
            .note("with fields of a limit")
            .identified(),
    ]
}

fn limits() -> Vec<Row> {
    vec![
        Row::get("/costly")
            .bearer(Kind::Issued, State::Valid)
            .note("costs more than the quota")
            .exceeds("small", false)
            .policy(r#""small";q=2;w=3600"#),
        Row::get("/by-address").after(1).exceeds("by-address", true).policy(r#""by-address";q=1;w=3600"#),
        Row::get("/generous").bearer(Kind::Jwt, State::Valid).identified().policy(r#""generous";q=1000;w=3600"#),
        Row::get("/generous").note("counted by address").policy(r#""generous";q=1000;w=3600"#),
    ]
}
