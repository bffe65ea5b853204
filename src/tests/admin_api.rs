//! `docs/admin-api-reference.md`: every operation, from the OpenAPI descriptions that the product serves and the table of roles.

use std::collections::BTreeMap;
use std::fmt::Write;

use keygate_test_servers::check_document;
use serde_json::{Map, Value};

use super::markdown::{anchor, code, head, row};
use super::schema::{choices, is_required, kind, meaning};
use crate::admin::{openapi_json, operations, own_openapi_json};

const INTRODUCTION: &str = "# Admin API reference

Every operation of the admin API. This file is generated from the OpenAPI descriptions that the product serves at `/openapi.json` and
`/openapi-keygate.json` (`make documents`). Examples, idempotency, lists and the table of errors: [admin API](admin-api.md).

Callers send an [admin key](admin-auth.md) as `Authorization: Bearer`, where they are authenticated. Without a key the status is 401, with a
key that lacks the role 403. The body of every error is an [ErrorResponse](#errorresponse), whose `reason` is in
[this table](admin-api.md#errors). Members are accepted as `like_this` and as `likeThis`.

## Operations

";

const OWN_OPERATIONS: &str = "
## Operations of Keygate

These are in the description at `/openapi-keygate.json`, the ones above in that at `/openapi.json`.

";

/// The pages that describe the operations of Keygate, by the beginnings of their paths. A longer beginning comes first.
const PAGES: [(&str, &str); 13] = [
    ("/keygate/v1/keys/{key_id}/usage", "[usage](usage.md#the-api)"),
    ("/keygate/v1/topKeys", "[usage](usage.md#the-api)"),
    ("/keygate/v1/keys/{key_id}/rateLimit", "[the limit of a key](admin-api.md#the-limit-of-a-key)"),
    ("/keygate/v1/keys", "[all keys](admin-api.md#all-keys)"),
    ("/keygate/v1/auditEvents", "[audit trail](audit.md#read-it)"),
    ("/keygate/v1/auditChain", "[audit trail](audit.md)"),
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
    let parse = |json: String| serde_json::from_str::<Value>(&json).expect("the description is JSON");
    let (contract, own) = (parse(openapi_json()), parse(own_openapi_json()));
    let mut text = INTRODUCTION.to_owned();
    let mut own_text = String::new();
    for (route, needs) in &operations() {
        match (described(&contract, route), described(&own, route)) {
            (Some(operation), None) => text.push_str(&operation_text(route, needs, operation, "")),
            (None, Some(operation)) => {
                let path = route.split_once(' ').map_or("", |(_, path)| path);
                let page = PAGES.iter().find(|(beginning, _)| path.starts_with(beginning)).map_or("", |(_, page)| page);
                own_text.push_str(&operation_text(route, needs, operation, page));
            }
            (Some(_), Some(_)) => panic!("{route} is in both descriptions"),
            (None, None) => panic!("{route} is in no description"),
        }
    }
    let count = |description: &Value| {
        let paths = description["paths"].as_object().expect("paths");
        paths.values().filter_map(Value::as_object).map(Map::len).sum::<usize>()
    };
    let all = count(&contract) + count(&own);
    assert_eq!(operations().len(), all, "an operation of a description is not in the table of roles");
    writeln!(text, "{OWN_OPERATIONS}{own_text}## Types").unwrap();
    let schemas = |description: &Value| description["components"]["schemas"].as_object().expect("schemas").clone();
    let mut types: BTreeMap<_, _> = schemas(&contract).into_iter().collect();
    for (name, schema) in schemas(&own) {
        let other = types.insert(name.clone(), schema.clone());
        assert!(other.is_none_or(|other| other == schema), "{name} is two types");
    }
    for (name, schema) in &types {
        text.push_str(&type_text(name, schema));
    }
    text
}

/// The schema in the content of a request or a response, of any media type, and the media type if it is another one than JSON.
fn content(carrier: &Value) -> Option<(&Value, Option<&str>)> {
    let (media_type, content) = carrier["content"].as_object()?.iter().next()?;
    Some((&content["schema"], Some(media_type.as_str()).filter(|media_type| *media_type != "application/json")))
}

fn operation_text(route: &str, needs: &str, operation: &Value, page: &str) -> String {
    let summary = operation["summary"].as_str().unwrap_or_default();
    let mut text = format!("### {route}\n\n{summary} Needs {needs}.");
    if let Some((body, media_type)) = content(&operation["requestBody"]) {
        write!(text, " Body: {}", kind(body)).unwrap();
        text.push_str(&media_type.map_or_else(String::new, |media_type| format!(" as {}", code(media_type))));
        text.push('.');
    }
    if !page.is_empty() {
        write!(text, " See {page}.").unwrap();
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
        let body = content(response).map_or_else(|| "none".to_owned(), |(schema, _)| kind(schema));
        text.push_str(&row(&[status, response["description"].as_str().unwrap_or_default(), &body]));
    }
    text + "\n"
}

fn parameter_row(parameter: &Value) -> String {
    let text = |name: &str| parameter[name].as_str().unwrap_or_default();
    let required = if parameter["required"] == true { ", required" } else { "" };
    let (schema, description) = (&parameter["schema"], text("description"));
    let values: Vec<_> = choices(schema).iter().map(|(value, _)| code(value)).collect();
    let meaning =
        if values.is_empty() { description.to_owned() } else { format!("{description}: {}", values.join(", ")) };
    row(&[&code(text("name")), text("in"), &format!("{}{required}", kind(schema)), &meaning])
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
    let parts = schema["allOf"].as_array().map_or(&[][..], Vec::as_slice);
    let others: Vec<_> = parts.iter().filter(|part| part["$ref"].is_string()).map(kind).collect();
    if !others.is_empty() {
        writeln!(text, "\nIt has the members of {}.", others.join(" and ")).unwrap();
    }
    let objects: Vec<_> = std::iter::once(schema).chain(parts).filter(|object| has_members(object)).collect();
    if !objects.is_empty() {
        write!(text, "\n{}", head(&["member", "type", "", "meaning"])).unwrap();
    }
    for object in objects {
        for (member, member_schema) in object["properties"].as_object().into_iter().flatten() {
            let required = if is_required(object, member) { "required" } else { "" };
            text.push_str(&row(&[&code(member), &kind(member_schema), required, &meaning(member_schema)]));
        }
    }
    text
}

fn has_members(object: &Value) -> bool {
    object["properties"].as_object().is_some_and(|members| !members.is_empty())
}

#[test]
fn generated_document_has_every_operation() {
    check_document("docs/admin-api-reference.md", &document());
}
