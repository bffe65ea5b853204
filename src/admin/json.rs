//! Reading request messages by the contract's JSON conventions (admin API section 2): both spellings of a member, `null`
//! as absent, unknown members ignored, a member twice refused.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::error::ApiError;
use crate::duration::{parse_extended, parse_go};

/// A JSON object without double members, at any depth.
#[derive(Debug, Default)]
pub(super) struct Message(Map<String, Value>);

/// A value that refuses double members while it is read.
struct Strict(Value);

impl Message {
    /// Reads a request's body; an empty one is an empty message.
    pub(super) fn parse(body: &[u8]) -> Result<Self, ApiError> {
        if body.trim_ascii().is_empty() {
            return Ok(Self::default());
        }
        match serde_json::from_slice::<Strict>(body) {
            Ok(Strict(Value::Object(members))) => Ok(Self(members)),
            Ok(_) => Err(ApiError::invalid("the request body must be a JSON object")),
            Err(error) => Err(ApiError::invalid(format!(
                "the request body is not valid JSON: line {}, column {}",
                error.line(),
                error.column()
            ))),
        }
    }

    /// A member by its `snake_case` name; `null` is absent.
    fn get(&self, name: &str) -> Result<Option<&Value>, ApiError> {
        let camel = camel_case(name);
        let plain = self.0.get(name);
        let other = if camel == name { None } else { self.0.get(&camel) };
        match (plain, other) {
            (Some(_), Some(_)) => Err(ApiError::invalid(format!("{name} is given twice"))),
            (value, other) => Ok(value.or(other).filter(|value| !value.is_null())),
        }
    }

    /// A text.
    pub(super) fn string(&self, name: &str) -> Result<Option<String>, ApiError> {
        match self.get(name)? {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(mistyped(name, "a string")),
        }
    }

    /// A list of texts; empty when absent.
    pub(super) fn strings(&self, name: &str) -> Result<Vec<String>, ApiError> {
        let items = match self.get(name)? {
            None => return Ok(Vec::new()),
            Some(Value::Array(items)) => items,
            Some(_) => return Err(mistyped(name, "a list of strings")),
        };
        let texts = items.iter().map(|item| item.as_str().map(str::to_owned));
        texts.collect::<Option<_>>().ok_or_else(|| mistyped(name, "a list of strings"))
    }

    /// A free-form object; empty when absent.
    pub(super) fn object(&self, name: &str) -> Result<Map<String, Value>, ApiError> {
        match self.get(name)? {
            None => Ok(Map::new()),
            Some(Value::Object(members)) => Ok(members.clone()),
            Some(_) => Err(mistyped(name, "an object")),
        }
    }

    /// A nested message.
    pub(super) fn message(&self, name: &str) -> Result<Option<Self>, ApiError> {
        match self.get(name)? {
            None => Ok(None),
            Some(Value::Object(members)) => Ok(Some(Self(members.clone()))),
            Some(_) => Err(mistyped(name, "an object")),
        }
    }

    /// A 64-bit integer, as a number without fraction or as a string.
    pub(super) fn int64(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let Some(value) = self.get(name)? else {
            return Ok(None);
        };
        let number = match value {
            Value::String(text) => text.parse().ok(),
            Value::Number(number) => integral(number),
            _ => None,
        };
        number.map(Some).ok_or_else(|| mistyped(name, "an integer"))
    }

    /// An enum by name or number, `values` in the order of their numbers; what is unknown is absent.
    pub(super) fn choice<T: Copy>(&self, name: &str, values: &[(&str, T)]) -> Result<Option<T>, ApiError> {
        let index = match self.get(name)? {
            None => return Ok(None),
            Some(Value::String(text)) => values.iter().position(|(value, _)| value == text),
            Some(Value::Number(number)) => integral(number).and_then(|number| usize::try_from(number).ok()),
            Some(_) => return Err(mistyped(name, "the name or the number of a value")),
        };
        Ok(index.and_then(|index| values.get(index)).map(|(_, value)| *value))
    }

