//! Environment variables over the file. Names are computed from the schema's paths, so keys that contain underscores
//! themselves are no ambiguity. `KEYGATE_DB_DSN` sets `db.dsn`; the form `TALOS_DB_DSN` is read too, `KEYGATE_` wins.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::load::Problems;
use super::schema::members;
use super::suggestions::{nearest, wanted};

const PREFIXES: [&str; 2] = ["TALOS_", "KEYGATE_"];
/// Variables of the command line tools, which are no settings.
const RESERVED: [&str; 3] = ["KEYGATE_ENDPOINT", "KEYGATE_ADMIN_TOKEN", "KEYGATE_CONFIG"];

/// Lays the variables over the tree. Unknown variables with our prefix, and values of the wrong type, are problems.
pub(super) fn overlay(schema: &Value, tree: &mut Value, variables: &BTreeMap<String, String>, problems: &mut Problems) {
    let mut leaves = Vec::new();
    collect_leaves(schema, &mut Vec::new(), &mut leaves);
    for prefix in PREFIXES {
        let mut found = Vec::new();
        let ours = variables.iter().filter_map(|(name, text)| Some((name, name.strip_prefix(prefix)?, text)));
        for (name, suffix, text) in ours.filter(|(name, ..)| !RESERVED.contains(&name.as_str())) {
            match find_leaf(&leaves, suffix) {
                Some((leaf, index)) => match read(leaf.schema, text, index.is_some()) {
                    Ok(value) => found.push((index, leaf, value)),
                    Err(wanted) => problems.add(name, &format!("must be {wanted}")),
                },
                // Other programs may well have variables that begin with TALOS_.
                None if prefix == "KEYGATE_" => problems.add(name, &unknown(prefix, suffix, &leaves)),
                None => {}
            }
        }
        // By number, not by name: NAME_10 comes after NAME_2. The whole list, if it is there too, comes first.
        found.sort_by_key(|(index, ..)| *index);
        for (index, leaf, value) in found {
            set(tree, &leaf.path, index, value);
        }
    }
}

