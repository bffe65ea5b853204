//! Parses request messages by the contract's JSON conventions (admin API section 2): `null` means absent, unknown members are
//! ignored, and duplicate members are rejected, also across the two spellings. The message types declare both spellings.

use serde::de::{Deserialize, DeserializeOwned, Deserializer};
use serde::ser::{Serialize, Serializer};
use serde_json::{Map, Number, Value};

use super::error::ApiError;
use crate::strict_json::Strict;

/// A 64-bit integer, read from a number without a fraction or from a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Int64(pub(super) i64);

/// An enum value, read by name or number; `None` if it is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EnumOrUnknown<T>(pub(super) Option<T>);

/// An enum of the contract.
pub(super) trait WireEnum: Copy + DeserializeOwned + 'static {
    /// The values, in the order of their numbers.
    const VALUES: &'static [Self];
}

/// Parses the object in a request body. An empty body is an empty object.
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

/// Parses a message from the members of an object. Errors name the member and not its value, which may be a credential.
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

/// The integer value of a number, also if it is written as 100.0 or 1e2.
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

impl<'de, T: WireEnum> Deserialize<'de> for EnumOrUnknown<T> {
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
        choice: Option<EnumOrUnknown<Number>>,
    }

    fn example(text: &str) -> Result<Example, ApiError> {
        parse_object(text.as_bytes()).and_then(read)
    }

    #[test]
    fn body_must_be_an_object_without_duplicate_members() {
        assert!(parse_object(b"").is_ok());
        assert!(parse_object(b" \n").is_ok());
        let deep = "[".repeat(100_000);
        for invalid in ["[]", "1", "{", r#"{"a":1,"a":2}"#, r#"{"a":{"b":1,"b":1}}"#, "{\"a\":\"\u{0}\"}", &deep] {
            assert!(parse_object(invalid.as_bytes()).is_err());
        }
        assert!(parse_object(b"{\"a\":\"\xff\"}").is_err());
    }

    #[test]
    fn both_spellings_are_the_same_member() {
        assert!(example(r#"{"actor_id":"a","actorId":"b"}"#).is_err());
        assert_eq!(example(r#"{"actorId":"b","other":{"x":1}}"#).unwrap().actor_id.as_deref(), Some("b"));
        assert_eq!(example(r#"{"actor_id":null}"#).unwrap().actor_id, None);
    }

    #[test]
    fn error_names_the_member_and_not_its_value() {
        let error = format!("{:?}", example(r#"{"quota":"a-secret"}"#).unwrap_err());
        assert!(error.contains("quota has a wrong JSON type") && !error.contains("a-secret"), "{error}");
    }

    #[test]
    fn integer_is_read_from_numbers_and_strings() {
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
    fn unknown_enum_value_is_absent() {
        for (text, expected) in [
            ("\"ONE\"", Some(Number::One)),
            ("1", Some(Number::One)),
            ("\"TWO\"", None),
            ("2", None),
            ("-1", None),
            ("null", None),
        ] {
            assert_eq!(
                example(&format!(r#"{{"choice":{text}}}"#)).unwrap().choice.and_then(|value| value.0),
                expected,
                "{text}"
            );
        }
        assert!(example(r#"{"choice":[]}"#).is_err());
    }
}
