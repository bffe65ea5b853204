//! The example and the defaults of `docs/upstreams.md`.

use serde_json::{Value, json};

use crate::support::documentation::documented;
use crate::support::keygate::Keygate;
use crate::support::wait::wait_for;

const DOCUMENT: &str = include_str!("../../../docs/upstreams.md");
const SCHEMA: &str = include_str!("../../../config/schema.json");

/// The default of a setting as the document writes it; `None` if it has none. Of a setting with named values the schema has no default, so
/// any of them is one.
fn default_of(upstream: &Value, setting: &str, documented: &str) -> Option<String> {
    let mut schema = upstream;
    for (depth, name) in setting.split('.').enumerate() {
        // Of a section that may be absent, the schema is one of two.
        let section = schema.get("anyOf").and_then(|either| either.get(0)).unwrap_or(schema);
        let next = &section["properties"][name];
        assert!(!next.is_null(), "{setting} is not a setting, at {depth}");
        schema = next;
    }
    if let Some(values) = schema.get("oneOf").and_then(Value::as_array) {
        assert!(values.iter().any(|value| value["const"] == documented), "{setting}: {documented}");
        return Some(documented.to_owned());
    }
    match schema.get("default")? {
        Value::Null => None,
        Value::String(text) if text.ends_with("m0s") => Some(text.trim_end_matches("0s").to_owned()),
        Value::String(text) if text.is_empty() => Some(r#""""#.to_owned()),
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

#[test]
fn documented_defaults_are_those_of_the_settings() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let upstream = &schema["properties"]["gateway"]["properties"]["upstreams"]["additionalProperties"];
    let rows = DOCUMENT
        .split("| setting | default | meaning |")
        .skip(1)
        .flat_map(|table| table.lines().skip(2).take_while(|line| line.starts_with('|')));
    let mut count = 0;
    for row in rows {
        let cells: Vec<_> = row.split('|').map(|cell| cell.trim().replace('`', "")).collect();
        let documented = &cells[2];
        let default = default_of(upstream, &cells[1], documented);
        let is_absent = ["none", "of the endpoint"].contains(&documented.as_str());
        assert_eq!(default.as_ref(), (!is_absent).then_some(documented), "{}", cells[1]);
        count += 1;
    }
    assert_eq!(count, 28, "all settings are in tables");
}

#[tokio::test]
async fn documented_example_starts() {
    let config: Value = serde_saphyr::from_str(&documented("upstreams.md", "keygate.yaml")).unwrap();
    let keygate = Keygate::serve(&config["gateway"], &json!({}));
    let shown: Value = wait_for(async || {
        let response = keygate.http.get(format!("{}/health/ready", keygate.metrics)).send().await.unwrap();
        response.error_for_status().map_err(|error| error.to_string())
    })
    .await
    .json()
    .await
    .unwrap();
    let endpoints: Vec<_> = shown["upstreams"]["orders"].as_object().unwrap().keys().collect();
    assert_eq!(endpoints, ["10.0.0.1:9000", "unix:/run/orders.sock"]);
}
