//! The API's description of itself: served, shipped and printed alike, and true to the contract.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};

use crate::support::keygate::{Keygate, command};

const SHIPPED: &str = include_str!("../../config/openapi.json");
/// Facts of the contract: paths, names, types, values, codes. Its `Status`, which no answer has, is left out.
const CONTRACT: &str = include_str!("openapi/contract.json");

fn contract() -> Value {
    serde_json::from_str(CONTRACT).unwrap()
}

fn shipped() -> Value {
    serde_json::from_str(SHIPPED).unwrap()
}

#[tokio::test]
async fn what_is_served_and_printed_is_what_is_shipped() {
    let printed = command().args(["config", "openapi"]).output().unwrap();
    assert!(
        String::from_utf8(printed.stdout).unwrap() == SHIPPED,
        "config/openapi.json is stale: cargo run -q --all-features -- config openapi > config/openapi.json"
    );
    let keygate = Keygate::dev(&["--ephemeral"]);
    let served = keygate.http.get(format!("{}/openapi.json", keygate.admin)).send().await.unwrap();
    assert_eq!(served.headers()[CONTENT_TYPE], "application/json");
    assert!(served.text().await.unwrap() == SHIPPED, "/openapi.json is not config/openapi.json");
}

#[test]
fn the_operations_are_the_contracts() {
    let mut operations = BTreeMap::new();
    for (path, methods) in shipped()["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            operations.insert(format!("{} {path}", method.to_uppercase()), facts_of_operation(operation));
        }
    }
    assert_facts(&operations, &contract()["operations"]);
    let ids: BTreeSet<String> = operations.values().map(|operation| operation["operation_id"].to_string()).collect();
    assert_eq!((operations.len(), ids.len()), (21, 21), "18 operations and 3 older paths, each with an id of its own");
}

#[test]
fn the_messages_are_the_contracts() {
    let shipped = shipped();
    let schemas = shipped["components"]["schemas"].as_object().unwrap();
    let messages = schemas
        .iter()
        .filter(|(_, schema)| schema.get("enum").is_none())
        .map(|(name, schema)| (name.clone(), facts_of_message(name, resolved(schema, &shipped))))
        .collect();
    assert_facts(&messages, &contract()["messages"]);
}

#[test]
fn the_enums_are_the_contracts_value_by_value() {
    let shipped = shipped();
    let schemas = shipped["components"]["schemas"].as_object().unwrap();
    let enums = schemas.iter().filter_map(|(name, schema)| Some((name.clone(), schema.get("enum")?.clone()))).collect();
    assert_facts(&enums, &contract()["enums"]);
}

/// Compares one by one, so that a difference is named.
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
            .map(|(status, answer)| (status.clone(), content(answer)))
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

/// The message that is carried; `null` for none.
fn content(carrier: &Value) -> Value {
    carrier.pointer("/content/application~1json/schema").map_or(Value::Null, |schema| kind(schema).into())
}

/// Members and their types; of requests also which of them are required.
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

/// A schema that is only the name of another one is that one.
fn resolved<'a>(schema: &'a Value, description: &'a Value) -> &'a Value {
    match schema.get("$ref").and_then(Value::as_str) {
        Some(reference) => resolved(description.pointer(&reference[1..]).unwrap(), description),
        None => schema,
    }
}

/// A type in words: `string date-time`, `[string]`, or the name of a message. Whether `null` is possible is left out.
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

/// Calls of all operations, with keys of their own: what the description calls the operation, and what is called.
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
async fn answers_are_what_the_description_says_of_them() {
    let keygate = Keygate::serve_admin(&json!({}));
    let policy = json!({"quota": 7, "window": "60s"});
    let (issued, secret) = keygate.issue(json!({"rate_limit_policy": policy, "metadata": {"m": 1}})).await;
    let (_, other_secret) = keygate.issue(json!({})).await;
    let imported = keygate.import(json!({"raw_key": "raw"})).await;
    let names =
        [("{issued}", issued), ("{imported}", imported), ("{secret}", secret), ("{other_secret}", other_secret)];
    let fill = |text: &str| names.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value));
    let description = closed(shipped());
    for (operation, id, body) in CALLS {
        let (method, path) = operation.split_once(' ').unwrap();
        let line = format!("{} {}", method.to_uppercase(), path.replace("{key_id}", id));
        // Once well, and once more in a way that may be refused.
        for body in [body, "[]"] {
            let answer = keygate.send(&fill(&line), fill(body)).await;
            let described = &description["paths"][path][method]["responses"];
            let status = answer.status.to_string();
            let response = described.get(&status).unwrap_or_else(|| panic!("{operation}: {status} is not described"));
            let Some(schema) = response.pointer("/content/application~1json/schema") else {
                assert!(answer.body.is_null(), "{operation}: {answer:?}");
                continue;
            };
            let mut schema = schema.clone();
            schema["components"] = description["components"].clone();
            let validator = jsonschema::validator_for(&schema).unwrap();
            let faults: Vec<String> = validator.iter_errors(&answer.body).map(|error| error.to_string()).collect();
            assert!(faults.is_empty(), "{operation} {status}: {faults:?} in {}", answer.body);
        }
    }
    let described = description["paths"].as_object().unwrap();
    assert_eq!(CALLS.len(), described.values().map(|methods| methods.as_object().unwrap().len()).sum::<usize>());
}

/// The description with the messages closed: a member that is not described is a fault.
fn closed(mut description: Value) -> Value {
    for schema in description["components"]["schemas"].as_object_mut().unwrap().values_mut() {
        if schema.get("properties").is_some() {
            schema["additionalProperties"] = false.into();
        }
    }
    description
}