fn unknown(prefix: &str, suffix: &str, leaves: &[Leaf<'_>]) -> String {
    match nearest(suffix, leaves.iter().map(|leaf| leaf.name.as_str())) {
        Some(name) => format!("is an environment variable that names no setting; did you mean {prefix}{name}?"),
        None => "is an environment variable that names no setting; unset it".into(),
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
    let (list, digits) = name.rsplit_once('_')?;
    // One way to write each number, so that no two variables mean the same item.
    let index = digits.parse::<usize>().ok().filter(|index| index.to_string() == digits)?;
    Some((by_name(list).filter(|leaf| has_type(leaf.schema, "array"))?, Some(index)))
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

/// The value that a text means to a setting, or what the setting wants.
fn read(schema: &Value, text: &str, item: bool) -> Result<Value, String> {
    let begins_with = |letters: &[char]| text.trim_start().starts_with(letters);
    let value = if item {
        // A secret may begin with a bracket: only what may be a mapping is read as one.
        let mapping = begins_with(&['{']) && schema.get("items").is_some_and(|items| has_type(items, "object"));
        if mapping { serde_json::from_str(text).ok() } else { Some(text.into()) }
    } else if has_type(schema, "array") {
        if begins_with(&['[', '{']) { serde_json::from_str(text).ok() } else { Some(split_list(text)) }
    } else if has_type(schema, "boolean") {
        text.parse().ok().map(Value::Bool)
    } else if has_type(schema, "integer") {
        text.parse::<u64>().ok().map(Value::from)
    } else if has_type(schema, "number") {
        text.parse::<f64>().ok().map(Value::from)
    } else if has_type(schema, "object") {
        serde_json::from_str(text).ok()
    } else {
        Some(text.into())
    };
    let json = if has_type(schema, "array") || has_type(schema, "object") { ", written as JSON" } else { "" };
    value.ok_or_else(|| if item { "a mapping, written as JSON".into() } else { format!("{}{json}", wanted(schema)) })
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
                // Numbers come in ascending order; a gap is closed.
                let index = index.min(items.len());
                items.splice(index..items.len().min(index + 1), [value]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::json_schema;
    use super::*;

    fn laid(mut tree: Value, pairs: &[(&str, &str)]) -> (Value, Problems) {
        let variables = pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        let mut problems = Problems::default();
        overlay(&json_schema(), &mut tree, &variables, &mut problems);
        (tree, problems)
    }

    fn refused(pairs: &[(&str, &str)]) -> String {
        laid(json!({}), pairs).1.result(()).unwrap_err().to_string()
    }

    #[test]
    fn no_two_settings_have_one_variable() {
        let (schema, mut leaves) = (json_schema(), Vec::new());
        collect_leaves(&schema, &mut Vec::new(), &mut leaves);
        let names: std::collections::BTreeSet<_> = leaves.iter().map(|leaf| &leaf.name).collect();
        assert_eq!(names.len(), leaves.len());
        assert!(names.contains(&"SECRETS_HMAC_RETIRED".to_owned()) && names.contains(&"GATEWAY_ROUTES".to_owned()));
    }

    #[test]
    fn items_are_laid_by_number_and_none_is_lost() {
        let names: Vec<_> = (0..12).map(|index| format!("KEYGATE_SECRETS_HMAC_RETIRED_{index}")).collect();
        let texts: Vec<_> = (0..12).map(|index| format!("secret {index}")).collect();
        let pairs: Vec<_> = names.iter().zip(&texts).map(|(name, text)| (name.as_str(), text.as_str())).collect();
        assert_eq!(laid(json!({}), &pairs).0, json!({ "secrets": { "hmac": { "retired": texts } } }));
    }

    #[test]
    fn an_item_goes_over_the_list_that_is_there() {
        let file = json!({ "serve": { "http": { "cors": { "allowed_origins": ["a", "b"] } } } });
        let name = |rest: &str| format!("KEYGATE_SERVE_HTTP_CORS_ALLOWED_ORIGINS{rest}");
        let (tree, _) = laid(file, &[(&name("_1"), "c"), (&name("_7"), "d")]);
        assert_eq!(tree["serve"]["http"]["cors"]["allowed_origins"], json!(["a", "c", "d"]));
        let (tree, _) = laid(json!({}), &[(&name(""), "x, y"), (&name("_0"), "z")]);
        assert_eq!(tree["serve"]["http"]["cors"]["allowed_origins"], json!(["z", "y"]));
    }

    #[test]
    fn mappings_are_written_as_json() {
        let (tree, _) = laid(
            json!({}),
            &[
                ("KEYGATE_GATEWAY_ROUTES", r#"[{"name":"a"}]"#),
                ("KEYGATE_GATEWAY_UPSTREAMS", r#"{"u":{}}"#),
                ("KEYGATE_SECRETS_HMAC_RETIRED_0", r#"{"value":"v"}"#),
                ("KEYGATE_SECRETS_HMAC_RETIRED_1", "[not a list"),
            ],
        );
        assert_eq!(tree["gateway"], json!({ "routes": [{ "name": "a" }], "upstreams": { "u": {} } }));
        assert_eq!(tree["secrets"]["hmac"]["retired"], json!([{ "value": "v" }, "[not a list"]));
    }

    #[test]
    fn a_variable_that_cannot_be_read_is_named_and_its_text_is_not_shown() {
        let text = refused(&[
            ("KEYGATE_CACHE_ENABLED", "hunter2"),
            ("KEYGATE_SERVE_HTTP_PORT", "-hunter2"),
            ("KEYGATE_TRACING_SAMPLE_RATE", "hunter2"),
            ("KEYGATE_GATEWAY_UPSTREAMS", "hunter2"),
            ("KEYGATE_SECRETS_HMAC_RETIRED_0", "{hunter2"),
            ("KEYGATE_SECRETS_HMAC_RETIRED_01", "hunter2"),
        ]);
        insta::assert_snapshot!(text);
        assert!(!text.contains("hunter2"));
    }

    #[test]
    fn variables_that_are_no_settings_are_left_alone() {
        let others = ["KEYGATE_ENDPOINT", "KEYGATE_ADMIN_TOKEN", "KEYGATE_CONFIG", "TALOS_OTHER", "DB_DSN", "KEYGATED"];
        let (tree, problems) = laid(json!({}), &others.map(|name| (name, "x")));
        assert_eq!((tree, problems.result(())), (json!({}), Ok(())));
    }
}
