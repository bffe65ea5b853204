//! Lists in pages.

use anyhow::{Context, bail};
use clap::Args;
use serde_json::{Value, json};

use super::session::Session;
use crate::cli::client::{Call, CallError};
use crate::cli::output::Columns;

/// Maximum page size of the API.
const PAGE_SIZE_MAX: &str = "1000";

/// Arguments of lists.
#[derive(Debug, Args)]
pub(super) struct Pages {
    /// Maximum number of keys per page; default: that of the server
    #[arg(long, value_name = "NUMBER")]
    page_size: Option<u32>,
    /// Continue after the page that returned this token
    #[arg(long, value_name = "TOKEN", allow_hyphen_values = true)]
    page_token: Option<String>,
    /// List all pages
    #[arg(long)]
    all: bool,
}

/// What a list consists of.
pub(super) struct Listing<'a> {
    /// For errors, for example `list keys`.
    pub(super) action: String,
    pub(super) path: &'a str,
    /// The member of the response that has the keys.
    pub(super) member: &'static str,
    pub(super) query: Vec<(&'static str, String)>,
    pub(super) columns: &'a Columns,
}

impl Pages {
    /// Prints a page, or all of them.
    pub(super) fn print(&self, session: &Session<'_>, listing: &Listing<'_>) -> anyhow::Result<()> {
        let action = || listing.action.clone();
        let mut token = self.page_token.clone().unwrap_or_default();
        let mut response = self.page(session, listing, &token).with_context(action)?;
        let mut keys = take(&mut response, listing.member);
        while self.all && !next_token(&response).is_empty() {
            let next = next_token(&response).to_owned();
            if next == token {
                bail!("{}: the server returned the same page token twice", listing.action);
            }
            token = next;
            response = self.page(session, listing, &token).with_context(action)?;
            keys.append(&mut take(&mut response, listing.member));
        }
        if !next_token(&response).is_empty() {
            eprintln!("Next page token: {}", next_token(&response));
        }
        response[listing.member] = keys.into();
        let rows = response[listing.member].as_array().map_or(&[][..], Vec::as_slice);
        session.output.list(&response, rows, listing.columns)
    }

    fn page(&self, session: &Session<'_>, listing: &Listing<'_>, token: &str) -> Result<Value, CallError> {
        let default = if self.all { PAGE_SIZE_MAX } else { "" };
        let size = self.page_size.map_or_else(|| default.to_owned(), |size| size.to_string());
        let parameters = listing.query.iter().cloned();
        let call = parameters.fold(Call::get(listing.path), |call, (name, value)| call.query(name, value));
        session.client.send(call.query("page_size", size).query("page_token", token.to_owned()))
    }
}

fn next_token(response: &Value) -> &str {
    response["next_page_token"].as_str().unwrap_or_default()
}

/// Takes the keys out of a response. An empty list stays in their place, so that the order of members is kept.
fn take(response: &mut Value, member: &str) -> Vec<Value> {
    match response.get_mut(member).map(|keys| std::mem::replace(keys, json!([]))) {
        Some(Value::Array(keys)) => keys,
        _ => Vec::new(),
    }
}
