//! The comparison of an answer with what its row and its front say.

use std::fmt::Write;

use super::credentials::{ACTOR, Credential};
use super::front::{Answer, Description};
use super::http::{Request, Response};
use super::row::{Outcome, Rejection, Row};
use crate::support::upstream::header;

/// The tenant of all keys.
const TENANT: &str = "00000000-0000-0000-0000-000000000000";
const IDENTITY: [&str; 5] =
    ["x-keygate-key-id", "x-keygate-actor-id", "x-keygate-tenant-id", "x-keygate-scopes", "x-keygate-credential-type"];

/// A sent request, and what it is compared with.
pub(crate) struct Sent<'a> {
    pub(crate) row: &'a Row,
    pub(crate) request: &'a Request,
    pub(crate) request_id: &'a str,
    pub(crate) credential: Option<&'a Credential>,
    pub(crate) answer: &'a Answer,
}

/// The parts of a response that only the kind of rejection determines.
struct Template {
    status: u16,
    title: &'static str,
    detail: &'static str,
    /// The `error` of the challenge; empty for a challenge without one, `None` for no challenge.
    error: Option<&'static str>,
}

/// The status of a row on a front.
pub(crate) fn expected_status(row: &Row, front: &Description) -> u16 {
    match (front.exception(row), row.outcome) {
        (Some(exception), _) => exception.status,
        (None, Outcome::Rejected(rejection)) => template(rejection.code).status,
        (None, _) => 200,
    }
}

/// All differences.
pub(crate) fn differences(sent: &Sent<'_>, front: &Description) -> Vec<String> {
    let mut found = Differences::default();
    let status = expected_status(sent.row, front);
    found.compare("status", &sent.answer.response.status, &status);
    if front.exception(sent.row).is_some() {
        if status != 200 && sent.answer.forwarded.is_some() {
            found.add("the upstream received the request".to_owned());
        }
    } else if let Outcome::Rejected(rejection) = sent.row.outcome {
        rejected(&mut found, sent, rejection, front);
    } else {
        forwarded(&mut found, sent, front);
    }
    found.0
}

#[derive(Default)]
struct Differences(Vec<String>);

impl Differences {
    fn add(&mut self, text: String) {
        self.0.push(text);
    }

    fn compare<T: PartialEq + std::fmt::Debug + ?Sized>(&mut self, what: &str, got: &T, expected: &T) {
        if got != expected {
            self.add(format!("{what} is {got:?}, not {expected:?}"));
        }
    }

    fn field(&mut self, response: &Response, name: &str, expected: Option<&str>) {
        let got: Vec<_> = response.values(name).collect();
        self.compare(name, &got, &expected.into_iter().collect());
    }
}

fn rejected(found: &mut Differences, sent: &Sent<'_>, rejection: Rejection, front: &Description) {
    let response = &sent.answer.response;
    if let Some(head) = &sent.answer.forwarded {
        found.add(format!("the upstream received {head:?}"));
    }
    // The type of a body that is not there may be absent (RFC 9110 section 9.3.2).
    if sent.request.method != "HEAD" {
        found.field(response, "content-type", Some("application/problem+json"));
    }
    found.field(response, "cache-control", Some("no-store"));
    found.field(response, "www-authenticate", challenge(rejection).as_deref());
    let has_retry_after = response.values("retry-after").any(|value| value.parse::<u64>().is_ok_and(|wait| wait > 0));
    found.compare("has Retry-After", &has_retry_after, &rejection.has_retry_after);
    limit_fields(found, sent.row, response);
    if front.keeps_request_id {
        found.field(response, "x-request-id", Some(sent.request_id));
    }
    if sent.request.method == "HEAD" {
        found.compare("body", response.body.as_str(), "");
    } else if front.keeps_bodies {
        found.compare("body", response.body.as_str(), &problem(rejection, sent.request_id));
    } else {
        let body: serde_json::Value = serde_json::from_str(&response.body).unwrap_or_default();
        let status = template(rejection.code).status;
        found.compare(
            "status and code in the body",
            &(&body["status"], &body["code"]),
            &(&status.into(), &rejection.code.into()),
        );
    }
}

