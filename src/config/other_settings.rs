//! The rules across settings in a configuration that has values of the wrong type, so that one run reports all errors.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::problems::{ConfigError, Problems};
use super::root::Config;

/// Applies the rules across settings to a tree in which the settings that have an error already have another value. Reports only what these
/// values cannot have caused.
pub(super) fn check_other_settings(schema: &Value, tree: &Value, problems: &mut Problems) {
    let wrong: Vec<String> = problems.paths().map(str::to_owned).collect();
    let mut rest = tree.clone();
    for path in &wrong {
        repair(schema, &mut rest, path);
    }
    let Ok(config) = Config::deserialize(&rest) else { return };
    let mut others = Problems::default();
    config.collect_problems(&mut others);
    problems.extend(others, |error| wrong.iter().all(|wrong| !concerns(error, wrong)));
}

/// Whether an error is about a setting or the item of a list that it belongs to: at its path, or because its message names it.
fn concerns(error: &ConfigError, setting: &str) -> bool {
    let item = setting.rsplit_once('.').map(|(parent, _)| parent).filter(|parent| is_item(parent));
    let names = |path: &str| error.message.contains(path);
    is_below(&error.path, setting) || is_below(setting, &error.path) || names(setting) || item.is_some_and(names)
}

/// Whether a path is that of an item of a list.
fn is_item(path: &str) -> bool {
    path.rsplit_once('.').is_some_and(|(_, name)| name.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Whether a path is another one or below it.
fn is_below(path: &str, other: &str) -> bool {
    path.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Removes a setting, or gives it a value of the right type if it is required. Items of lists and maps stay, because other settings name
/// them.
fn repair(schema: &Value, tree: &mut Value, path: &str) {
    let (parent, name) = path.rsplit_once('.').unwrap_or(("", path));
    let parents = || parent.split('.').filter(|name| !name.is_empty());
    let Some(holder) = parents().try_fold(schema, child) else { return };
    let Some(value) = parents().try_fold(tree, |tree, name| match tree {
        Value::Object(members) => members.get_mut(name),
        Value::Array(items) => items.get_mut(name.parse::<usize>().ok()?),
        _ => None,
    }) else {
        return;
    };
    let placeholder = child(holder, name).map(placeholder);
    match (value, placeholder) {
        (Value::Object(members), Some(placeholder)) if !is_optional(holder, name) => {
            members.insert(name.to_owned(), placeholder);
        }
        (Value::Object(members), _) => {
            members.remove(name);
        }
        (Value::Array(items), Some(placeholder)) => {
            if let Some(item) = name.parse().ok().and_then(|index: usize| items.get_mut(index)) {
                *item = placeholder;
            }
        }
        _ => {}
    }
}

/// The parts of a schema that describe a value which is there, also where it may be absent.
fn parts(schema: &Value) -> impl Iterator<Item = &Value> {
    let either = ["anyOf", "oneOf"].into_iter().filter_map(|name| schema.get(name)?.as_array()).flatten();
    std::iter::once(schema).chain(either)
}

/// The schema of a member of an object, of an entry of a map, or of an item of a list.
fn child<'a>(schema: &'a Value, name: &str) -> Option<&'a Value> {
    parts(schema).find_map(|part| {
        let member = part.get("properties").and_then(|members| members.get(name));
        let entry = part.get("additionalProperties").filter(|entry| entry.is_object());
        member.or(entry).or_else(|| part.get("items"))
    })
}

/// Whether a member of an object may be absent.
fn is_optional(schema: &Value, name: &str) -> bool {
    let is_listed = |part: &Value| {
        part.get("required").and_then(Value::as_array).is_some_and(|names| names.iter().any(|other| other == name))
    };
    let is_member = |part: &Value| part.get("properties").is_some_and(|members| members.get(name).is_some());
    parts(schema).any(is_member) && !parts(schema).any(is_listed)
}

/// A value of the right type.
fn placeholder(schema: &Value) -> Value {
    let has_value = |name: &str| parts(schema).find_map(|part| part.get(name)).filter(|value| !value.is_null());
    if let Some(value) = has_value("default").or_else(|| has_value("const")) {
        return value.clone();
    }
    if let Some(value) = has_value("enum").and_then(|values| values.get(0)) {
        return value.clone();
    }
    let typed = parts(schema).find_map(|part| Some((type_of(part)?, part)));
    let Some((name, part)) = typed else { return Value::Null };
    match name {
        "integer" | "number" => part.get("minimum").cloned().unwrap_or(1.into()),
        "boolean" => false.into(),
        "array" => Value::Array(
            part.get("items").filter(|_| part.get("minItems").is_some()).map(placeholder).into_iter().collect(),
        ),
        "object" => {
            let required =
                part.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
            let members = required.filter_map(|name| Some((name.to_owned(), placeholder(child(part, name)?))));
            Value::Object(members.collect::<Map<_, _>>())
        }
        _ if part.get("format").is_some() || part.get("pattern").is_some() => "1s".into(),
        _ => "placeholder".into(),
    }
}

/// The name of the type that a part of a schema describes, other than null.
fn type_of(part: &Value) -> Option<&str> {
    let either = part.get("type")?;
    let names = either.as_array().map_or(std::slice::from_ref(either), Vec::as_slice);
    names.iter().filter_map(Value::as_str).find(|name| *name != "null")
}