    /// A duration as decimal seconds and `s`.
    pub(super) fn seconds(&self, name: &str) -> Result<Option<Duration>, ApiError> {
        let Some(text) = self.string(name)? else {
            return Ok(None);
        };
        let number =
            text.strip_suffix('s').filter(|number| number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'));
        let duration = number.and_then(|_| parse_go(&text).ok());
        duration.map(Some).ok_or_else(|| mistyped(name, "decimal seconds and s, for example 60s"))
    }

    /// A duration in the grammar of `ttl`.
    pub(super) fn ttl(&self, name: &str) -> Result<Option<Duration>, ApiError> {
        let Some(text) = self.string(name)? else {
            return Ok(None);
        };
        parse_extended(&text).map(Some).map_err(|error| ApiError::invalid(format!("{name} {error}")))
    }
}

fn camel_case(name: &str) -> String {
    let mut upper = false;
    let mut text = String::with_capacity(name.len());
    for character in name.chars() {
        if character == '_' {
            upper = true;
        } else {
            text.push(if upper { character.to_ascii_uppercase() } else { character });
            upper = false;
        }
    }
    text
}

/// An integer also when it is written as 100.0 or 1e2.
fn integral(number: &Number) -> Option<i64> {
    if let Some(number) = number.as_i64() {
        return Some(number);
    }
    let float = number.as_f64()?;
    let whole = float.fract() == 0.0 && float.abs() < 9_007_199_254_740_992.0;
    if whole { format!("{float:.0}").parse().ok() } else { None }
}

fn mistyped(name: &str, wanted: &str) -> ApiError {
    ApiError::invalid(format!("{name} must be {wanted}"))
}

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Strict(value)) = items.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut values = Map::new();
        while let Some((name, Strict(value))) = members.next_entry::<String, Strict>()? {
            if values.insert(name, value).is_some() {
                return Err(serde::de::Error::custom("a member is given twice"));
            }
        }
        Ok(Value::Object(values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> Message {
        Message::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn bodies_are_objects_without_double_members() {
        assert!(Message::parse(b"").is_ok());
        assert!(Message::parse(b" \n").is_ok());
        let deep = "[".repeat(100_000);
        for bad in ["[]", "1", "{", r#"{"a":1,"a":2}"#, r#"{"a":{"b":1,"b":1}}"#, "{\"a\":\"\u{0}\"}", &deep] {
            assert!(Message::parse(bad.as_bytes()).is_err());
        }
        assert!(Message::parse(b"{\"a\":\"\xff\"}").is_err());
    }

    #[test]
    fn both_spellings_are_one_member() {
        let both = message(r#"{"actor_id":"a","actorId":"b"}"#);
        assert!(both.string("actor_id").is_err());
        assert_eq!(message(r#"{"actorId":"b"}"#).string("actor_id").unwrap().as_deref(), Some("b"));
        assert_eq!(message(r#"{"actor_id":null}"#).string("actor_id").unwrap(), None);
    }

    #[test]
    fn numbers_are_read_as_they_come() {
        for (text, expected) in [
            ("7", Some(7)),
            ("\"7\"", Some(7)),
            ("7.0", Some(7)),
            ("7e1", Some(70)),
            ("7.5", None),
            ("\"x\"", None),
            ("1e30", None),
            ("true", None),
        ] {
            let read = message(&format!(r#"{{"quota":{text}}}"#)).int64("quota");
            assert_eq!(read.ok().flatten(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_unknown_in_an_enum_is_absent() {
        let values = [("ZERO", 0), ("ONE", 1)];
        for (text, expected) in [("\"ONE\"", Some(1)), ("1", Some(1)), ("\"TWO\"", None), ("2", None), ("-1", None)] {
            assert_eq!(message(&format!(r#"{{"e":{text}}}"#)).choice("e", &values).unwrap(), expected, "{text}");
        }
        assert!(message(r#"{"e":[]}"#).choice("e", &values).is_err());
    }

    #[test]
    fn windows_are_seconds_only() {
        for (text, good) in
            [("60s", true), ("1.5s", true), ("1m", false), ("60", false), ("1m30s", false), ("s", false)]
        {
            assert_eq!(message(&format!(r#"{{"window":"{text}"}}"#)).seconds("window").is_ok(), good, "{text}");
        }
    }
}