fn forwarded(found: &mut Differences, sent: &Sent<'_>, front: &Description) {
    let response = &sent.answer.response;
    let Some(head) = &sent.answer.forwarded else {
        found.add("the upstream received nothing".to_owned());
        return;
    };
    found.field(response, "x-kept", Some("1"));
    limit_fields(found, sent.row, response);
    let end = format!(" body={}", sent.request.body.len());
    if !response.body.ends_with(&end) {
        found.add(format!("the body {:?} does not end with {end:?}", response.body));
    }
    if front.keeps_request_id {
        found.compare("upstream's x-request-id", &header(head, "x-request-id"), &Some(sent.request_id));
    }
    identity(found, head, sent);
    let kept = sent.row.outcome == Outcome::Untouched && front.keeps_authorization;
    let given = sent.request.fields.iter().find(|(name, _)| *name == "Authorization");
    let expected = given.filter(|_| kept).map(|(_, value)| value.as_str());
    found.compare("upstream's authorization", &header(head, "authorization"), &expected);
    found.compare("upstream's x-api-key", &header(head, "x-api-key"), &None);
    if sent.credential.is_some_and(|credential| !kept && head.contains(&credential.text)) {
        found.add(format!("the upstream received the credential: {head:?}"));
    }
}

/// Compares the identity fields, and reports any other field that a server could read as one of them.
fn identity(found: &mut Differences, head: &str, sent: &Sent<'_>) {
    let (credential, row) = (sent.credential, sent.row);
    let scopes = credential.map_or(String::new(), |credential| credential.scopes.join(" "));
    let values =
        credential.zip(row.credential).filter(|_| row.outcome == Outcome::Identified).map(|(credential, (kind, _))| {
            [&credential.key_id, ACTOR, TENANT, scopes.as_str(), kind.wire_name()].map(str::to_owned)
        });
    for (index, name) in IDENTITY.into_iter().enumerate() {
        let expected = values.as_ref().map(|values| values[index].as_str());
        found.compare(&format!("upstream's {name}"), &header(head, name), &expected);
    }
    let names = head.lines().skip(1).filter_map(|line| Some(line.split_once(':')?.0.to_lowercase()));
    for name in names {
        if name.replace('_', "-").starts_with("x-keygate-") && !IDENTITY.contains(&name.as_str()) {
            found.add(format!("the upstream received {name}"));
        }
    }
}

fn limit_fields(found: &mut Differences, row: &Row, response: &Response) {
    found.field(response, "ratelimit-policy", row.policy);
    let count = response.values("ratelimit").filter(|value| value.contains(";r=")).count();
    found.compare("number of RateLimit fields", &count, &usize::from(row.policy.is_some()));
}

fn challenge(rejection: Rejection) -> Option<String> {
    let error = template(rejection.code).error?;
    let mut challenge = r#"Bearer realm="keygate""#.to_owned();
    if !error.is_empty() {
        let _ = write!(challenge, r#", error="{error}""#);
    }
    if let Some(scope) = rejection.scope {
        let _ = write!(challenge, r#", scope="{scope}""#);
    }
    Some(challenge)
}

/// The whole body, byte for byte.
fn problem(rejection: Rejection, request_id: &str) -> String {
    let Template { status, title, detail, .. } = template(rejection.code);
    let code = rejection.code;
    let (kind, violated) = match rejection.violated {
        None => ("about:blank", String::new()),
        Some(limit) => (
            "https://iana.org/assignments/http-problem-types#quota-exceeded",
            format!(r#","violated-policies":["{limit}"]"#),
        ),
    };
    format!(
        r#"{{"type":"{kind}","title":"{title}","status":{status},"detail":"{detail}","code":"{code}","request_id":"{request_id}"{violated}}}"#
    )
}

fn template(code: &str) -> Template {
    let (status, title, detail, error) = match code {
        "route_not_found" => (404, "Not Found", "No route takes this request.", None),
        "credential_missing" => {
            (401, "Unauthorized", "Send an API key as `Authorization: Bearer <key>` or `X-API-Key: <key>`.", Some(""))
        }
        "credential_malformed" => {
            (400, "Bad Request", "What the request carries cannot be a credential.", Some("invalid_request"))
        }
        "credential_ambiguous" => {
            (400, "Bad Request", "The request carries two different credentials; send one.", Some("invalid_request"))
        }
        "credential_invalid" => (401, "Unauthorized", "The credential is not valid.", Some("invalid_token")),
        "credential_expired" => (401, "Unauthorized", "The credential has expired.", Some("invalid_token")),
        "credential_revoked" => (401, "Unauthorized", "The credential has been revoked.", Some("invalid_token")),
        "audience_mismatch" => {
            (401, "Unauthorized", "The credential is meant for another audience.", Some("invalid_token"))
        }
        "address_not_allowed" => (403, "Forbidden", "The credential may not be used from this address.", None),
        "scope_insufficient" => {
            (403, "Forbidden", "The credential lacks a scope that this route demands.", Some("insufficient_scope"))
        }
        "quota_exceeded" => {
            (429, "Too Many Requests", "The caller has made more requests than its limits allow.", None)
        }
        code => panic!("{code} has no template"),
    };
    Template { status, title, detail, error }
}
