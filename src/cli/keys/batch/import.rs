//! The calls of an import, and what each of their answers means for each item.

use std::ops::Range;
use std::time::Duration;

use indicatif::ProgressBar;
use serde_json::{Value, json};

use crate::cli::client::{Call, CallError, Client};
use crate::cli::keys::IMPORTED;

const ITEMS_MAX: usize = 1000;
const BYTES_MAX: usize = 4 * 1024 * 1024;
/// What stands around the items of a batch.
const FRAME: usize = r#"{"requests":[]}"#.len();
const TIME_LIMIT: Duration = Duration::from_secs(120);

/// What became of one item.
pub(super) enum Outcome {
    Imported(Value),
    Present,
    Failed { code: String, message: String },
}

/// An import under way.
pub(super) struct Import<'a> {
    client: &'a Client,
    items: &'a [Value],
    outcomes: Vec<Outcome>,
    progress: &'a ProgressBar,
}

/// Where batches begin and end: as many items as the limits of the API allow. One that is too large stands alone.
fn batches(sizes: &[usize]) -> Vec<Range<usize>> {
    let mut batches: Vec<Range<usize>> = Vec::new();
    let mut bytes = 0;
    for (index, size) in sizes.iter().enumerate() {
        let size = size + 1;
        match batches.last_mut() {
            Some(batch) if batch.len() < ITEMS_MAX && FRAME + bytes + size <= BYTES_MAX => {
                batch.end = index + 1;
                bytes += size;
            }
            _ => {
                batches.push(index..index + 1);
                bytes = size;
            }
        }
    }
    batches
}

impl<'a> Import<'a> {
    pub(super) fn new(client: &'a Client, items: &'a [Value], progress: &'a ProgressBar) -> Self {
        Self { client, items, outcomes: Vec::new(), progress }
    }

    /// What became of the items; fewer than there are, and the error, when the server cannot be asked any more.
    pub(super) fn run(mut self) -> (Vec<Outcome>, Result<(), CallError>) {
        let result = self.all();
        (self.outcomes, result)
    }

    /// Goes through all items; an error when the server cannot be asked any more.
    fn all(&mut self) -> Result<(), CallError> {
        let sizes: Vec<usize> = self.items.iter().map(|item| item.to_string().len()).collect();
        for batch in batches(&sizes) {
            if FRAME + sizes[batch.start] > BYTES_MAX {
                self.push(Outcome::failed("INVALID_ARGUMENT", "larger than the 4 MiB that the server takes"));
            } else {
                self.batch(batch)?;
            }
        }
        Ok(())
    }

