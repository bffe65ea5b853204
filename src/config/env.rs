//! Environment variables, applied on top of the file. Variable names are computed from the schema's paths, so setting
//! names that contain underscores are unambiguous. `KEYGATE_DB_DSN` sets `db.dsn`; `TALOS_DB_DSN` and `DB_DSN` are read too, with lower
//! precedence (contract, open questions Q19).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::problems::Problems;
use super::schema::{json_schema, members};
use super::suggestions::{expected, nearest};

/// In ascending order of precedence, after [`BARE`].
const PREFIXES: [&str; 2] = ["TALOS_", "KEYGATE_"];
/// The prefix of variables without one.
const BARE: &str = "";
/// The sections whose settings can be named without a prefix: those of the contract. The names of other sections, such as
/// `GATEWAY_ADDRESS`, are common words that other programs use.
const BARE_SECTIONS: [&str; 11] = [
    "serve",
    "credentials",
    "secrets",
    "db",
    "cache",
    "rate_limit",
    "last_used",
    "log",
    "tracing",
    "quota",
    "multitenancy",
];
/// Variables of the command line tools. They are not settings.
const RESERVED: [&str; 6] = [
    "KEYGATE_ENDPOINT",
    "KEYGATE_ADMIN_KEY",
    "KEYGATE_ADMIN_TOKEN",
    "KEYGATE_CONFIG",
    "KEYGATE_CONFIG_DIR",
    "KEYGATE_PREDECESSOR",
];
/// Protocols of Kubernetes services.
const SERVICE_PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];

/// An environment variable with our prefix that names no setting. Its value is not kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the environment variable {name} names no setting and is ignored{}", suggestion_text(.suggestion.as_deref()))]
pub struct UnknownVariable {
    /// The variable's name.
    pub name: String,
    /// The variable that was probably meant.
    pub suggestion: Option<String>,
}

fn suggestion_text(suggestion: Option<&str>) -> String {
    suggestion.map_or_else(String::new, |name| format!("; did you mean {name}?"))
}

/// The variables that begin with `KEYGATE_` or `TALOS_` and name no setting, ordered by name. They are warnings, not
/// errors: other programs and container platforms set such variables. Variables that Kubernetes injects for a service
/// named `keygate` or `talos` are not listed.
pub fn unknown_variables(variables: &BTreeMap<String, String>) -> Vec<UnknownVariable> {
    let schema = json_schema();
    let leaves = leaves(&schema);
    let unknown = |(name, value): (&String, &String)| {
        let (prefix, suffix) = PREFIXES.iter().find_map(|prefix| Some((prefix, name.strip_prefix(prefix)?)))?;
        if is_reserved(name) || find_leaf(&leaves, suffix).is_some() || is_service_link(name, value) {
            return None;
        }
        let suggestion = nearest(suffix, leaves.iter().map(|leaf| leaf.name.as_str()));
        Some(UnknownVariable { name: name.clone(), suggestion: suggestion.map(|suffix| format!("{prefix}{suffix}")) })
    };
    variables.iter().filter_map(unknown).collect()
}

/// The paths of the settings that a tree has.
pub(super) fn paths_in(schema: &Value, tree: &Value) -> BTreeSet<String> {
    let is_set = |leaf: &&Leaf<'_>| leaf.path.iter().try_fold(tree, |value, name| value.get(name)).is_some();
    leaves(schema).iter().filter(is_set).map(|leaf| leaf.path.join(".")).collect()
}

