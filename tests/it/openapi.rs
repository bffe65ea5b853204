//! The OpenAPI description: the served, printed and committed ones are equal and match the contract and the responses.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};

use crate::support::admin::AdminResponse;
use crate::support::keygate::{Keygate, command};

mod own;

const COMMITTED: &str = include_str!("../../config/openapi.json");
/// The paths, names, types, values, limits and statuses of the contract, without its `Status`, which no response uses, and with Keygate's
/// additions.
const CONTRACT: &str = include_str!("openapi/contract.json");

fn contract() -> Value {
    serde_json::from_str(CONTRACT).unwrap()
}

fn committed() -> Value {
    serde_json::from_str(COMMITTED).unwrap()
}

#[tokio::test]
async fn served_and_printed_description_is_the_committed_file() {
    let printed = command().args(["config", "openapi"]).output().unwrap();
    assert!(
        String::from_utf8(printed.stdout).unwrap() == COMMITTED,
        "config/openapi.json is stale: cargo run -q --all-features -- config openapi > config/openapi.json"
    );
    let keygate = Keygate::dev(&["--ephemeral"]);
    let served =
        keygate.with_admin_key(keygate.http.get(format!("{}/openapi.json", keygate.admin))).send().await.unwrap();
    assert_eq!(served.headers()[CONTENT_TYPE], "application/json");
    assert!(served.text().await.unwrap() == COMMITTED, "/openapi.json is not config/openapi.json");
}

#[test]
fn operations_match_the_contract() {
    let mut operations = BTreeMap::new();
    for (path, methods) in committed()["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            operations.insert(format!("{} {path}", method.to_uppercase()), facts_of_operation(operation));
        }
    }
    assert_facts(&operations, &contract()["operations"]);
    let ids: BTreeSet<String> = operations.values().map(|operation| operation["operation_id"].to_string()).collect();
    assert_eq!((operations.len(), ids.len()), (21, 21), "18 operations and 3 deprecated paths, each with its own id");
}

#[test]
fn messages_match_the_contract() {
    let committed = committed();
    let schemas = committed["components"]["schemas"].as_object().unwrap();
    let messages = schemas
        .iter()
        .filter(|(_, schema)| schema.get("enum").is_none())
        .map(|(name, schema)| (name.clone(), facts_of_message(name, resolved(schema, &committed))))
        .collect();
    assert_facts(&messages, &contract()["messages"]);
}

#[test]
fn enums_match_the_contract() {
    let committed = committed();
    let schemas = committed["components"]["schemas"].as_object().unwrap();
    let enums = schemas.iter().filter_map(|(name, schema)| Some((name.clone(), schema.get("enum")?.clone()))).collect();
    assert_facts(&enums, &contract()["enums"]);
}

#[test]
fn limits_match_the_contract() {
    let committed = committed();
    let mut limits = BTreeMap::new();
    for (name, schema) in committed["components"]["schemas"].as_object().unwrap() {
        let members = resolved(schema, &committed).get("properties").and_then(Value::as_object);
        for (member, schema) in members.into_iter().flatten() {
            let limit = limits_of(schema);
            if limit != json!({}) {
                limits.insert(format!("{name}.{member}"), limit);
            }
        }
    }
    assert_facts(&limits, &contract()["limits"]);
}

/// Lengths, counts and patterns of a member, and of the items of a list.
fn limits_of(schema: &Value) -> Value {
    let mut limits = json!({});
    for name in ["minLength", "maxLength", "minItems", "maxItems", "pattern"] {
        if let Some(limit) = schema.get(name) {
            limits[name] = limit.clone();
        }
    }
    if let Some(items) = schema.get("items").map(limits_of).filter(|items| *items != json!({})) {
        limits["items"] = items;
    }
    limits
}

