//! Importing keys from a file or a pasted text.

use askama::Template;
use axum::response::Response;
use http::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::admin::console::csv;
use crate::admin::console::failure::{Failure, sentence};
use crate::admin::console::fields::Fields;
use crate::admin::console::model::Key;
use crate::admin::console::page::{Page, Section, form_html, html};
use crate::admin::console::signed_in::{Posted, SignedIn};

const IMPORTED: &str = "/v2alpha1/admin/importedApiKeys";
const BATCH_CREATE: &str = "/v2alpha1/admin/importedApiKeys:batchCreate";
/// The most keys in a call of the API.
const BATCH_MAX: usize = 1000;

#[derive(Template)]
#[template(path = "console/import.html")]
struct ImportPage {
    page: Page,
    /// The results, after the form was sent.
    results: Option<Results>,
}

/// The results of all rows.
#[derive(Default)]
struct Results {
    rows: Vec<Imported>,
}

/// The result of a row. Neither has the text of the key.
struct Imported {
    number: usize,
    name: String,
    /// The id of the new key; empty if it was not imported.
    key_id: String,
    error: String,
}

#[derive(Deserialize)]
struct BatchResponse {
    results: Vec<BatchResult>,
}

#[derive(Deserialize)]
struct BatchResult {
    imported_api_key: Option<Key>,
    error_message: Option<String>,
}

/// Shows the form.
pub(super) async fn show(who: SignedIn) -> Response {
    html(&ImportPage { page: who.page(Section::Keys, "Import keys"), results: None })
}

/// Imports the keys of the form, in batches.
pub(super) async fn import(Posted { who, fields }: Posted) -> Result<Response, Failure> {
    let page = who.page(Section::Keys, "Import keys");
    let items = match read(&fields) {
        Ok(items) => items,
        Err(error) => {
            let form = ImportPage { page: page.with_error(error), results: None };
            return Ok(form_html(&form.page, &form));
        }
    };
    let mut results = Results::default();
    for batch in items.chunks(BATCH_MAX) {
        match who.api.call(Method::POST, BATCH_CREATE, &json!({"requests": batch})).await {
            Ok(BatchResponse { results: rows }) => rows.into_iter().for_each(|row| results.add(batch, row.read())),
            // If none of a batch was imported, the API says only why most of them were not. Each one by itself has its own reason.
            Err(failure) if failure.is_correctable() => {
                for item in batch {
                    match who.api.call(Method::POST, IMPORTED, item).await {
                        Ok(key) => results.add(batch, Ok(key)),
                        Err(failure) if failure.is_correctable() => results.add(batch, Err(failure.message)),
                        Err(failure) => return Err(failure.into()),
                    }
                }
            }
            Err(failure) => return Err(failure.into()),
        }
    }
    Ok(html(&ImportPage { page, results: Some(results) }))
}

/// The keys of a form: those of the file, or of the text if there is no file.
fn read(fields: &Fields) -> Result<Vec<Value>, String> {
    let text = Some(fields.text("file")).filter(|text| !text.is_empty()).unwrap_or(fields.text("text"));
    let items = match text.chars().next() {
        None => return Err("Choose a file, or paste keys into the text field.".to_owned()),
        Some('[' | '{') => read_json(text)?,
        Some(_) => csv::parse(text)
            .map_err(|error| format!("The CSV text cannot be read: {error}."))?
            .into_iter()
            .map(item)
            .collect(),
    };
    if items.is_empty() { Err("There is no key in it.".to_owned()) } else { Ok(items) }
}

/// A list of keys, or the message of a batch.
fn read_json(text: &str) -> Result<Vec<Value>, String> {
    let value: Value = serde_json::from_str(text)
        .map_err(|error| format!("The JSON text cannot be read: line {}, column {}.", error.line(), error.column()))?;
    match value {
        Value::Array(items) => Ok(items),
        Value::Object(mut members) => match members.remove("requests") {
            Some(Value::Array(items)) => Ok(items),
            _ => Err("JSON must be a list of keys, or an object with the list in requests.".to_owned()),
        },
        _ => Err("JSON must be a list of keys.".to_owned()),
    }
}

/// A row of a CSV text as an item of a batch. Empty values are left out; scopes are separated by spaces.
fn item(row: Vec<(String, String)>) -> Value {
    let members = row.into_iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| {
        let value = match name.as_str() {
            "scopes" => value.split_whitespace().collect(),
            "metadata" => serde_json::from_str(&value).unwrap_or(Value::String(value)),
            _ => Value::String(value),
        };
        (name, value)
    });
    Value::Object(members.collect::<Map<_, _>>())
}

impl BatchResult {
    fn read(self) -> Result<Key, String> {
        self.imported_api_key.ok_or_else(|| self.error_message.unwrap_or_default())
    }
}

impl Results {
    fn add(&mut self, batch: &[Value], result: Result<Key, String>) {
        let index = self.rows.len();
        let name = batch.get(index % BATCH_MAX).and_then(|item| item["name"].as_str()).unwrap_or_default().to_owned();
        let (key_id, error) = match result {
            Ok(key) => (key.id, String::new()),
            Err(error) => (String::new(), sentence(&error)),
        };
        self.rows.push(Imported { number: index + 1, name, key_id, error });
    }

    fn imported(&self) -> usize {
        self.rows.iter().filter(|row| row.error.is_empty()).count()
    }

    fn failed(&self) -> usize {
        self.rows.len() - self.imported()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(text: &str) -> Result<Vec<Value>, String> {
        let mut fields = Fields::default();
        fields.set("text", text);
        read(&fields)
    }

    #[test]
    fn csv_and_json_become_items_of_a_batch() {
        let expected = json!({"name": "n", "actor_id": "a", "raw_key": "k", "scopes": ["x", "y"]});
        let csv = "name,actor_id,raw_key,scopes,ttl\nn,a,k,x y,\n";
        for text in [csv.to_owned(), json!([expected]).to_string(), json!({"requests": [expected]}).to_string()] {
            assert_eq!(items(&text).unwrap(), std::slice::from_ref(&expected), "{text}");
        }
    }

    #[test]
    fn text_without_keys_is_an_error() {
        for text in ["", "[]", "{}", "[", "1", "name,raw_key\n", "a,b\n1\n"] {
            assert!(items(text).is_err(), "{text:?}");
        }
    }
}
