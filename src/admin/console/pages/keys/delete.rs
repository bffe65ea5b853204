//! Deleting an imported key.

use axum::extract::Path;
use axum::response::{IntoResponse, Redirect, Response};
use http::Method;
use serde_json::Value;

use crate::admin::console::failure::Failure;
use crate::admin::console::model::key_path;
use crate::admin::console::signed_in::Posted;

/// Deletes the key, if the form confirms it.
pub(super) async fn delete(Path(id): Path<String>, Posted { who, fields }: Posted) -> Result<Response, Failure> {
    let path = key_path(&id).ok_or_else(Failure::not_found)?;
    if fields.text("sure") != "yes" {
        return Err(Failure::Form("The deletion is not confirmed. Nothing was changed.".to_owned()));
    }
    who.api.call::<()>(Method::DELETE, &path, &Value::Null).await?;
    Ok(Redirect::to("/console/keys?done=deleted").into_response())
}