/// Compares item by item, so that a failure names the differing one.
#[track_caller]
fn assert_facts(described: &BTreeMap<String, Value>, contract: &Value) {
    let contract = contract.as_object().unwrap();
    let names: BTreeSet<&String> = described.keys().chain(contract.keys()).collect();
    let differing: Vec<String> = names
        .into_iter()
        .filter(|name| described.get(*name) != contract.get(*name))
        .map(|name| format!("{name}\n  described {:?}\n  contract  {:?}", described.get(name), contract.get(name)))
        .collect();
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

fn facts_of_operation(operation: &Value) -> Value {
    let mut facts = json!({
        "operation_id": operation["operationId"],
        "parameters": parameters(operation),
        "answers": operation["responses"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(status, response)| (status.clone(), content(response)))
            .collect::<serde_json::Map<_, _>>(),
    });
    if let Some(body) = operation.get("requestBody") {
        facts["request"] = content(body);
    }
    facts
}

fn parameters(operation: &Value) -> Vec<String> {
    let all = operation["parameters"].as_array().cloned().unwrap_or_default();
    let text = |parameter: &Value| {
        let (place, name) = (parameter["in"].as_str().unwrap(), parameter["name"].as_str().unwrap());
        format!("{place} {name} {}", kind(&parameter["schema"]))
    };
    let mut texts: Vec<String> = all.iter().map(text).collect();
    texts.sort();
    texts
}

/// The name of the message of a request or response; `null` if it has none.
fn content(carrier: &Value) -> Value {
    carrier.pointer("/content/application~1json/schema").map_or(Value::Null, |schema| kind(schema).into())
}

/// Fields and their types; of requests also which are required.
fn facts_of_message(name: &str, schema: &Value) -> Value {
    let members = schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
    let members: BTreeMap<String, String> = members.iter().map(|(name, member)| (name.clone(), kind(member))).collect();
    let mut facts = json!({ "members": members });
    if name != "ErrorBody" && (name.ends_with("Request") || name.ends_with("Body")) {
        let required = schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
        let required: BTreeSet<&str> = required.iter().filter_map(Value::as_str).collect();
        facts["required"] = json!(required);
    }
    facts
}

/// Follows a schema that is only a reference.
fn resolved<'a>(schema: &'a Value, description: &'a Value) -> &'a Value {
    match schema.get("$ref").and_then(Value::as_str) {
        Some(reference) => resolved(description.pointer(&reference[1..]).unwrap(), description),
        None => schema,
    }
}

/// A type as text: `string date-time`, `[string]`, or the name of a message. Whether it is nullable is left out.
fn kind(schema: &Value) -> String {
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        return reference.rsplit('/').next().unwrap().to_owned();
    }
    if let Some(choices) = schema.get("oneOf").and_then(Value::as_array) {
        return choices.iter().find(|choice| choice["type"] != "null").map(kind).unwrap();
    }
    let name = match &schema["type"] {
        Value::Array(names) => names.iter().find(|name| *name != "null").unwrap(),
        name => name,
    };
    match (name.as_str().unwrap(), schema.get("format").and_then(Value::as_str)) {
        ("array", _) => format!("[{}]", kind(&schema["items"])),
        (name, Some(format)) => format!("{name} {format}"),
        (name, None) => name.to_owned(),
    }
}