/// Applies the variables to the tree. A value of the wrong type is an error. Returns the applied variables by the paths of their settings.
pub(super) fn overlay(
    schema: &Value,
    tree: &mut Value,
    variables: &BTreeMap<String, String>,
    problems: &mut Problems,
) -> BTreeMap<String, String> {
    let leaves = leaves(schema);
    let mut applied = BTreeMap::new();
    for prefix in std::iter::once(BARE).chain(PREFIXES) {
        let mut found = Vec::new();
        let ours = variables.iter().filter_map(|(name, text)| Some((name, name.strip_prefix(prefix)?, text)));
        for (name, suffix, text) in ours.filter(|(name, ..)| !is_reserved(name)) {
            if let Some((leaf, index)) = find_leaf(&leaves, suffix)
                && (prefix != BARE || is_bare(leaf, name, text))
            {
                match read(leaf.schema, text, index.is_some()) {
                    Ok(value) => found.push((index, leaf, value, name)),
                    Err(expected) => problems.add(name, &format!("must be {expected}")),
                }
            }
        }
        // By number, not by name: NAME_10 comes after NAME_2. A variable for the whole list comes first.
        found.sort_by_key(|(index, ..)| *index);
        for (index, leaf, value, name) in found {
            set(tree, &leaf.path, index, value);
            applied.insert(leaf.path.join("."), name.clone());
        }
    }
    applied
}

/// Whether a variable without a prefix sets a setting. What Kubernetes injects for a service such as `serve-http` does not.
fn is_bare(leaf: &Leaf<'_>, name: &str, text: &str) -> bool {
    leaf.path.first().is_some_and(|section| BARE_SECTIONS.contains(section)) && !is_service_link(name, text)
}

fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name)
}

/// Whether a variable has the form of those that Kubernetes injects for each service of a namespace, such as
/// `KEYGATE_SERVICE_HOST`, `KEYGATE_SERVICE_PORT_HTTP`, `KEYGATE_PORT` and `KEYGATE_PORT_8080_TCP_ADDR`.
fn is_service_link(name: &str, value: &str) -> bool {
    if name.ends_with("_SERVICE_HOST") || name.ends_with("_SERVICE_PORT") || name.contains("_SERVICE_PORT_") {
        return true;
    }
    if name.ends_with("_PORT") && is_service_url(value) {
        return true;
    }
    // Any `_PORT_`: the name of the service may contain one too.
    name.match_indices("_PORT_").any(|(at, separator)| {
        let mut words = name[at + separator.len()..].split('_');
        let port = words.next().is_some_and(|port| port.parse::<u16>().is_ok());
        let protocol = words.next().is_some_and(|protocol| SERVICE_PROTOCOLS.contains(&protocol));
        let value_fits = match (words.next(), words.next()) {
            (None, _) => is_service_url(value),
            (Some("PROTO" | "PORT" | "ADDR"), None) => true,
            _ => false,
        };
        port && protocol && value_fits
    })
}

fn is_service_url(value: &str) -> bool {
    value.split_once("://").is_some_and(|(scheme, _)| SERVICE_PROTOCOLS.contains(&scheme.to_uppercase().as_str()))
}

/// A setting that a variable can name: any setting that is not a section.
pub(super) struct Leaf<'a> {
    pub(super) path: Vec<&'a str>,
    /// The variable's name without prefix.
    name: String,
    schema: &'a Value,
}

pub(super) fn leaves(schema: &Value) -> Vec<Leaf<'_>> {
    let mut leaves = Vec::new();
    collect_leaves(schema, &mut Vec::new(), &mut leaves);
    leaves
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

/// The setting that a variable names, with the item's index for `NAME_0`.
fn find_leaf<'a, 's>(leaves: &'a [Leaf<'s>], name: &str) -> Option<(&'a Leaf<'s>, Option<usize>)> {
    let by_name = |name: &str| leaves.iter().find(|leaf| leaf.name == name);
    if let Some(leaf) = by_name(name) {
        return Some((leaf, None));
    }
    let (list, digits) = name.rsplit_once('_')?;
    // Only the canonical spelling of a number, so that no two variables name the same item.
    let index = digits.parse::<usize>().ok().filter(|index| index.to_string() == digits)?;
    Some((by_name(list).filter(|leaf| has_type(leaf.schema, "array"))?, Some(index)))
}

fn has_type(schema: &Value, expected: &str) -> bool {
    let matches = |value: &Value| value.as_str() == Some(expected);
    match schema.get("type") {
        Some(Value::Array(types)) => types.iter().any(matches),
        Some(one) => matches(one),
        None => schema
            .get("anyOf")
            .and_then(Value::as_array)
            .is_some_and(|any| any.iter().any(|part| has_type(part, expected))),
    }
}

