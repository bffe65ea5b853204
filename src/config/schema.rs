//! The JSON schema of the configuration, generated from its types.

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::root::Config;

/// The schema, with every part in place, so that paths in it are paths in the configuration.
pub fn json_schema() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<Config>().to_value()
}

/// The parts of a schema that describe an object's members, also where the object may be absent.
pub(super) fn members(schema: &Value) -> Option<&serde_json::Map<String, Value>> {
    let here = schema.get("properties").and_then(Value::as_object);
    here.or_else(|| schema.get("anyOf")?.as_array()?.iter().find_map(members))
}
