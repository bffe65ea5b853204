//! What a token takes of the memory of the process, about. Rather too much than too little: the bound is for the process.

use serde_json::Value;

use crate::credential::DerivedToken;
use crate::key::Metadata;

/// Of a token without texts, in bytes.
const TOKEN: usize = 512;
/// Of an object: its tables, which begin larger than what is in them.
const OBJECT: usize = 256;
/// Of a text or a list: the pointer to it, and what the allocator adds.
const ALLOCATION: usize = 32;

/// The weight of a token in bytes.
pub(super) fn weigh(token: &DerivedToken) -> u64 {
    // Owners and scopes are in the token, and in what it has in common with keys.
    let scopes: usize = token.scopes.iter().map(|scope| 2 * (ALLOCATION + scope.len())).sum();
    let audiences: usize = token.audiences().iter().map(|audience| ALLOCATION + audience.len()).sum();
    let metadata = if token.metadata.is_empty() { 0 } else { weigh_object(&token.metadata) };
    (TOKEN + 2 * token.actor_id.len() + scopes + audiences + token.ranges() * 2 * ALLOCATION + metadata) as u64
}

fn weigh_object(object: &Metadata) -> usize {
    let members = object.iter().map(|(name, value)| 2 * ALLOCATION + name.len() + weigh_value(value));
    OBJECT + members.sum::<usize>()
}

/// A value takes as much as the largest of its kind, however short its text is.
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

    /// The weight of metadata that is given as an object.
    fn weight(metadata: &Value) -> usize {
        weigh_object(metadata.as_object().unwrap())
    }

    #[test]
    fn metadata_weighs_what_it_takes_and_not_what_its_text_takes() {
        let place = size_of::<Value>();
        assert!(weight(&json!({"numbers": vec![1; 1000]})) > 1000 * place);
        assert!(weight(&json!({"lists": vec![json!([]); 1000]})) > 1000 * place);
        assert!(weight(&json!({"objects": vec![json!({"a": 1}); 1000]})) > 1000 * (2 * place + OBJECT));
        let text = weight(&json!({"text": "x".repeat(10_000)}));
        assert!((10_000..11_000).contains(&text), "{text}");
    }
}