/// Parses a variable's text as the type of its setting. The error says what the setting expects.
fn read(schema: &Value, text: &str, item: bool) -> Result<Value, String> {
    let begins_with = |letters: &[char]| text.trim_start().starts_with(letters);
    let value = if item {
        // A secret may begin with a bracket: JSON is parsed only where an item may be a mapping.
        let mapping = begins_with(&['{']) && schema.get("items").is_some_and(|items| has_type(items, "object"));
        if mapping { parse(text) } else { Some(text.into()) }
    } else if has_type(schema, "array") {
        let is_block = text.trim_start().starts_with("- ");
        if is_block || begins_with(&['[', '{']) { parse(text) } else { Some(split_list(text)) }
    } else if has_type(schema, "boolean") {
        text.parse().ok().map(Value::Bool)
    } else if has_type(schema, "integer") {
        text.parse::<u64>().ok().map(Value::from)
    } else if has_type(schema, "number") {
        text.parse::<f64>().ok().map(Value::from)
    } else if has_type(schema, "object") {
        parse(text)
    } else {
        Some(text.into())
    };
    let json = if has_type(schema, "array") || has_type(schema, "object") { ", written as JSON or YAML" } else { "" };
    value.ok_or_else(|| {
        if item { "a mapping, written as JSON or YAML".into() } else { format!("{}{json}", expected(schema)) }
    })
}

/// A list or a mapping, as JSON or YAML text.
fn parse(text: &str) -> Option<Value> {
    let parsed = serde_json::from_str(text).ok().or_else(|| serde_saphyr::from_str::<Value>(text).ok());
    parsed.filter(|value| value.is_array() || value.is_object())
}

fn split_list(text: &str) -> Value {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect()
}

