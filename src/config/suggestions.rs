//! Words for errors: what a place in the schema wants, and which known name a wrong one may have meant.

use serde_json::Value;

/// What a part of the schema wants, as in "must be ...".
pub(super) fn wanted(schema: &Value) -> String {
    let mut words = Vec::new();
    collect_wanted(schema, &mut words);
    words.dedup();
    match words.as_slice() {
        [] => "something else".into(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

fn collect_wanted(schema: &Value, words: &mut Vec<String>) {
    let listed = |name: &str| schema.get(name).and_then(Value::as_array).into_iter().flatten();
    listed("anyOf").chain(listed("oneOf")).for_each(|part| collect_wanted(part, words));
    let values = schema.get("const").into_iter().chain(listed("enum")).filter_map(Value::as_str);
    let before = words.len();
    words.extend(values.map(str::to_owned));
    if words.len() == before {
        let one = schema.get("type").filter(|kind| kind.is_string());
        words.extend(one.into_iter().chain(listed("type")).filter_map(|kind| type_word(kind.as_str()?, schema)));
    }
}

/// A type in words; "null" is nothing that anybody would want to write.
fn type_word(kind: &str, schema: &Value) -> Option<String> {
    let word = match kind {
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
    Some(word.into())
}

/// The known name that is nearest to a wrong one, if it is near enough to be what was meant.
pub(super) fn nearest<'a>(wrong: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let distances = known.map(|name| (distance(wrong, name), name));
    let (distance, name) = distances.min()?;
    (distance <= 1 + name.len() / 5).then_some(name)
}

/// How many letters have to be put in, taken out or exchanged.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (index, letter) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, other) in to.iter().enumerate() {
            let exchange = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = exchange.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn distances() {
        for (from, to, wanted) in [("", "", 0), ("", "ab", 2), ("port", "prt", 1), ("dns", "dsn", 2), ("abc", "xyz", 3)]
        {
            assert_eq!(distance(from, to), wanted, "{from} {to}");
            assert_eq!(distance(to, from), wanted, "{to} {from}");
        }
    }

    #[test]
    fn only_near_names_are_offered() {
        let known = || ["port", "host", "request_log"].into_iter();
        assert_eq!(nearest("prt", known()), Some("port"));
        assert_eq!(nearest("requestlog", known()), Some("request_log"));
        assert_eq!(nearest("nonsense", known()), None);
        assert_eq!(nearest("x", std::iter::empty()), None);
    }

    #[test]
    fn wants_in_words() {
        let levels =
            json!({ "oneOf": [{ "type": "string", "const": "debug" }, { "type": "string", "const": "info" }] });
        assert_eq!(wanted(&levels), "debug or info");
        assert_eq!(wanted(&json!({ "type": ["boolean", "null"] })), "true or false");
        let retired = json!({ "anyOf": [{ "type": "string" }, { "type": "object", "properties": { "value": {} } }] });
        assert_eq!(wanted(&retired), "a text or a mapping of value");
        assert_eq!(wanted(&json!({ "type": "string", "minLength": 32 })), "a text of 32 characters or more");
        assert_eq!(wanted(&json!(true)), "something else");
    }
}
