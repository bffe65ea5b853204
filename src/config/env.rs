//! Environment variables over the file. Names are computed from the schema's paths, so keys that contain underscores
//! themselves are no ambiguity. `KEYGATE_DB_DSN` sets `db.dsn`; the form `TALOS_DB_DSN` is read too, `KEYGATE_` wins.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::load::Problems;
use super::schema::members;

const PREFIXES: [&str; 2] = ["TALOS_", "KEYGATE_"];
/// Variables of the command line tools, which are no settings.
const RESERVED: [&str; 3] = ["KEYGATE_ENDPOINT", "KEYGATE_ADMIN_TOKEN", "KEYGATE_CONFIG"];

/// Lays the variables over the tree. Unknown variables with our prefix, and values of the wrong type, are problems.
pub(super) fn overlay(schema: &Value, tree: &mut Value, variables: &BTreeMap<String, String>, problems: &mut Problems) {
    let mut leaves = Vec::new();
    collect_leaves(schema, &mut Vec::new(), &mut leaves);
    for prefix in PREFIXES {
        let ours = variables.iter().filter_map(|(name, text)| Some((name, name.strip_prefix(prefix)?, text)));
        for (name, suffix, text) in ours {
            if RESERVED.contains(&name.as_str()) {
                continue;
            }
            match find_leaf(&leaves, suffix) {
                Some((leaf, index)) => match read(leaf.schema, text, index.is_some()) {
                    Some(value) => set(tree, &leaf.path, index, value),
                    None => problems.add(name, "has a value of the wrong type for the setting it names"),
                },
                // Other programs may well have variables that begin with TALOS_.
                None if prefix == "KEYGATE_" => problems.add(name, "is an environment variable that names no setting"),
                None => {}
            }
        }
    }
}

struct Leaf<'a> {
    path: Vec<&'a str>,
    name: String,
    schema: &'a Value,
}

fn collect_leaves<'a>(schema: &'a Value, path: &mut Vec<&'a str>, leaves: &mut Vec<Leaf<'a>>) {
    let Some(members) = members(schema) else {
        leaves.push(Leaf { path: path.clone(), name: path.join("_").to_uppercase(), schema });
        return;
    };
    for (name, member) in members {
        path.push(name);
        collect_leaves(member, path, leaves);
        path.pop();
    }
}

/// The setting a variable names, and which item of it for `NAME_0`.
fn find_leaf<'a, 's>(leaves: &'a [Leaf<'s>], name: &str) -> Option<(&'a Leaf<'s>, Option<usize>)> {
    let by_name = |name: &str| leaves.iter().find(|leaf| leaf.name == name);
    if let Some(leaf) = by_name(name) {
        return Some((leaf, None));
    }
    let (list, index) = name.rsplit_once('_')?;
    Some((by_name(list).filter(|leaf| has_type(leaf.schema, "array"))?, Some(index.parse().ok()?)))
}

fn has_type(schema: &Value, wanted: &str) -> bool {
    let matches = |value: &Value| value.as_str() == Some(wanted);
    match schema.get("type") {
        Some(Value::Array(types)) => types.iter().any(matches),
        Some(one) => matches(one),
        None => schema
            .get("anyOf")
            .and_then(Value::as_array)
            .is_some_and(|any| any.iter().any(|part| has_type(part, wanted))),
    }
}

fn read(schema: &Value, text: &str, item: bool) -> Option<Value> {
    let looks_like_json = text.trim_start().starts_with(['[', '{']);
    if item {
        return Some(if looks_like_json { serde_json::from_str(text).ok()? } else { text.into() });
    }
    if has_type(schema, "array") {
        return if looks_like_json { serde_json::from_str(text).ok() } else { Some(split_list(text)) };
    }
    if has_type(schema, "boolean") {
        return text.parse().ok().map(Value::Bool);
    }
    if has_type(schema, "integer") {
        return text.parse::<u64>().ok().map(Value::from);
    }
    if has_type(schema, "number") {
        return text.parse::<f64>().ok().map(Value::from);
    }
    if has_type(schema, "object") {
        return serde_json::from_str(text).ok();
    }
    Some(text.into())
}

fn split_list(text: &str) -> Value {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect()
}

fn set(tree: &mut Value, path: &[&str], index: Option<usize>, value: Value) {
    let mut place = tree;
    for name in path {
        if !place.is_object() {
            *place = Value::Object(Map::new());
        }
        place = &mut place[*name];
    }
    match index {
        None => *place = value,
        Some(index) => {
            if !place.is_array() {
                *place = Value::Array(Vec::new());
            }
            if let Value::Array(items) = place {
                // Indices are taken in the order of their names; a gap is closed.
                let index = index.min(items.len());
                items.splice(index..items.len().min(index + 1), [value]);
            }
        }
    }
}