fn set(tree: &mut Value, path: &[&str], index: Option<usize>, value: Value) {
    let mut target = tree;
    for name in path {
        if !target.is_object() {
            *target = Value::Object(Map::new());
        }
        target = &mut target[*name];
    }
    match index {
        None => *target = value,
        Some(index) => {
            if !target.is_array() {
                *target = Value::Array(Vec::new());
            }
            if let Value::Array(items) = target {
                // Indices come in ascending order. An index beyond the end appends.
                let index = index.min(items.len());
                items.splice(index..items.len().min(index + 1), [value]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What Kubernetes injects for a service `keygate` with the ports `http` (8080) and `metrics` (4422).
    const SERVICE: [(&str, &str); 13] = [
        ("KEYGATE_SERVICE_HOST", "10.96.12.7"),
        ("KEYGATE_SERVICE_PORT", "8080"),
        ("KEYGATE_SERVICE_PORT_HTTP", "8080"),
        ("KEYGATE_SERVICE_PORT_METRICS", "4422"),
        ("KEYGATE_PORT", "tcp://10.96.12.7:8080"),
        ("KEYGATE_PORT_8080_TCP", "tcp://10.96.12.7:8080"),
        ("KEYGATE_PORT_8080_TCP_PROTO", "tcp"),
        ("KEYGATE_PORT_8080_TCP_PORT", "8080"),
        ("KEYGATE_PORT_8080_TCP_ADDR", "10.96.12.7"),
        ("KEYGATE_PORT_4422_TCP", "tcp://10.96.12.7:4422"),
        ("KEYGATE_PORT_4422_TCP_PROTO", "tcp"),
        ("KEYGATE_PORT_4422_TCP_PORT", "4422"),
        ("KEYGATE_PORT_4422_TCP_ADDR", "10.96.12.7"),
    ];

    fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    fn apply(mut tree: Value, pairs: &[(&str, &str)]) -> (Value, Problems) {
        let mut problems = Problems::default();
        overlay(&json_schema(), &mut tree, &variables(pairs), &mut problems);
        (tree, problems)
    }

    fn errors(pairs: &[(&str, &str)]) -> String {
        apply(json!({}), pairs).1.result(()).unwrap_err().to_string()
    }

    fn warnings(pairs: &[(&str, &str)]) -> Vec<String> {
        unknown_variables(&variables(pairs)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_setting_has_a_variable_of_its_own() {
        let schema = json_schema();
        let leaves = leaves(&schema);
        let names: std::collections::BTreeSet<_> = leaves.iter().map(|leaf| &leaf.name).collect();
        assert_eq!(names.len(), leaves.len());
        assert!(names.contains(&"SECRETS_HMAC_RETIRED".to_owned()) && names.contains(&"GATEWAY_ROUTES".to_owned()));
    }

    #[test]
    fn settings_of_the_contract_are_read_without_a_prefix_with_the_lowest_precedence() {
        let pairs =
            [("DB_DSN", "bare"), ("SECRETS_HMAC_CURRENT", "s"), ("SERVE_HTTP_PORT", "4421"), ("LOG_LEVEL", "warn")];
        let expected = json!({ "db": { "dsn": "bare" }, "secrets": { "hmac": { "current": "s" } },
            "serve": { "http": { "port": 4421 } }, "log": { "level": "warn" } });
        assert_eq!(apply(json!({}), &pairs).0, expected);
        let file = json!({ "db": { "dsn": "file" } });
        for (pairs, dsn) in [
            (&[("DB_DSN", "bare")][..], "bare"),
            (&[("DB_DSN", "bare"), ("TALOS_DB_DSN", "talos")], "talos"),
            (&[("DB_DSN", "bare"), ("TALOS_DB_DSN", "talos"), ("KEYGATE_DB_DSN", "keygate")], "keygate"),
        ] {
            assert_eq!(apply(file.clone(), pairs).0["db"]["dsn"], dsn);
        }
    }

    #[test]
    fn other_programs_variables_without_a_prefix_are_not_read() {
        let service = [("SERVE_HTTP_PORT", "tcp://10.96.12.7:8080"), ("SERVE_HTTP_SERVICE_HOST", "10.96.12.7")];
        let others = [
            ("GATEWAY_ADDRESS", "x"),
            ("GATEWAY_ENABLED", "x"),
            ("EXTERNAL_AUTH_ADDRESS", "x"),
            ("DSN", "x"),
            ("DB", "x"),
        ];
        for pairs in [&service[..], &others] {
            let (tree, problems) = apply(json!({}), pairs);
            assert_eq!(tree, json!({}));
            assert!(problems.is_empty());
            assert!(warnings(pairs).is_empty());
        }
    }

    #[test]
    fn list_items_are_applied_in_numeric_order() {
        let names: Vec<_> = (0..12).map(|index| format!("KEYGATE_SECRETS_HMAC_RETIRED_{index}")).collect();
        let texts: Vec<_> = (0..12).map(|index| format!("secret {index}")).collect();
        let pairs: Vec<_> = names.iter().zip(&texts).map(|(name, text)| (name.as_str(), text.as_str())).collect();
        assert_eq!(apply(json!({}), &pairs).0, json!({ "secrets": { "hmac": { "retired": texts } } }));
    }

    #[test]
    fn list_items_override_the_items_of_the_file() {
        let file = json!({ "serve": { "http": { "cors": { "allowed_origins": ["a", "b"] } } } });
        let name = |rest: &str| format!("KEYGATE_SERVE_HTTP_CORS_ALLOWED_ORIGINS{rest}");
        let (tree, _) = apply(file, &[(&name("_1"), "c"), (&name("_7"), "d")]);
        assert_eq!(tree["serve"]["http"]["cors"]["allowed_origins"], json!(["a", "c", "d"]));
        let (tree, _) = apply(json!({}), &[(&name(""), "x, y"), (&name("_0"), "z")]);
        assert_eq!(tree["serve"]["http"]["cors"]["allowed_origins"], json!(["z", "y"]));
    }

    #[test]
    fn mappings_are_parsed_as_json() {
        let (tree, _) = apply(
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
    fn invalid_values_are_errors_that_do_not_show_the_value() {
        let text = errors(&[
            ("KEYGATE_CACHE_ENABLED", "hunter2"),
            ("KEYGATE_SERVE_HTTP_PORT", "-hunter2"),
            ("KEYGATE_TRACING_SAMPLE_RATE", "hunter2"),
            ("KEYGATE_GATEWAY_UPSTREAMS", "hunter2"),
            ("KEYGATE_SECRETS_HMAC_RETIRED_0", "{hunter2"),
        ]);
        insta::assert_snapshot!(text);
        assert!(!text.contains("hunter2"));
    }

    #[test]
    fn unknown_variables_are_warnings_that_do_not_show_the_value() {
        let pairs = [
            ("KEYGATE_DB_DNS", "hunter2"),
            ("KEYGATE_SECRETS_HMAC_RETIRED_01", "hunter2"),
            ("KEYGATE_SOMETHING_ELSE", "hunter2"),
            ("TALOS_DB_DSM", "hunter2"),
        ];
        let (tree, problems) = apply(json!({}), &pairs);
        assert_eq!((tree, problems.result(())), (json!({}), Ok(())));
        assert_eq!(
            warnings(&pairs),
            [
                "the environment variable KEYGATE_DB_DNS names no setting and is ignored; did you mean KEYGATE_DB_DSN?",
                "the environment variable KEYGATE_SECRETS_HMAC_RETIRED_01 names no setting and is ignored; did you mean \
                 KEYGATE_SECRETS_HMAC_RETIRED?",
                "the environment variable KEYGATE_SOMETHING_ELSE names no setting and is ignored",
                "the environment variable TALOS_DB_DSM names no setting and is ignored; did you mean TALOS_DB_DSN?",
            ]
        );
    }

    #[test]
    fn variables_that_are_not_settings_are_ignored() {
        let others = [
            "KEYGATE_ENDPOINT",
            "KEYGATE_ADMIN_KEY",
            "KEYGATE_ADMIN_TOKEN",
            "KEYGATE_CONFIG",
            "KEYGATE_CONFIG_DIR",
            "DSN",
            "KEYGATED",
        ];
        let pairs = others.map(|name| (name, "x"));
        let (tree, problems) = apply(json!({}), &pairs);
        assert_eq!((tree, problems.result(())), (json!({}), Ok(())));
        assert_eq!(warnings(&pairs), Vec::<String>::new());
    }

    #[test]
    fn kubernetes_service_links_are_ignored() {
        let others = [
            ("TALOS_SERVICE_HOST", "10.96.0.9"),
            ("TALOS_PORT", "udp://10.96.0.9:53"),
            ("KEYGATE_ADMIN_SERVICE_PORT", "4420"),
            ("KEYGATE_PORT_PROXY_PORT_53_UDP", "udp://10.96.0.9:53"),
            ("KEYGATE_PORT_PROXY_PORT_53_UDP_ADDR", "10.96.0.9"),
        ];
        let (tree, problems) = apply(json!({}), &[&SERVICE[..], &others].concat());
        assert_eq!((tree, problems.result(())), (json!({}), Ok(())));
        assert_eq!(warnings(&[&SERVICE[..], &others].concat()), Vec::<String>::new());
    }

    #[test]
    fn variables_that_only_resemble_service_links_are_warnings() {
        for pair in [
            ("KEYGATE_PORT", "8080"),
            ("KEYGATE_PORT", "http://10.96.0.9"),
            ("KEYGATE_PORT_8080_TCP", "8080"),
            ("KEYGATE_PORT_8080_TCP_NAME", "http"),
            ("KEYGATE_PORT_8080_TCP_ADDR_6", "::1"),
            ("KEYGATE_PORT_HTTP_TCP_PORT", "8080"),
            ("KEYGATE_PORT_8080_ICMP_PORT", "8080"),
            ("KEYGATE_PORT_99999_TCP_PORT", "8080"),
        ] {
            assert_eq!(warnings(&[pair]).len(), 1, "{pair:?}");
        }
    }

    #[test]
    fn a_setting_takes_precedence_over_a_service_link() {
        let (tree, _) = apply(json!({}), &[("KEYGATE_SERVE_HTTP_PORT", "4421")]);
        assert_eq!(tree["serve"]["http"]["port"], 4421);
        let pair = ("KEYGATE_SERVE_HTTP_PORT", "tcp://10.96.12.7:8080");
        assert!(errors(&[pair]).contains("KEYGATE_SERVE_HTTP_PORT: must be a whole number"));
        assert_eq!(warnings(&[pair]), Vec::<String>::new());
    }
}
