//! Validates a tree against the schema, with messages for operators. Messages show paths and what is expected, never a value.

use jsonschema::ValidationError;
use jsonschema::error::ValidationErrorKind as Kind;
use serde_json::Value;

use super::problems::Problems;
use super::suggestions::{expected, nearest};
use crate::duration::{DURATION_FORMAT, DURATION_PATTERN, DurationError, parse_go};

/// Adds the schema's errors. A path that has an error already gets no second one.
pub(super) fn check(schema: &Value, tree: &Value, problems: &mut Problems) {
    let options =
        jsonschema::options().should_validate_formats(true).with_format(DURATION_FORMAT, |text| parse_go(text).is_ok());
    let validator = match options.build(schema) {
        Ok(validator) => validator,
        Err(error) => return problems.add("schema", &error.masked().to_string()),
    };
    for error in validator.iter_errors(tree) {
        let path = dotted(error.instance_path().as_str());
        match error.kind() {
            Kind::AdditionalProperties { unexpected } => {
                for name in unexpected {
                    problems.add_first(&join(&path, name), &unknown(schema, &error, name));
                }
            }
            Kind::Required { property } => {
                problems.add_first(&join(&path, property.as_str().unwrap_or_default()), "is required");
            }
            kind => problems.add_first(&path, &message(schema, &error, kind)),
        }
    }
}

/// Converts numbers such as `80.0` to integers: the schema accepts them as integers, the types do not.
pub(super) fn normalize_numbers(tree: &mut Value) {
    match tree {
        Value::Object(members) => members.values_mut().for_each(normalize_numbers),
        Value::Array(items) => items.iter_mut().for_each(normalize_numbers),
        Value::Number(number) if number.is_f64() => {
            let whole = number.as_f64().filter(|value| value.fract() == 0.0);
            if let Some(whole) = whole.and_then(|value| format!("{value:.0}").parse::<u64>().ok()) {
                *tree = whole.into();
            }
        }
        _ => {}
    }
}

fn message(schema: &Value, error: &ValidationError<'_>, kind: &Kind) -> String {
    let holder = parent(schema, error.schema_path().as_str()).unwrap_or(&Value::Null);
    match kind {
        Kind::Type { .. } => {
            let expected = expected(holder);
            let hint = match error.instance().as_ref() {
                Value::Null => "; remove the name to keep the defaults",
                Value::Number(_) | Value::Bool(_) if expected.starts_with("a text") => "; put it in quotes",
                _ => "",
            };
            format!("must be {expected}{hint}")
        }
        Kind::OneOfNotValid { .. } | Kind::AnyOf { .. } | Kind::Enum { .. } | Kind::Constant { .. } => {
            format!("must be {}", expected(holder))
        }
        Kind::Format { format } if format == DURATION_FORMAT => DurationError.to_string(),
        Kind::Pattern { pattern } if pattern == DURATION_PATTERN => DurationError.to_string(),
        Kind::Pattern { pattern } => format!("must match {pattern}"),
        Kind::Minimum { limit } => format!("must be {limit} or more"),
        Kind::Maximum { limit } => format!("must be {limit} or less"),
        Kind::MinLength { limit: 1 } => "must not be empty".into(),
        Kind::MinLength { limit } => format!("must have {limit} characters or more"),
        Kind::MaxLength { limit } => format!("must have {limit} characters or fewer"),
        Kind::MinItems { .. } => "must have at least one entry".into(),
        _ => error.masked().to_string(),
    }
}

fn unknown(schema: &Value, error: &ValidationError<'_>, name: &str) -> String {
    let members = parent(schema, error.schema_path().as_str()).and_then(|holder| holder.get("properties")?.as_object());
    match nearest(name, members.into_iter().flat_map(|members| members.keys().map(String::as_str))) {
        Some(near) => format!("is not a setting; did you mean {near}?"),
        None => "is not a setting; config/keygate.yaml lists all settings".into(),
    }
}

/// The part of the schema that contains the keyword at a pointer.
fn parent<'a>(schema: &'a Value, pointer: &str) -> Option<&'a Value> {
    schema.pointer(pointer.rsplit_once('/')?.0)
}

/// A JSON pointer as a path with dots.
fn dotted(pointer: &str) -> String {
    let segments = pointer.split('/').skip(1).map(|segment| segment.replace("~1", "/").replace("~0", "~"));
    segments.collect::<Vec<_>>().join(".")
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
