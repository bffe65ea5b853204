//! Rotating a key, at once or with an overlap.

use askama::Template;
use axum::extract::Path;
use axum::response::Response;
use http::Method;
use serde::Deserialize;
use serde_json::json;

use crate::admin::console::failure::{Failure, sentence};
use crate::admin::console::model::{Key, key_path};
use crate::admin::console::page::{Page, Section, form_html, html};
use crate::admin::console::pages::secret::SecretPage;
use crate::admin::console::signed_in::{Posted, SignedIn};
use crate::admin::console::time::Moment;

#[derive(Template)]
#[template(path = "console/keys/rotate.html")]
struct RotatePage {
    page: Page,
    key: Key,
    used: Option<Moment>,
}

#[derive(Deserialize)]
struct Rotated {
    issued_api_key: Key,
    secret: String,
}

/// Shows the form.
pub(super) async fn show(who: SignedIn, Path(id): Path<String>) -> Result<Response, Failure> {
    Ok(html(&form(&who, &id).await?))
}

/// Rotates the key.
pub(super) async fn rotate(Path(id): Path<String>, Posted { who, fields }: Posted) -> Result<Response, Failure> {
    let path = key_path(&id).ok_or_else(Failure::not_found)?;
    let overlap = match fields.text("overlap") {
        "" | "0s" => None,
        overlap => Some(overlap),
    };
    let message = json!({"revoke_old_after": overlap});
    match who.api.call(Method::POST, &format!("{path}:rotate"), &message).await {
        Ok(Rotated { issued_api_key, secret }) => {
            let page = who.page(Section::Keys, "The key is rotated");
            let next = format!("/console/keys/{}", issued_api_key.id);
            Ok(html(&SecretPage { page, heading: "The key is rotated", secret, next }))
        }
        Err(failure) if failure.is_correctable() => {
            let mut form = form(&who, &id).await?;
            form.page = form.page.with_error(sentence(&failure.message));
            Ok(form_html(&form.page, &form))
        }
        Err(failure) => Err(failure.into()),
    }
}

async fn form(who: &SignedIn, id: &str) -> Result<RotatePage, Failure> {
    let key: Key = who.api.get(&key_path(id).ok_or_else(Failure::not_found)?).await?;
    let used = key.last_used_time.map(|time| Moment::of_day(time, who.now));
    Ok(RotatePage { page: who.page(Section::Keys, "Rotate a key"), key, used })
}
