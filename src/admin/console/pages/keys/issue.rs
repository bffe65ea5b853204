//! Issuing a key. Its secret is shown once, alone on its page.

use askama::Template;
use axum::response::Response;
use http::Method;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::draft;
use crate::admin::console::failure::{Failure, sentence};
use crate::admin::console::fields::Fields;
use crate::admin::console::model::{Key, key_path};
use crate::admin::console::page::{Page, Section, form_html, html};
use crate::admin::console::pages::secret::SecretPage;
use crate::admin::console::signed_in::{Posted, SignedIn};

const ISSUED: &str = "/v2alpha1/admin/issuedApiKeys";

/// The form.
#[derive(Template)]
#[template(path = "console/keys/issue.html")]
struct IssuePage {
    page: Page,
    fields: Fields,
}

#[derive(Deserialize)]
struct Issued {
    issued_api_key: Key,
    secret: String,
}

/// Shows the form: empty, from a template, or with the fields of another key.
pub(super) async fn show(who: SignedIn, query: Fields) -> Result<Response, Failure> {
    let mut fields = match key_path(query.text("like")) {
        Some(path) => {
            let key: Key = who.api.get(&path).await?;
            let mut fields = draft::fields_of(&key);
            fields.set("actor_id", &key.actor_id);
            fields
        }
        None => template(query.text("template")),
    };
    // So that a form that is sent twice issues one key.
    fields.set("request_id", uuid::Builder::from_random_bytes(rand::random()).into_uuid().to_string());
    let page = who.page(Section::Keys, "Issue a key");
    Ok(html(&IssuePage { page, fields }))
}

/// The fields of a template; none for an unknown name.
fn template(name: &str) -> Fields {
    let fields: &[(&str, &str)] = match name {
        "service" => &[("ttl", "90d"), ("quota", "6000"), ("window", "60")],
        "ci" => &[("name", "CI"), ("ttl", "30d"), ("quota", "600"), ("window", "60")],
        "trial" => &[("name", "Trial"), ("ttl", "14d"), ("quota", "60"), ("window", "60")],
        _ => &[],
    };
    Fields(fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
}

/// Issues the key of the form.
pub(super) async fn issue(Posted { who, fields }: Posted) -> Result<Response, Failure> {
    let page = who.page(Section::Keys, "Issue a key");
    let message = match message(&fields) {
        Ok(message) => message,
        Err(error) => return Ok(again(page, fields, error)),
    };
    match who.api.call(Method::POST, ISSUED, &Value::Object(message)).await {
        Ok(Issued { issued_api_key, secret }) => {
            let page = who.page(Section::Keys, "The key is issued");
            let next = format!("/console/keys/{}", issued_api_key.id);
            Ok(html(&SecretPage { page, heading: "The key is issued", secret, next }))
        }
        Err(failure) if failure.is_correctable() => Ok(again(page, fields, sentence(&failure.message))),
        Err(failure) => Err(failure.into()),
    }
}

/// The form once more, with the error.
fn again(page: Page, fields: Fields, error: String) -> Response {
    let form = IssuePage { page: page.with_error(error), fields };
    form_html(&form.page, &form)
}

fn message(fields: &Fields) -> Result<Map<String, Value>, String> {
    let mut members = draft::members(fields)?;
    members.insert("actor_id".into(), fields.text("actor_id").into());
    members.insert("request_id".into(), fields.text("request_id").into());
    if !fields.text("ttl").is_empty() {
        members.insert("ttl".into(), fields.text("ttl").into());
    }
    if fields.text("visibility") == "public" {
        members.insert("visibility".into(), "KEY_VISIBILITY_PUBLIC".into());
    }
    Ok(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn optional_fields_are_left_out() {
        let message = message(&Fields::parse(b"name=n&actor_id=a&ttl=&request_id=r")).unwrap();
        assert!(!message.contains_key("ttl") && !message.contains_key("visibility"), "{message:?}");
        assert_eq!((&message["actor_id"], &message["request_id"]), (&"a".into(), &"r".into()));
    }
}