    fn batch(&mut self, batch: Range<usize>) -> Result<(), CallError> {
        let items = &self.items[batch];
        match self.send(items) {
            Ok(answer) => {
                let results = answer["results"].as_array().map_or(&[][..], Vec::as_slice);
                let missing = json!({ "error_message": "the server's answer says nothing of this key" });
                for index in 0..items.len() {
                    self.push(outcome(results.get(index).unwrap_or(&missing)));
                }
            }
            Err(CallError::Refused { reason, .. }) if reason == "API_KEY_EXISTS" && self.all_exist(items)? => {
                for _ in items {
                    self.push(Outcome::Present);
                }
            }
            // Such an answer says what most items lack and nothing of the others.
            Err(CallError::Refused { status: 400 | 409, .. }) => {
                for item in items {
                    let outcome = self.alone(item)?;
                    self.push(outcome);
                }
            }
            // Who may not ask, or asks at the wrong place, is told so once and not for every key.
            Err(CallError::Refused { status, reason, message }) if ![401, 403, 404].contains(&status) => {
                let code = if status == 402 { "RESOURCE_EXHAUSTED" } else { reason.as_str() };
                for _ in items {
                    self.push(Outcome::failed(code, &message));
                }
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn send(&self, items: &[Value]) -> Result<Value, CallError> {
        let call = Call::post(format!("{IMPORTED}:batchCreate"), json!({ "requests": items }));
        self.client.send(call.limit(TIME_LIMIT))
    }

    /// Whether every item is there already, when a batch of them fails because most are. In a batch with as many empty
    /// items as real ones, one more that fails otherwise turns the server's answer into another error.
    fn all_exist(&self, items: &[Value]) -> Result<bool, CallError> {
        if items.len() == 1 {
            return Ok(true);
        }
        for half in items.chunks(items.len().div_ceil(2).min(ITEMS_MAX / 2)) {
            let mut weighed = half.to_vec();
            weighed.resize(2 * half.len(), json!({}));
            match self.send(&weighed) {
                Err(CallError::Refused { reason, .. }) if reason == "API_KEY_EXISTS" => {}
                Ok(_) | Err(CallError::Refused { .. }) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Imports one item in a call of its own, which says exactly what is wrong with it.
    fn alone(&self, item: &Value) -> Result<Outcome, CallError> {
        let mut item = item.clone();
        if let Value::Object(members) = &mut item {
            // Batches do without it, and so does this item of one.
            members.retain(|name, _| name != "request_id" && name != "requestId");
        }
        match self.client.send(Call::post(IMPORTED, item).limit(TIME_LIMIT)) {
            Ok(key) => Ok(Outcome::Imported(key)),
            Err(CallError::Refused { reason, .. }) if reason == "API_KEY_EXISTS" => Ok(Outcome::Present),
            Err(CallError::Refused { status, message, .. }) => {
                let code = match status {
                    400 => "INVALID_ARGUMENT",
                    402 => "RESOURCE_EXHAUSTED",
                    409 => "FAILED_PRECONDITION",
                    _ => "INTERNAL",
                };
                Ok(Outcome::failed(code, &message))
            }
            Err(error) => Err(error),
        }
    }

    fn push(&mut self, outcome: Outcome) {
        self.outcomes.push(outcome);
        self.progress.inc(1);
    }
}

impl Outcome {
    fn failed(code: &str, message: &str) -> Self {
        let code = format!("BATCH_CREATE_IMPORTED_API_KEYS_ERROR_{code}");
        Self::Failed { code, message: message.to_owned() }
    }
}

/// What the answer to a batch says of one item.
fn outcome(result: &Value) -> Outcome {
    let text = |member: &str| result[member].as_str().unwrap_or_default().to_owned();
    let code = text("error_code");
    match &result["imported_api_key"] {
        _ if code.ends_with("_ALREADY_EXISTS") => Outcome::Present,
        key @ Value::Object(_) if code.is_empty() => Outcome::Imported(key.clone()),
        _ => Outcome::Failed { code, message: text("error_message") },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_stay_below_the_limits() {
        let ends = |sizes: &[usize]| batches(sizes).iter().map(|batch| batch.end).collect::<Vec<_>>();
        assert_eq!(ends(&vec![10; 2500]), [1000, 2000, 2500]);
        assert_eq!(ends(&[1024 * 1024; 7]), [3, 6, 7]);
        assert_eq!(ends(&[10, BYTES_MAX * 2, 10]), [1, 2, 3]);
        let largest = BYTES_MAX - FRAME - 1;
        assert_eq!(ends(&[largest, 1]), [1, 2]);
        let items = vec![json!({"raw_key": "x".repeat(4186)}); 2000];
        let sizes: Vec<usize> = items.iter().map(|item| item.to_string().len()).collect();
        let first = &batches(&sizes)[0];
        let bytes = |count: usize| json!({ "requests": &items[..count] }).to_string().len();
        assert!(first.len() < ITEMS_MAX, "the size is what ends it");
        assert!(bytes(first.len()) < BYTES_MAX && bytes(first.len() + 1) >= BYTES_MAX, "{first:?}");
    }

    #[test]
    fn answers_become_outcomes() {
        let key = json!({"key_id": "k"});
        assert!(matches!(outcome(&json!({"index": 0, "imported_api_key": key})), Outcome::Imported(_)));
        let present =
            json!({"imported_api_key": null, "error_code": "BATCH_CREATE_IMPORTED_API_KEYS_ERROR_ALREADY_EXISTS"});
        assert!(matches!(outcome(&present), Outcome::Present));
        assert!(matches!(outcome(&json!({"error_code": "X_INTERNAL"})), Outcome::Failed { .. }));
        assert!(matches!(outcome(&json!({})), Outcome::Failed { .. }));
    }
}
