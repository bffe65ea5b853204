//! Deriving a token from a key, whose secret the person pastes.

use askama::Template;
use axum::extract::Path;
use axum::response::Response;
use http::Method;
use serde::Deserialize;
use serde_json::json;

use crate::admin::console::failure::{Failure, sentence};
use crate::admin::console::fields::Fields;
use crate::admin::console::model::{Key, key_path};
use crate::admin::console::page::{Page, Section, form_html, html};
use crate::admin::console::pages::secret::SecretPage;
use crate::admin::console::signed_in::{Posted, SignedIn};

#[derive(Template)]
#[template(path = "console/keys/derive.html")]
struct DerivePage {
    page: Page,
    key: Key,
    fields: Fields,
}

#[derive(Deserialize)]
struct Derived {
    token: Token,
}

#[derive(Deserialize)]
struct Token {
    token: String,
}

/// Shows the form.
pub(super) async fn show(who: SignedIn, Path(id): Path<String>) -> Result<Response, Failure> {
    Ok(html(&form(&who, &id, Fields::default()).await?))
}

/// Derives the token.
pub(super) async fn derive(Path(id): Path<String>, Posted { who, fields }: Posted) -> Result<Response, Failure> {
    let ttl = Some(fields.text("ttl")).filter(|ttl| !ttl.is_empty());
    let message = json!({
        "credential": fields.text("credential"),
        "algorithm": fields.text("algorithm"),
        "ttl": ttl,
        "scopes": fields.lines("scopes"),
        "audiences": fields.lines("audiences"),
    });
    match who.api.call(Method::POST, "/v2alpha1/admin/apiKeys:derive", &message).await {
        Ok(Derived { token }) => {
            let page = who.page(Section::Keys, "The token is derived");
            let next = format!("/console/keys/{id}");
            Ok(html(&SecretPage { page, heading: "The token is derived", secret: token.token, next }))
        }
        // 401 and 403 are about the pasted secret too: who may not derive tokens sees no form.
        Err(failure) if failure.status.is_client_error() => {
            let mut form = form(&who, &id, fields).await?;
            form.page = form.page.with_error(sentence(&failure.message));
            Ok(form_html(&form.page, &form))
        }
        Err(failure) => Err(failure.into()),
    }
}

async fn form(who: &SignedIn, id: &str, fields: Fields) -> Result<DerivePage, Failure> {
    let key = who.api.get(&key_path(id).ok_or_else(Failure::not_found)?).await?;
    Ok(DerivePage { page: who.page(Section::Keys, "Derive a token"), key, fields })
}
