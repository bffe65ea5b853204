//! Commands that work the same way for issued and imported keys: `get`, `list` and `revoke`.

use anyhow::{Context, bail};
use clap::Args;
use serde_json::{Value, json};

use super::fields::{reason, status};
use super::session::{IMPORTED, ISSUED, KEY, Session};
use crate::cli::client::{Call, CallError, segment};

/// Maximum page size of the API.
const PAGE_SIZE_MAX: &str = "1000";

/// Issued or imported keys.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Issued,
    Imported,
}

/// Arguments of `get`.
#[derive(Debug, Args)]
pub(super) struct Get {
    /// Id of the key
    key_id: String,
}

/// Arguments of `list`.
#[derive(Debug, Args)]
pub(super) struct List {
    /// List only keys with this status: active, revoked or expired
    #[arg(long, value_parser = status)]
    status: Option<String>,
    /// List only keys of this actor
    #[arg(long, value_name = "ID")]
    actor: Option<String>,
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

/// Arguments of `revoke`.
#[derive(Debug, Args)]
pub(super) struct Revoke {
    /// Id of the key
    key_id: String,
    /// key-compromise, affiliation-changed, superseded or privilege-withdrawn
    #[arg(long, default_value = "", hide_default_value = true, value_parser = reason)]
    reason: String,
    /// Explanation; only with --reason privilege-withdrawn
    #[arg(long, value_name = "TEXT")]
    reason_text: Option<String>,
}

impl Kind {
    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Issued => ISSUED,
            Self::Imported => IMPORTED,
        }
    }

    pub(super) fn noun(self) -> &'static str {
        match self {
            Self::Issued => "issued API key",
            Self::Imported => "imported API key",
        }
    }

    /// The member of a list response that has the keys.
    fn keys(self) -> &'static str {
        match self {
            Self::Issued => "issued_api_keys",
            Self::Imported => "imported_api_keys",
        }
    }
}

impl Get {
    pub(super) fn run(&self, session: &Session<'_>, kind: Kind) -> anyhow::Result<()> {
        show(session, kind, &self.key_id)
    }
}

fn show(session: &Session<'_>, kind: Kind, key_id: &str) -> anyhow::Result<()> {
    let call = Call::get(format!("{}/{}", kind.path(), segment(key_id)));
    let key = session.client.send(call).with_context(|| format!("get {}", kind.noun()))?;
    session.output.row(&key, &key, KEY)
}

impl List {
    pub(super) fn run(&self, session: &Session<'_>, kind: Kind) -> anyhow::Result<()> {
        let filter = self.filter()?;
        let action = || format!("list {}s", kind.noun());
        let mut token = self.page_token.clone().unwrap_or_default();
        let mut response = self.page(session, kind, &filter, &token).with_context(action)?;
        let mut keys = take_keys(&mut response, kind);
        while self.all && !next_token(&response).is_empty() {
            let next = next_token(&response).to_owned();
            if next == token {
                bail!("list {}s: the server returned the same page token twice", kind.noun());
            }
            token = next;
            response = self.page(session, kind, &filter, &token).with_context(action)?;
            keys.append(&mut take_keys(&mut response, kind));
        }
        if !next_token(&response).is_empty() {
            eprintln!("Next page token: {}", next_token(&response));
        }
        response[kind.keys()] = keys.into();
        let rows = response[kind.keys()].as_array().map_or(&[][..], Vec::as_slice);
        session.output.list(&response, rows, KEY)
    }

    fn page(&self, session: &Session<'_>, kind: Kind, filter: &str, token: &str) -> Result<Value, CallError> {
        let default = if self.all { PAGE_SIZE_MAX } else { "" };
        let size = self.page_size.map_or_else(|| default.to_owned(), |size| size.to_string());
        let call = Call::get(kind.path()).query("filter", filter.to_owned()).query("page_size", size);
        session.client.send(call.query("page_token", token.to_owned()))
    }

    fn filter(&self) -> anyhow::Result<String> {
        let mut clauses = Vec::new();
        if let Some(actor) = self.actor.as_deref().filter(|actor| !actor.is_empty()) {
            if actor.contains('"') {
                bail!(
                    "--actor: the API cannot filter by an actor id with a quotation mark; omit --actor and filter with jq"
                );
            }
            clauses.push(format!("actor_id=\"{actor}\""));
        }
        clauses.extend(self.status.iter().map(|status| format!("status={status}")));
        Ok(clauses.join(" AND "))
    }
}

fn next_token(response: &Value) -> &str {
    response["next_page_token"].as_str().unwrap_or_default()
}

/// Takes the keys out of a response. An empty list stays in their place, so that the order of members is kept.
fn take_keys(response: &mut Value, kind: Kind) -> Vec<Value> {
    match response.get_mut(kind.keys()).map(|keys| std::mem::replace(keys, json!([]))) {
        Some(Value::Array(keys)) => keys,
        _ => Vec::new(),
    }
}

impl Revoke {
    pub(super) fn run(&self, session: &Session<'_>, kind: Kind) -> anyhow::Result<()> {
        let mut body = json!({ "reason": self.reason });
        if let Some(text) = self.reason_text.as_deref().filter(|text| !text.is_empty()) {
            body["description"] = text.into();
        }
        let call = Call::post(format!("{}/{}:revoke", kind.path(), segment(&self.key_id)), body);
        session.client.send(call).with_context(|| format!("revoke {}", kind.noun()))?;
        show(session, kind, &self.key_id)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Listing {
        #[command(flatten)]
        list: List,
    }

    #[test]
    fn flags_are_converted_to_an_api_filter() {
        for (arguments, expected) in [
            (&[][..], ""),
            (&["--actor", "a b"], "actor_id=\"a b\""),
            (&["--actor", "x", "--status", "active"], "actor_id=\"x\" AND status=KEY_STATUS_ACTIVE"),
            (&["--status", "KEY_STATUS_EXPIRED"], "status=KEY_STATUS_EXPIRED"),
        ] {
            let list = Listing::try_parse_from([&["list"], arguments].concat()).unwrap().list;
            assert_eq!(list.filter().unwrap(), expected);
        }
        assert!(Listing::try_parse_from(["list", "--actor", "\""]).unwrap().list.filter().is_err());
    }
}
