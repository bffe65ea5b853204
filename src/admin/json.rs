//! Reading request messages by the contract's JSON conventions (admin API section 2): `null` as absent, unknown members
//! ignored, a member twice refused, also once in each spelling. The types of the messages name both spellings.

use std::fmt;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use serde_json::{Map, Number, Value};

use super::error::ApiError;

/// A value that refuses double members while it is read, at any depth.
struct Strict(Value);

/// A 64-bit integer, as a number without fraction or as a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Int64(pub(super) i64);

/// An enum by name or number; what is unknown is absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Choice<T>(pub(super) Option<T>);

/// An enum of the contract.
pub(super) trait WireEnum: Copy + DeserializeOwned + 'static {
    /// The values in the order of their numbers.
    const VALUES: &'static [Self];
}

/// The object in a request's body; an empty body is an empty object.
pub(super) fn parse_object(body: &[u8]) -> Result<Map<String, Value>, ApiError> {
    if body.trim_ascii().is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_slice::<Strict>(body) {
        Ok(Strict(Value::Object(members))) => Ok(members),
        Ok(_) => Err(ApiError::invalid("the request body must be a JSON object")),
        Err(error) => Err(ApiError::invalid(format!(
            "the request body is not valid JSON: line {}, column {}",
            error.line(),
            error.column()
        ))),
    }
}

/// A message from the members of an object. Errors name the member and never show its value, which may be a credential.
pub(super) fn read<T: DeserializeOwned>(members: Map<String, Value>) -> Result<T, ApiError> {
    serde_path_to_error::deserialize(Value::Object(members)).map_err(|error| {
        let path = error.path().to_string();
        if error.inner().to_string().starts_with("duplicate field") {
            ApiError::invalid("a member is given twice, once in each spelling")
        } else if path == "." {
            ApiError::invalid("the request body has a wrong JSON type")
        } else {
            ApiError::invalid(format!("{path} has a wrong JSON type"))
        }
    })
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

impl Serialize for Int64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Int64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = match Value::deserialize(deserializer)? {
            Value::String(text) => text.parse().ok(),
            Value::Number(number) => integral(&number),
            _ => None,
        };
        number.map(Self).ok_or_else(|| serde::de::Error::custom("not an integer"))
    }
}

impl<'de, T: WireEnum> Deserialize<'de> for Choice<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(name) => Ok(Self(T::deserialize(Value::String(name)).ok())),
            Value::Number(number) => {
                let index = integral(&number).and_then(|number| usize::try_from(number).ok());
                Ok(Self(index.and_then(|index| T::VALUES.get(index)).copied()))
            }
            _ => Err(serde::de::Error::custom("neither the name nor the number of a value")),
        }
    }
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

    #[derive(Debug, Clone, Copy, PartialEq, serde::Deserialize)]
    #[serde(rename_all = "SCREAMING_SNAKE_CASE")]
    enum Number {
        Zero,
        One,
    }

    impl WireEnum for Number {
        const VALUES: &'static [Self] = &[Self::Zero, Self::One];
    }

    #[derive(Debug, serde::Deserialize)]
    struct Example {
        #[serde(alias = "actorId")]
        actor_id: Option<String>,
        quota: Option<Int64>,
        choice: Option<Choice<Number>>,
    }

    fn example(text: &str) -> Result<Example, ApiError> {
        parse_object(text.as_bytes()).and_then(read)
    }

    #[test]
    fn bodies_are_objects_without_double_members() {
        assert!(parse_object(b"").is_ok());
        assert!(parse_object(b" \n").is_ok());
        let deep = "[".repeat(100_000);
        for bad in ["[]", "1", "{", r#"{"a":1,"a":2}"#, r#"{"a":{"b":1,"b":1}}"#, "{\"a\":\"\u{0}\"}", &deep] {
            assert!(parse_object(bad.as_bytes()).is_err());
        }
        assert!(parse_object(b"{\"a\":\"\xff\"}").is_err());
    }

    #[test]
    fn both_spellings_are_one_member() {
        assert!(example(r#"{"actor_id":"a","actorId":"b"}"#).is_err());
        assert_eq!(example(r#"{"actorId":"b","other":{"x":1}}"#).unwrap().actor_id.as_deref(), Some("b"));
        assert_eq!(example(r#"{"actor_id":null}"#).unwrap().actor_id, None);
    }

    #[test]
    fn errors_name_the_member_and_never_its_value() {
        let error = format!("{:?}", example(r#"{"quota":"a-secret"}"#).unwrap_err());
        assert!(error.contains("quota has a wrong JSON type") && !error.contains("a-secret"), "{error}");
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
            let read = example(&format!(r#"{{"quota":{text}}}"#)).ok().and_then(|message| message.quota);
            assert_eq!(read.map(|number| number.0), expected, "{text}");
        }
    }

    #[test]
    fn what_is_unknown_in_an_enum_is_absent() {
        for (text, expected) in [
            ("\"ONE\"", Some(Number::One)),
            ("1", Some(Number::One)),
            ("\"TWO\"", None),
            ("2", None),
            ("-1", None),
            ("null", None),
        ] {
            assert_eq!(
                example(&format!(r#"{{"choice":{text}}}"#)).unwrap().choice.and_then(|choice| choice.0),
                expected,
                "{text}"
            );
        }
        assert!(example(r#"{"choice":[]}"#).is_err());
    }
}
