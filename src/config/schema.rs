//! The JSON schema of the configuration, generated from its types.

use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde_json::Value;

use super::root::Config;

/// The schema, with every part in place, so that paths in it are paths in the configuration.
pub fn json_schema() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let settings = settings.with_transform(RecursiveTransform(remove_default_of_section));
    settings.into_generator().into_root_schema_for::<Config>().to_value()
}

/// Removes the default of a section, which repeats those of its settings.
fn remove_default_of_section(schema: &mut Schema) {
    if schema.get("default").and_then(Value::as_object).is_some_and(|members| !members.is_empty()) {
        schema.remove("default");
    }
}

/// The parts of a schema that describe an object's members, also where the object may be absent.
pub(crate) fn members(schema: &Value) -> Option<&serde_json::Map<String, Value>> {
    let here = schema.get("properties").and_then(Value::as_object);
    here.or_else(|| schema.get("anyOf")?.as_array()?.iter().find_map(members))
}