/// Calls of all operations: method and path in the description, value of `{key_id}`, body.
const CALLS: [(&str, &str, &str); 21] = [
    (
        "post /v2alpha1/admin/issuedApiKeys",
        "",
        r#"{"name":"n","actor_id":"a","scopes":["s"],"metadata":{"a":1},"ip_restriction":{"allowed_cidrs":["127.0.0.0/8"]},
            "rate_limit_policy":{"quota":1,"window":"1s"}}"#,
    ),
    ("get /v2alpha1/admin/issuedApiKeys", "", ""),
    ("get /v2alpha1/admin/issuedApiKeys/{key_id}", "{issued}", ""),
    ("patch /v2alpha1/admin/issuedApiKeys/{key_id}", "{issued}", r#"{"name":"m"}"#),
    ("post /v2alpha1/admin/importedApiKeys", "", r#"{"name":"n","actor_id":"a","raw_key":"r"}"#),
    ("get /v2alpha1/admin/importedApiKeys", "", ""),
    ("get /v2alpha1/admin/importedApiKeys/{key_id}", "{imported}", ""),
    ("patch /v2alpha1/admin/importedApiKeys/{key_id}", "{imported}", r#"{"name":"m"}"#),
    (
        "post /v2alpha1/admin/importedApiKeys:batchCreate",
        "",
        r#"{"requests":[null,{"name":"n","actor_id":"a","raw_key":"t"}]}"#,
    ),
    (
        "post /v2alpha1/admin/importedApiKeys:batchImport",
        "",
        r#"{"requests":[{"name":"n","actor_id":"a","raw_key":"u"}]}"#,
    ),
    ("post /v2alpha1/admin/apiKeys:verify", "", r#"{"credential":"{secret}"}"#),
    (
        "post /v2alpha1/admin/apiKeys:batchVerify",
        "",
        r#"{"requests":[{"credential":"{secret}"},{"credential":"unknown"},{"credential":"raw"}]}"#,
    ),
    (
        "post /v2alpha1/admin/apiKeys:derive",
        "",
        r#"{"credential":"{secret}","audiences":["x"],"custom_claims":{"c":1}}"#,
    ),
    ("get /v2alpha1/derivedKeys/jwks.json", "", ""),
    ("get /v2alpha1/admin/derivedKeys/jwks.json", "", ""),
    ("post /v2alpha1/admin/issuedApiKeys/{key_id}:rotate", "{issued}", ""),
    ("post /v2alpha1/admin/issuedApiKeys/{key_id}:revoke", "{issued}", ""),
    ("post /v2alpha1/admin/apiKeys/{key_id}:revoke", "{imported}", ""),
    ("post /v2alpha1/admin/importedApiKeys/{key_id}:revoke", "{imported}", ""),
    ("delete /v2alpha1/admin/importedApiKeys/{key_id}", "{imported}", ""),
    ("post /v2alpha1/apiKeys:selfRevoke", "", r#"{"credential":"{other_secret}"}"#),
];

#[tokio::test]
async fn responses_match_the_description() {
    let keygate = Keygate::serve_admin(&json!({}));
    let policy = json!({"quota": 7, "window": "60s"});
    let (issued, secret) = keygate.issue(json!({"rate_limit_policy": policy, "metadata": {"m": 1}})).await;
    let (_, other_secret) = keygate.issue(json!({})).await;
    let imported = keygate.import(json!({"raw_key": "raw"})).await;
    let names =
        [("{issued}", issued), ("{imported}", imported), ("{secret}", secret), ("{other_secret}", other_secret)];
    let fill = |text: &str| names.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value));
    let description = closed(committed());
    for (operation, id, body) in CALLS {
        let (method, path) = operation.split_once(' ').unwrap();
        let line = format!("{} {}", method.to_uppercase(), path.replace("{key_id}", id));
        // Once with a valid body, and once with one that may be rejected.
        for body in [body, "[]"] {
            let response = keygate.send(&fill(&line), fill(body)).await;
            let described = &description["paths"][path][method]["responses"];
            assert!(described.get(response.status.to_string()).is_some(), "{operation}: {response:?} is not described");
            assert_described(&description, operation, &response);
        }
    }
    let described = description["paths"].as_object().unwrap();
    assert_eq!(CALLS.len(), described.values().map(|methods| methods.as_object().unwrap().len()).sum::<usize>());
}

/// Checks that a response is described: by its status, or as any other error.
#[track_caller]
fn assert_described(description: &Value, operation: &str, response: &AdminResponse) {
    let (method, path) = operation.split_once(' ').unwrap();
    let described = &description["paths"][path][method]["responses"];
    let described = described.get(response.status.to_string()).or_else(|| {
        let default = described.get("default");
        default.filter(|_| response.status >= 400)
    });
    let described = described.unwrap_or_else(|| panic!("{operation}: {response:?} is not described"));
    let Some(schema) = described.pointer("/content/application~1json/schema") else {
        assert!(response.body.is_null(), "{operation}: {response:?}");
        return;
    };
    let mut schema = schema.clone();
    schema["components"] = description["components"].clone();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let faults: Vec<String> = validator.iter_errors(&response.body).map(|error| error.to_string()).collect();
    assert!(faults.is_empty(), "{operation} {}: {faults:?} in {}", response.status, response.body);
}

/// The description with `unevaluatedProperties: false`, so that undocumented fields are errors. A schema that is a part of others stays open.
fn closed(mut description: Value) -> Value {
    let schemas = description["components"]["schemas"].as_object_mut().unwrap();
    let parts: BTreeSet<String> = schemas
        .values()
        .filter_map(|schema| schema["allOf"].as_array())
        .flatten()
        .filter_map(|part| Some(part.get("$ref")?.as_str()?.rsplit('/').next()?.to_owned()))
        .collect();
    for (name, schema) in schemas {
        if (schema.get("properties").is_some() || schema.get("allOf").is_some()) && !parts.contains(name) {
            schema["unevaluatedProperties"] = false.into();
        }
    }
    description
}
