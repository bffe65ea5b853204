//! Changing a key, with a comparison before the change.

use askama::Template;
use axum::extract::Path;
use axum::response::{IntoResponse, Redirect, Response};
use http::Method;
use serde_json::Value;

use super::draft::{self, CHANGEABLE};
use crate::admin::console::failure::{Failure, sentence};
use crate::admin::console::fields::Fields;
use crate::admin::console::model::{Key, key_path};
use crate::admin::console::page::{Page, Section, form_html, html};
use crate::admin::console::signed_in::{Posted, SignedIn};

/// The form.
#[derive(Template)]
#[template(path = "console/keys/edit.html")]
struct EditPage {
    page: Page,
    key: Key,
    fields: Fields,
}

/// The comparison.
#[derive(Template)]
#[template(path = "console/keys/review.html")]
struct ReviewPage {
    page: Page,
    key: Key,
    fields: Fields,
    differences: Vec<Difference>,
    /// Whether the key has changed since the form was loaded.
    is_outdated: bool,
}

/// A field with another value.
struct Difference {
    name: &'static str,
    /// The member in an update mask.
    member: &'static str,
    before: String,
    after: String,
}

/// Shows the form.
pub(super) async fn show(who: SignedIn, Path(id): Path<String>) -> Result<Response, Failure> {
    let key = load(&who, &id).await?;
    let fields = draft::fields_of(&key);
    Ok(html(&EditPage { page: who.page(Section::Keys, "Edit a key"), key, fields }))
}

/// Shows the comparison, the form once more, or saves, by the button that was pressed.
pub(super) async fn edit(Path(id): Path<String>, Posted { who, fields }: Posted) -> Result<Response, Failure> {
    let key = load(&who, &id).await?;
    if fields.text("step") == "edit" {
        return Ok(html(&EditPage { page: who.page(Section::Keys, "Edit a key"), key, fields }));
    }
    let message = match draft::members(&fields) {
        Ok(message) => message,
        Err(error) => return Ok(again(&who, key, fields, error)),
    };
    let differences = differences(&key, &fields);
    let version = version(&key);
    let is_outdated = !fields.text("version").is_empty() && fields.text("version") != version;
    if fields.text("step") != "save" || is_outdated || differences.is_empty() {
        let mut fields = fields;
        fields.set("version", version);
        let page = who.page(Section::Keys, "Review the changes");
        return Ok(html(&ReviewPage { page, key, fields, differences, is_outdated }));
    }
    let mut mask: Vec<_> = differences.iter().map(|difference| difference.member).collect();
    mask.dedup();
    let path = format!("{}?update_mask={}", key.path(), mask.join(","));
    match who.api.call::<Key>(Method::PATCH, &path, &Value::Object(message)).await {
        Ok(_) => Ok(Redirect::to(&format!("/console/keys/{id}?done=saved")).into_response()),
        Err(failure) if failure.is_correctable() => Ok(again(&who, key, fields, sentence(&failure.message))),
        Err(failure) => Err(failure.into()),
    }
}

async fn load(who: &SignedIn, id: &str) -> Result<Key, Failure> {
    Ok(who.api.get(&key_path(id).ok_or_else(Failure::not_found)?).await?)
}

/// The form once more, with the error.
fn again(who: &SignedIn, key: Key, fields: Fields, error: String) -> Response {
    let form = EditPage { page: who.page(Section::Keys, "Edit a key").with_error(error), key, fields };
    form_html(&form.page, &form)
}

/// The time of the last change, by which a change in between is found.
fn version(key: &Key) -> String {
    key.update_time.timestamp_micros().to_string()
}

/// The fields of a form that differ from the key.
fn differences(key: &Key, fields: &Fields) -> Vec<Difference> {
    let stored = draft::fields_of(key);
    let normal = |name: &str, fields: &Fields| match name {
        "scopes" | "networks" => fields.lines(name).join("\n"),
        "metadata" => {
            let value = serde_json::from_str::<Value>(fields.text(name));
            value.map_or_else(|_| String::new(), |value| format!("{value:#}")).replace("{}", "")
        }
        _ => fields.text(name).to_owned(),
    };
    let difference = |name: &'static str| {
        let (before, after) = (normal(name, &stored), normal(name, fields));
        let member = match name {
            "quota" | "window" => "rate_limit_policy",
            "networks" => "ip_restriction",
            name => name,
        };
        (before != after).then_some(Difference { name: label(name), member, before, after })
    };
    CHANGEABLE.into_iter().filter_map(difference).collect()
}

/// The name of a field for people.
fn label(name: &str) -> &'static str {
    match name {
        "name" => "Name",
        "scopes" => "Scopes",
        "quota" => "Rate limit: requests",
        "window" => "Rate limit: seconds",
        "networks" => "Addresses",
        _ => "Metadata",
    }
}

impl ReviewPage {
    /// The fields to send once more.
    fn values(&self) -> Vec<(&'static str, &str)> {
        CHANGEABLE.into_iter().chain(["version"]).map(|name| (name, self.fields.raw(name))).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn key() -> Key {
        serde_json::from_value(json!({
            "key_id": "11111111-2222-4333-8444-555555555555", "name": "n", "actor_id": "a", "scopes": ["x", "y"],
            "metadata": {"b": 1}, "status": "KEY_STATUS_ACTIVE", "visibility": "KEY_VISIBILITY_SECRET",
            "create_time": "2026-01-01T00:00:00Z", "update_time": "2026-01-01T00:00:00Z",
            "rate_limit_policy": {"quota": "10", "unit": "requests", "window": "60s"}
        }))
        .unwrap()
    }

    fn members(fields: &Fields) -> Vec<&'static str> {
        differences(&key(), fields).iter().map(|difference| difference.member).collect()
    }

    #[test]
    fn only_fields_with_another_value_differ() {
        let mut fields = draft::fields_of(&key());
        assert!(members(&fields).is_empty());
        fields.set("scopes", "x\r\ny\r\n");
        fields.set("metadata", "{ \"b\":1 }");
        assert!(members(&fields).is_empty(), "spelled in another way");
        fields.set("quota", "");
        fields.set("window", "");
        fields.set("networks", "10.0.0.0/8");
        fields.set("metadata", "");
        assert_eq!(members(&fields), ["rate_limit_policy", "rate_limit_policy", "ip_restriction", "metadata"]);
    }
}
