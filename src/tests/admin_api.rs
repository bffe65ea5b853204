//! `docs/admin-api-reference.md`: every operation, from the OpenAPI description that the product serves and the table of roles.

use std::fmt::Write;

use keygate_test_servers::check_document;
use serde_json::{Map, Value};

use super::markdown::{anchor, code, head, row};
use super::schema::{choices, is_required, kind, meaning};
use crate::admin::{openapi_json, operations};

const INTRODUCTION: &str = "# Admin API reference

Every operation of the admin API. This file is generated from the OpenAPI description that the product serves at `/openapi.json`, and from
the table of roles (`make documents`). Examples, idempotency, lists and the table of errors: [admin API](admin-api.md).

Callers send an [admin key](admin-auth.md) as `Authorization: Bearer`, where they are authenticated. Without a key the status is 401, with a
key that lacks the role 403. The body of every error is an [ErrorResponse](#errorresponse), whose `reason` is in
[this table](admin-api.md#errors). Members are accepted as `like_this` and as `likeThis`.

## Operations

";

const OWN_OPERATIONS: &str = "
## Operations of Keygate

These are not in the OpenAPI description, which has the operations of the contract only.

";

/// The pages that describe the operations of Keygate, by the beginnings of their paths. A longer beginning comes first.
const PAGES: [(&str, &str); 12] = [
    ("/keygate/v1/keys/{key_id}/usage", "[usage](usage.md#the-api)"),
    ("/keygate/v1/topKeys", "[usage](usage.md#the-api)"),
    ("/keygate/v1/keys/{key_id}/rateLimit", "[the limit of a key](admin-api.md#the-limit-of-a-key)"),
    ("/keygate/v1/keys", "[all keys](admin-api.md#all-keys)"),
    ("/keygate/v1/auditEvents", "[audit trail](audit.md#read-it)"),
    ("/keygate/v1/introspect", "[token introspection](introspection.md)"),
    ("/keygate/v1/explain", "[why is this key rejected](admin-api.md#why-is-this-key-rejected)"),
    ("/keygate/v1/adminKeys", "[admin keys](admin-auth.md#admin-keys)"),
    ("/keygate/v1/caller", "[roles](admin-auth.md#roles)"),
    ("/keygate/v1/", "[nodes, overview and configuration](admin-api.md#nodes-overview-and-configuration)"),
    ("/health/", "[listeners](configuration.md#listeners)"),
    ("/", "[listeners](configuration.md#listeners)"),
];

/// The operation of a method and a path in the description.
fn described<'a>(description: &'a Value, route: &str) -> Option<&'a Value> {
    let (method, path) = route.split_once(' ')?;
    description["paths"].get(path)?.get(method.to_lowercase())
}

fn document() -> String {
    let description: Value = serde_json::from_str(&openapi_json()).expect("the description is JSON");
    let operations = operations();
    let mut text = INTRODUCTION.to_owned();
    let mut own = String::new();
    let mut count = 0;
    for (route, needs) in &operations {
        if let Some(operation) = described(&description, route) {
            text.push_str(&operation_text(route, needs, operation));
            count += 1;
        } else {
            let path = route.split_once(' ').map_or("", |(_, path)| path);
            let page = PAGES.iter().find(|(beginning, _)| path.starts_with(beginning)).map_or("", |(_, page)| page);
            own.push_str(&row(&[&code(route), needs, page]));
        }
    }
    let paths = description["paths"].as_object().expect("paths");
    let all: usize = paths.values().filter_map(Value::as_object).map(Map::len).sum();
    assert_eq!(count, all, "an operation of the description is not in the table of roles");
    writeln!(text, "{OWN_OPERATIONS}{}{own}\n## Types", head(&["operation", "needs", "page"])).unwrap();
    for (name, schema) in description["components"]["schemas"].as_object().expect("schemas") {
        text.push_str(&type_text(name, schema));
    }
    text
}

fn operation_text(route: &str, needs: &str, operation: &Value) -> String {
    let summary = operation["summary"].as_str().unwrap_or_default();
    let mut text = format!("### {route}\n\n{summary} Needs {needs}.");
    let body = &operation["requestBody"]["content"]["application/json"]["schema"];
    if body.is_object() {
        write!(text, " Body: {}.", kind(body)).unwrap();
    }
    text.push_str("\n\n");
    let parameters = operation["parameters"].as_array().map_or(&[][..], Vec::as_slice);
    if !parameters.is_empty() {
        text.push_str(&head(&["parameter", "in", "type", "meaning"]));
        text.extend(parameters.iter().map(parameter_row));
        text.push('\n');
    }
    text.push_str(&head(&["status", "meaning", "body"]));
    let responses = operation["responses"].as_object().expect("responses");
    for (status, response) in responses {
        let schema = &response["content"]["application/json"]["schema"];
        let body = if schema.is_object() { kind(schema) } else { "none".to_owned() };
        text.push_str(&row(&[status, response["description"].as_str().unwrap_or_default(), &body]));
    }
    text + "\n"
}

fn parameter_row(parameter: &Value) -> String {
    let text = |name: &str| parameter[name].as_str().unwrap_or_default();
    let required = if parameter["required"] == true { ", required" } else { "" };
    row(&[&code(text("name")), text("in"), &format!("{}{required}", kind(&parameter["schema"])), text("description")])
}

fn type_text(name: &str, schema: &Value) -> String {
    let mut text = format!("\n### {name}\n\n{}\n", schema["description"].as_str().unwrap_or_default());
    if let Some(target) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        writeln!(text, "As [{target}](#{}).", anchor(target)).unwrap();
    }
    let values: Vec<_> = choices(schema).iter().map(|(value, _)| format!("- {}", code(value))).collect();
    if !values.is_empty() {
        writeln!(text, "\n{}", values.join("\n")).unwrap();
    }
    let members = schema["properties"].as_object().filter(|members| !members.is_empty());
    if let Some(members) = members {
        write!(text, "\n{}", head(&["member", "type", "", "meaning"])).unwrap();
        for (member, member_schema) in members {
            let required = if is_required(schema, member) { "required" } else { "" };
            text.push_str(&row(&[&code(member), &kind(member_schema), required, &meaning(member_schema)]));
        }
    }
    text
}

#[test]
fn generated_document_has_every_operation() {
    check_document("docs/admin-api-reference.md", &document());
}
