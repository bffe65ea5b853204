//! The API's description of itself: served, shipped and printed alike, and true to the contract.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::header::CONTENT_TYPE;
use serde_json::Value;

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
    let mut facts = serde_json::json!({
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
    let mut facts = serde_json::json!({ "members": members });
    if name != "ErrorBody" && (name.ends_with("Request") || name.ends_with("Body")) {
        let required = schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
        let required: BTreeSet<&str> = required.iter().filter_map(Value::as_str).collect();
        facts["required"] = serde_json::json!(required);
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
