//! Revoking keys, with a preview of what they did in the last day.

use askama::Template;
use axum::response::{IntoResponse, Redirect, Response};
use chrono::{SecondsFormat, TimeDelta};
use http::Method;
use serde_json::json;

use super::list::Row;
use crate::admin::console::failure::{Failure, sentence};
use crate::admin::console::fields::Fields;
use crate::admin::console::model::{Key, Usage, key_path};
use crate::admin::console::page::{Page, Section, form_html};
use crate::admin::console::signed_in::{Posted, SignedIn};

/// The most keys that one form revokes.
const KEYS_MAX: usize = 100;

#[derive(Template)]
#[template(path = "console/keys/revoke.html")]
struct RevokePage {
    page: Page,
    rows: Vec<Preview>,
    reason: String,
    description: String,
    /// The results of keys that were not revoked.
    failures: Vec<(String, String)>,
    /// How many keys were revoked, after the form was sent.
    revoked: usize,
}

/// A key to revoke.
struct Preview {
    row: Row,
    /// Requests in the last 24 hours; `None` if they cannot be read.
    requests: Option<u64>,
}

/// Shows the preview of the selected keys.
pub(super) async fn show(who: SignedIn, fields: Fields) -> Result<Response, Failure> {
    let page = preview(&who, &fields, Vec::new()).await?;
    Ok(form_html(&page.page, &page))
}

/// Revokes the keys of the form.
pub(super) async fn revoke(Posted { who, fields }: Posted) -> Result<Response, Failure> {
    let ids = selected(&fields)?;
    let description = Some(fields.text("description")).filter(|text| !text.is_empty());
    let message = json!({"reason": fields.text("reason"), "description": description});
    let mut failures = Vec::new();
    for id in &ids {
        let path = key_path(id).ok_or_else(Failure::not_found)?;
        match who.api.call::<()>(Method::POST, &format!("{path}:revoke"), &message).await {
            Ok(()) => {}
            Err(failure) if failure.is_correctable() => failures.push((id.clone(), sentence(&failure.message))),
            Err(failure) => return Err(failure.into()),
        }
    }
    match ids.as_slice() {
        [id] if failures.is_empty() => Ok(Redirect::to(&format!("/console/keys/{id}?done=revoked")).into_response()),
        _ => {
            let mut page = preview(&who, &fields, failures).await?;
            page.revoked = ids.len() - page.failures.len();
            Ok(form_html(&page.page, &page))
        }
    }
}

/// The selected keys, each once.
fn selected(fields: &Fields) -> Result<Vec<String>, Failure> {
    let mut ids: Vec<_> = fields.all("id").into_iter().map(str::to_owned).collect();
    ids.sort_unstable();
    ids.dedup();
    match ids.len() {
        0 => Err(Failure::Form("No key is selected. Go back and select keys in the list.".to_owned())),
        1..=KEYS_MAX => Ok(ids),
        count => Err(Failure::Form(format!("{count} keys are selected; at most {KEYS_MAX} can be revoked at once."))),
    }
}

async fn preview(who: &SignedIn, fields: &Fields, failures: Vec<(String, String)>) -> Result<RevokePage, Failure> {
    let since = (who.now - TimeDelta::hours(23)).to_rfc3339_opts(SecondsFormat::Secs, true);
    let mut rows = Vec::new();
    for id in selected(fields)? {
        let path = key_path(&id).ok_or_else(Failure::not_found)?;
        let usage = format!("/keygate/v1/keys/{id}/usage");
        let parameters = [("step", "hour"), ("from", since.as_str())];
        let (key, usage) = tokio::join!(who.api.get::<Key>(&path), who.api.find::<Usage>(&usage, &parameters));
        rows.push(Preview { row: Row::new(key?, who.now), requests: usage.ok().map(|usage| usage.total.requests) });
    }
    let page = who.page(Section::Keys, if rows.len() == 1 { "Revoke a key" } else { "Revoke keys" });
    let error = if failures.is_empty() { String::new() } else { format!("{} keys were not revoked.", failures.len()) };
    let (reason, description) = (fields.text("reason").to_owned(), fields.text("description").to_owned());
    Ok(RevokePage { page: page.with_error(error), rows, reason, description, failures, revoked: 0 })
}

impl RevokePage {
    /// The sum of the requests in the last day.
    fn requests(&self) -> u64 {
        self.rows.iter().filter_map(|preview| preview.requests).sum()
    }

    /// The keys that can still be revoked.
    fn active(&self) -> usize {
        self.rows.iter().filter(|preview| preview.row.key.is_active()).count()
    }

    /// Whether a reason is selected.
    fn is_reason(&self, reason: &str) -> bool {
        self.reason == reason
    }
}
