//! Texts for error messages: what a part of the schema expects, and the known name nearest to an unknown one.

use serde_json::Value;

/// What a part of the schema expects, to follow "must be".
pub(super) fn expected(schema: &Value) -> String {
    let mut alternatives = Vec::new();
    collect_alternatives(schema, &mut alternatives);
    alternatives.dedup();
    match alternatives.as_slice() {
        [] => "something else".into(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

fn collect_alternatives(schema: &Value, alternatives: &mut Vec<String>) {
    let listed = |name: &str| schema.get(name).and_then(Value::as_array).into_iter().flatten();
    listed("anyOf").chain(listed("oneOf")).for_each(|part| collect_alternatives(part, alternatives));
    let values = schema.get("const").into_iter().chain(listed("enum")).filter_map(Value::as_str);
    let before = alternatives.len();
    alternatives.extend(values.map(str::to_owned));
    if alternatives.len() == before {
        let one = schema.get("type").filter(|kind| kind.is_string());
        alternatives.extend(one.into_iter().chain(listed("type")).filter_map(|kind| describe(kind.as_str()?, schema)));
    }
}

/// A JSON type in words. `null` is left out: it stands for an absent value.
fn describe(kind: &str, schema: &Value) -> Option<String> {
    let text = match kind {
        "boolean" => "true or false",
        "integer" => "a whole number, 0 or more",
        "number" => "a number",
        "string" => match schema.get("minLength").and_then(Value::as_u64) {
            Some(least) => return Some(format!("a text of {least} characters or more")),
            None => "a text",
        },
        "array" => "a list",
        "object" => match schema.get("properties").and_then(Value::as_object) {
            Some(members) if members.len() < 4 => {
                let names: Vec<_> = members.keys().map(String::as_str).collect();
                return Some(format!("a mapping of {}", names.join(" and ")));
            }
            _ => "a mapping",
        },
        _ => return None,
    };
    Some(text.into())
}

/// The known name nearest to an unknown one by edit distance; `None` if the nearest differs too much to be meant.
pub(super) fn nearest<'a>(unknown: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let distances = known.map(|name| (strsim::osa_distance(unknown, name), name));
    let (distance, name) = distances.min()?;
    (distance <= 1 + name.len() / 5).then_some(name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_similar_names_are_suggested() {
        let known = || ["port", "host", "request_log"].into_iter();
        assert_eq!(nearest("prt", known()), Some("port"));
        assert_eq!(nearest("opr", known()), None);
        assert_eq!(nearest("prot", known()), Some("port"));
        assert_eq!(nearest("requestlog", known()), Some("request_log"));
        assert_eq!(nearest("nonsense", known()), None);
        assert_eq!(nearest("x", std::iter::empty()), None);
    }

    #[test]
    fn schemas_are_described_in_words() {
        let levels =
            json!({ "oneOf": [{ "type": "string", "const": "debug" }, { "type": "string", "const": "info" }] });
        assert_eq!(expected(&levels), "debug or info");
        assert_eq!(expected(&json!({ "type": ["boolean", "null"] })), "true or false");
        let retired = json!({ "anyOf": [{ "type": "string" }, { "type": "object", "properties": { "value": {} } }] });
        assert_eq!(expected(&retired), "a text or a mapping of value");
        assert_eq!(expected(&json!({ "type": "string", "minLength": 32 })), "a text of 32 characters or more");
        assert_eq!(expected(&json!(true)), "something else");
    }
}
