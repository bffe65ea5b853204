//! JSON schemas, of settings and of the admin API, in words.

use std::fmt::Write;

use serde_json::Value;

use super::markdown::{anchor, code, list};

/// The alternatives of a schema without `null`; the schema itself if it has none.
fn alternatives(schema: &Value) -> Vec<&Value> {
    let all = ["anyOf", "oneOf"].iter().find_map(|name| schema[name].as_array());
    let some = all.map(|all| all.iter().filter(|one| one["type"] != "null").collect::<Vec<_>>());
    match some.as_deref() {
        Some([one]) => alternatives(one),
        Some(some) => some.to_vec(),
        None => vec![schema],
    }
}

/// The type and the bounds.
pub(super) fn kind(schema: &Value) -> String {
    let mut kinds: Vec<_> = alternatives(schema).into_iter().map(one_kind).collect();
    kinds.dedup();
    kinds.join(" or ")
}

fn one_kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        return format!("[{name}](#{})", anchor(name));
    }
    let kind = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().find(|kind| *kind != "null").and_then(Value::as_str),
        kind => kind.as_str(),
    };
    let name = match (kind, schema["format"].as_str()) {
        _ if !choices(schema).is_empty() => "one of the values".to_owned(),
        (Some("string"), Some("go-duration")) => return "duration".to_owned(),
        (Some("string"), Some("date-time")) => return "RFC 3339 time".to_owned(),
        (Some("string"), _) => "text".to_owned(),
        (Some("array"), _) => format!("list of {}", kind_of_items(&schema["items"])),
        (Some("object"), _) if schema["additionalProperties"].is_object() => {
            format!("mapping of names to {}", kind_of_items(&schema["additionalProperties"]))
        }
        (Some("object"), _) => "object".to_owned(),
        (Some(name), _) => name.to_owned(),
        (None, _) => "any".to_owned(),
    };
    list(std::iter::once(name).chain(bounds(schema)))
}

fn kind_of_items(schema: &Value) -> String {
    match kind(schema) {
        kind if kind == "object" => "objects".to_owned(),
        kind if kind.contains(", ") => format!("({kind})"),
        kind => kind,
    }
}

/// The bounds, such as `1 to 255 characters`.
fn bounds(schema: &Value) -> Vec<String> {
    let range = |least: &str, most: &str, unit: &str| match (&schema[least], &schema[most]) {
        (Value::Null, Value::Null) => None,
        (least, Value::Null) => Some(format!("{least} or more{unit}")),
        (Value::Null, most) => Some(format!("at most {most}{unit}")),
        (least, most) => Some(format!("{least} to {most}{unit}")),
    };
    let pattern = schema["pattern"].as_str().map(|pattern| format!("matching {}", code(pattern)));
    let ranges = [
        range("minimum", "maximum", ""),
        range("minLength", "maxLength", " characters"),
        range("minItems", "maxItems", " items"),
        pattern,
    ];
    ranges.into_iter().flatten().collect()
}

/// The values that a schema allows, each with its meaning, which may be empty.
pub(super) fn choices(schema: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let choices = |one: &Value| -> Vec<(String, String)> {
        let description = one["description"].as_str().unwrap_or_default();
        match (&one["const"], &one["enum"]) {
            (Value::Null, Value::Array(values)) => values.iter().map(|value| (text(value), String::new())).collect(),
            (Value::Null, _) => Vec::new(),
            (value, _) => vec![(text(value), description.to_owned())],
        }
    };
    alternatives(schema).into_iter().flat_map(choices).collect()
}

/// The description, and the values with their meanings.
pub(super) fn meaning(schema: &Value) -> String {
    let mut text = schema["description"].as_str().unwrap_or_default().to_owned();
    let items = ["items", "additionalProperties"].iter().map(|name| &schema[name]).find(|items| items.is_object());
    let choices = match choices(schema) {
        choices if choices.is_empty() => items.map(choices_of_items).unwrap_or_default(),
        choices => choices,
    };
    for (value, description) in choices {
        let separator = if description.is_empty() { "" } else { ": " };
        write!(text, "<br>{}{separator}{description}", code(&value)).unwrap();
    }
    text
}

fn choices_of_items(items: &Value) -> Vec<(String, String)> {
    if items.get("$ref").is_some() { Vec::new() } else { choices(items) }
}

/// Whether an object must have a member.
pub(super) fn is_required(object: &Value, member: &str) -> bool {
    object["required"].as_array().is_some_and(|required| required.iter().any(|name| name == member))
}
