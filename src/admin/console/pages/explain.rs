//! Why a request is accepted or refused.

use askama::Template;
use axum::response::Response;
use http::Method;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::admin::console::failure::{Failure, sentence};
use crate::admin::console::fields::Fields;
use crate::admin::console::model::Key;
use crate::admin::console::page::{Page, Section, form_html, html};
use crate::admin::console::signed_in::{Posted, SignedIn};

/// The members of the message, which are the fields of the form.
const MEMBERS: [&str; 5] = ["credential", "key_id", "method", "url", "client_ip"];

#[derive(Template)]
#[template(path = "console/explain.html")]
struct ExplainPage {
    page: Page,
    fields: Fields,
    result: Option<Explanation>,
}

#[derive(Deserialize)]
struct Explanation {
    decision: Decision,
    credential_type: Option<String>,
    route: Option<String>,
    steps: Vec<Step>,
    key: Option<Key>,
}

#[derive(Deserialize)]
struct Decision {
    allowed: Option<bool>,
    step: Option<String>,
    status: Option<u16>,
    code: Option<String>,
}

#[derive(Deserialize)]
struct Step {
    #[serde(rename = "step")]
    name: String,
    outcome: String,
    code: Option<String>,
    detail: String,
}

/// Shows the form; `key_id` may be filled in.
pub(super) async fn show(who: SignedIn, fields: Fields) -> Response {
    let mut shown = Fields::default();
    shown.set("key_id", fields.text("key_id"));
    html(&ExplainPage { page: who.page(Section::Explain, "Explain"), fields: shown, result: None })
}

/// Explains the request of the form. The credential is not shown again.
pub(super) async fn explain(Posted { who, fields }: Posted) -> Result<Response, Failure> {
    let page = who.page(Section::Explain, "Explain");
    let members = MEMBERS.into_iter().map(|name| (name.to_owned(), Value::from(fields.text(name))));
    let message = members.filter(|(_, value)| value != "").collect::<Map<_, _>>();
    let result = who.api.call(Method::POST, "/keygate/v1/explain", &Value::Object(message)).await;
    let mut fields = fields;
    fields.set("credential", "");
    match result {
        Ok(result) => Ok(html(&ExplainPage { page, fields, result: Some(result) })),
        Err(failure) if failure.is_correctable() => {
            let form = ExplainPage { page: page.with_error(sentence(&failure.message)), fields, result: None };
            Ok(form_html(&form.page, &form))
        }
        Err(failure) => Err(failure.into()),
    }
}

impl Step {
    /// The class of the mark.
    fn class(&self) -> &'static str {
        match self.outcome.as_str() {
            "passed" => "good",
            "failed" => "bad",
            _ => "idle",
        }
    }
}
