//! API calls of a batch import, and the outcome of each item.

use std::ops::Range;
use std::time::Duration;

use indicatif::ProgressBar;
use serde_json::{Value, json};

use crate::cli::client::{Call, CallError, Client};
use crate::cli::keys::session::IMPORTED;

const ITEMS_MAX: usize = 1000;
const BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of a batch request without its items.
const ENVELOPE: usize = r#"{"requests":[]}"#.len();
const TIMEOUT: Duration = Duration::from_secs(120);

/// The outcome of one item.
pub(super) enum Outcome {
    Imported(Value),
    Present,
    Failed { code: String, message: String },
}

/// An import in progress.
pub(super) struct Import<'a> {
    client: &'a Client,
    items: &'a [Value],
    outcomes: Vec<Outcome>,
    progress: &'a ProgressBar,
}

/// Splits the items into batches that are as large as the limits of the API allow. An item above the limit is a batch of its
/// own.
fn batches(sizes: &[usize]) -> Vec<Range<usize>> {
    let mut batches: Vec<Range<usize>> = Vec::new();
    let mut bytes = 0;
    for (index, size) in sizes.iter().enumerate() {
        let size = size + 1;
        match batches.last_mut() {
            Some(batch) if batch.len() < ITEMS_MAX && ENVELOPE + bytes + size <= BYTES_MAX => {
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

    /// Imports the items. On an error that ends the import, returns the outcomes until then and the error.
    pub(super) fn run(mut self) -> (Vec<Outcome>, Result<(), CallError>) {
        let result = self.import_all();
        (self.outcomes, result)
    }

    fn import_all(&mut self) -> Result<(), CallError> {
        let sizes: Vec<usize> = self.items.iter().map(|item| item.to_string().len()).collect();
        for batch in batches(&sizes) {
            if ENVELOPE + sizes[batch.start] > BYTES_MAX {
                self.push(Outcome::failed("INVALID_ARGUMENT", "larger than the server's limit of 4 MiB"));
            } else {
                self.import_batch(batch)?;
            }
        }
        Ok(())
    }

    fn import_batch(&mut self, batch: Range<usize>) -> Result<(), CallError> {
        let items = &self.items[batch];
        match self.send(items) {
            Ok(response) => {
                let results = response["results"].as_array().map_or(&[][..], Vec::as_slice);
                let missing = json!({ "error_message": "the server's response has no result for this key" });
                for index in 0..items.len() {
                    self.push(outcome(results.get(index).unwrap_or(&missing)));
                }
            }
            Err(CallError::Api { reason, .. }) if reason == "API_KEY_EXISTS" && self.all_exist(items)? => {
                for _ in items {
                    self.push(Outcome::Present);
                }
            }
            // The error describes the majority of the items, not each of them: import them one by one.
            Err(CallError::Api { status: 400 | 409, .. }) => {
                for item in items {
                    let outcome = self.import_one(item)?;
                    self.push(outcome);
                }
            }
            // Missing permission and a wrong endpoint end the import; other errors fail the items of this batch.
            Err(CallError::Api { status, reason, message }) if ![401, 403, 404].contains(&status) => {
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
        self.client.send(call.timeout(TIMEOUT))
    }

    /// Whether all items of a batch exist, after it failed because most of them do. The server reports the error of the
    /// majority, so each probe adds as many empty (invalid) items as it has real ones: then a single item that fails
    /// differently changes the reported error.
    fn all_exist(&self, items: &[Value]) -> Result<bool, CallError> {
        if items.len() == 1 {
            return Ok(true);
        }
        for half in items.chunks(items.len().div_ceil(2).min(ITEMS_MAX / 2)) {
            let mut probe = half.to_vec();
            probe.resize(2 * half.len(), json!({}));
            match self.send(&probe) {
                Err(CallError::Api { reason, .. }) if reason == "API_KEY_EXISTS" => {}
                Ok(_) | Err(CallError::Api { .. }) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Imports one item in its own call, so that the error describes this item.
    fn import_one(&self, item: &Value) -> Result<Outcome, CallError> {
        let mut item = item.clone();
        if let Value::Object(members) = &mut item {
            // Batches ignore the idempotency key, so the single call does too.
            members.retain(|name, _| name != "request_id" && name != "requestId");
        }
        match self.client.send(Call::post(IMPORTED, item).timeout(TIMEOUT)) {
            Ok(key) => Ok(Outcome::Imported(key)),
            Err(CallError::Api { reason, .. }) if reason == "API_KEY_EXISTS" => Ok(Outcome::Present),
            Err(CallError::Api { status, message, .. }) => {
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

/// Converts one result of a batch response.
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
    fn batches_stay_within_the_limits_of_the_api() {
        let ends = |sizes: &[usize]| batches(sizes).iter().map(|batch| batch.end).collect::<Vec<_>>();
        assert_eq!(ends(&vec![10; 2500]), [1000, 2000, 2500]);
        assert_eq!(ends(&[1024 * 1024; 7]), [3, 6, 7]);
        assert_eq!(ends(&[10, BYTES_MAX * 2, 10]), [1, 2, 3]);
        let largest = BYTES_MAX - ENVELOPE - 1;
        assert_eq!(ends(&[largest, 1]), [1, 2]);
        let items = vec![json!({"raw_key": "x".repeat(4186)}); 2000];
        let sizes: Vec<usize> = items.iter().map(|item| item.to_string().len()).collect();
        let first = &batches(&sizes)[0];
        let bytes = |count: usize| json!({ "requests": &items[..count] }).to_string().len();
        assert!(first.len() < ITEMS_MAX, "the batch is limited by its size");
        assert!(bytes(first.len()) < BYTES_MAX && bytes(first.len() + 1) >= BYTES_MAX, "{first:?}");
    }

    #[test]
    fn results_are_converted_to_outcomes() {
        let key = json!({"key_id": "k"});
        assert!(matches!(outcome(&json!({"index": 0, "imported_api_key": key})), Outcome::Imported(_)));
        let present =
            json!({"imported_api_key": null, "error_code": "BATCH_CREATE_IMPORTED_API_KEYS_ERROR_ALREADY_EXISTS"});
        assert!(matches!(outcome(&present), Outcome::Present));
        assert!(matches!(outcome(&json!({"error_code": "X_INTERNAL"})), Outcome::Failed { .. }));
        assert!(matches!(outcome(&json!({})), Outcome::Failed { .. }));
    }
}
