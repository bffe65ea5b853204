//! Importing keys from a file or a pasted text.

use askama::Template;
use axum::response::{Html, IntoResponse, Response};
use http::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::admin::console::api::{Api, ApiFailure};
use crate::admin::console::csv;
use crate::admin::console::failure::{Failure, sentence};
use crate::admin::console::fields::Fields;
use crate::admin::console::model::Key;
use crate::admin::console::page::{Page, Section, form_html, html};
use crate::admin::console::signed_in::{Posted, SignedIn};
use crate::admin::console::streamed::{Writer, streamed};

const IMPORTED: &str = "/v2alpha1/admin/importedApiKeys";
const BATCH_CREATE: &str = "/v2alpha1/admin/importedApiKeys:batchCreate";
/// The keys in a call of the API. Their results are sent to the browser before the next call.
const BATCH: usize = 100;
/// Where the page is divided: before the results, and before their sum.
const MARKS: [&str; 2] = ["<!--rows-->", "<!--sum-->"];

#[derive(Template)]
#[template(path = "console/import.html")]
struct ImportPage {
    page: Page,
    /// The number of keys, after the form was sent; then the page has the marks.
    total: Option<usize>,
}

/// The results of some rows.
#[derive(Template)]
#[template(path = "console/import_rows.html")]
struct Rows {
    rows: Vec<Imported>,
}

/// The sum of all results.
#[derive(Template)]
#[template(path = "console/import_sum.html")]
struct Sum {
    total: usize,
    done: usize,
    failed: usize,
    /// Why the import ended early; empty if it did not.
    error: String,
}

/// The result of a row. Neither has the text of the key.
struct Imported {
    number: usize,
    name: String,
    /// The id of the new key; empty if it was not imported.
    key_id: String,
    error: String,
}

/// An import that has begun.
struct Import {
    api: Api,
    items: Vec<Value>,
    done: usize,
    failed: usize,
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
    html(&ImportPage { page: who.page(Section::Keys, "Import keys"), total: None })
}

/// Imports the keys of the form. The page is sent while they are imported; its head waits for the first results, so that it has the status of
/// an error. The import goes on if the browser leaves.
pub(super) async fn import(Posted { who, fields }: Posted) -> Result<Response, Failure> {
    let page = who.page(Section::Keys, "Import keys");
    let items = match read(&fields) {
        Ok(items) => items,
        Err(error) => {
            let form = ImportPage { page: page.with_error(error), total: None };
            return Ok(form_html(&form.page, &form));
        }
    };
    let form = ImportPage { page, total: Some(items.len()) };
    let text = form.render().map_err(|error| {
        tracing::error!(%error, "the page of an import cannot be written");
        Failure::Api(ApiFailure::internal())
    })?;
    let mut import = Import { api: who.api, items, done: 0, failed: 0 };
    let first = import.next().await?;
    let (writer, body) = streamed();
    tokio::spawn(import.write(text, first, writer));
    Ok(Html(body).into_response())
}

impl Import {
    /// Imports the next keys.
    async fn next(&mut self) -> Result<Rows, ApiFailure> {
        let end = self.items.len().min(self.done + BATCH);
        let batch = &self.items[self.done..end];
        let results = import_batch(&self.api, batch).await?;
        let row =
            |((number, item), result): ((usize, &Value), Result<Key, String>)| Imported::new(number, item, result);
        let rows: Vec<Imported> = (self.done + 1..).zip(batch).zip(results).map(row).collect();
        self.done = end;
        self.failed += rows.iter().filter(|row| !row.error.is_empty()).count();
        Ok(Rows { rows })
    }

    /// Writes the page with the results, from the first ones on.
    async fn write(mut self, page: String, first: Rows, writer: Writer) {
        let (head, rest) = page.split_once(MARKS[0]).unwrap_or((&page, ""));
        let (middle, tail) = rest.split_once(MARKS[1]).unwrap_or((rest, ""));
        writer.write(format!("{head}{}", rendered(&first))).await;
        let mut error = String::new();
        while self.done < self.items.len() && error.is_empty() {
            match self.next().await {
                Ok(rows) => {
                    writer.write(rendered(&rows)).await;
                }
                Err(failure) => error = sentence(&failure.message),
            }
        }
        let sum = Sum { total: self.items.len(), done: self.done, failed: self.failed, error };
        writer.write(format!("{middle}{}{tail}", rendered(&sum))).await;
        writer.end().await;
    }
}

/// Imports at most [`BATCH`] keys. Returns the result of each.
async fn import_batch(api: &Api, batch: &[Value]) -> Result<Vec<Result<Key, String>>, ApiFailure> {
    match api.call(Method::POST, BATCH_CREATE, &json!({"requests": batch})).await {
        Ok(BatchResponse { results }) => Ok(results.into_iter().map(BatchResult::read).collect()),
        // If none of a batch was imported, the API says only why most of them were not. Each one by itself has its own reason.
        Err(failure) if failure.is_correctable() => {
            let mut results = Vec::with_capacity(batch.len());
            for item in batch {
                match api.call(Method::POST, IMPORTED, item).await {
                    Ok(key) => results.push(Ok(key)),
                    Err(failure) if failure.is_correctable() => results.push(Err(failure.message)),
                    Err(failure) => return Err(failure),
                }
            }
            Ok(results)
        }
        Err(failure) => Err(failure),
    }
}

/// A part of the page. A template that cannot be written is logged and left out.
fn rendered(template: &impl Template) -> String {
    template.render().unwrap_or_else(|error| {
        tracing::error!(%error, "a part of a page cannot be written");
        String::new()
    })
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

impl Imported {
    fn new(number: usize, item: &Value, result: Result<Key, String>) -> Self {
        let name = item["name"].as_str().unwrap_or_default().to_owned();
        let (key_id, error) = match result {
            Ok(key) => (key.id, String::new()),
            Err(error) => (String::new(), sentence(&error)),
        };
        Self { number, name, key_id, error }
    }
}

impl Sum {
    fn imported(&self) -> usize {
        self.done - self.failed
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
