//! Approximate memory of a token, rounded up: the size limit of the cache bounds the memory of the process.

use serde_json::Value;

use crate::credential::DerivedToken;
use crate::key::Metadata;

/// Bytes of a token without text.
const TOKEN: usize = 608;
/// Bytes of an object: its tables, which are allocated larger than their content.
const OBJECT: usize = 256;
/// Bytes of a text or a list: its pointer and the allocator's overhead.
const ALLOCATION: usize = 32;

/// The weight of a token in bytes.
pub(super) fn weigh(token: &DerivedToken) -> u64 {
    // Actor and scopes are stored twice: in the token, and in the form that keys share.
    let scopes: usize = token.scopes.iter().map(|scope| 2 * (ALLOCATION + scope.len())).sum();
    let audiences: usize = token.audiences().iter().map(|audience| ALLOCATION + audience.len()).sum();
    let names = 2 * ALLOCATION + token.id.as_ref().map_or(0, String::len) + token.issuer.len();
    let metadata = if token.metadata.is_empty() { 0 } else { weigh_object(&token.metadata) };
    (TOKEN + 2 * token.actor_id.len() + names + scopes + audiences + token.ranges() * 2 * ALLOCATION + metadata) as u64
}

fn weigh_object(object: &Metadata) -> usize {
    let members = object.iter().map(|(name, value)| 2 * ALLOCATION + name.len() + weigh_value(value));
    OBJECT + members.sum::<usize>()
}

/// Every value takes the size of the largest variant.
fn weigh_value(value: &Value) -> usize {
    size_of::<Value>()
        + match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
            Value::String(text) => ALLOCATION + text.len(),
            Value::Array(values) => ALLOCATION + values.iter().map(weigh_value).sum::<usize>(),
            Value::Object(object) => weigh_object(object),
        }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The weight of metadata.
    fn weight(metadata: &Value) -> usize {
        weigh_object(metadata.as_object().unwrap())
    }

    #[test]
    fn weight_of_metadata_is_its_memory_not_its_text() {
        let place = size_of::<Value>();
        assert!(weight(&json!({"numbers": vec![1; 1000]})) > 1000 * place);
        assert!(weight(&json!({"lists": vec![json!([]); 1000]})) > 1000 * place);
        assert!(weight(&json!({"objects": vec![json!({"a": 1}); 1000]})) > 1000 * (2 * place + OBJECT));
        let text = weight(&json!({"text": "x".repeat(10_000)}));
        assert!((10_000..11_000).contains(&text), "{text}");
    }
}
