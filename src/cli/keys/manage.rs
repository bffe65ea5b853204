//! What is done in the same way to issued and to imported keys.

use anyhow::{Context, bail};
use clap::Args;
use serde_json::{Value, json};

use super::fields::{reason, status};
use super::{IMPORTED, ISSUED, KEY, Session};
use crate::cli::client::{Call, CallError, segment};

/// The largest page that the API gives.
const PAGE: &str = "1000";

/// Which keys are meant.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Issued,
    Imported,
}

/// Arguments of `get`.
#[derive(Debug, Args)]
pub(super) struct Get {
    /// The key's id
    key_id: String,
}

/// Arguments of `list`.
#[derive(Debug, Args)]
pub(super) struct List {
    /// Only keys of this status: active, revoked or expired; goes with --actor
    #[arg(long, value_parser = status)]
    status: Option<String>,
    /// Only keys of this actor
    #[arg(long, value_name = "ID")]
    actor: Option<String>,
    /// How many keys at most; the server has a default
    #[arg(long, value_name = "NUMBER")]
    page_size: Option<u32>,
    /// Go on where another list ended
    #[arg(long, value_name = "TOKEN", allow_hyphen_values = true)]
    page_token: Option<String>,
    /// Follow the pages to the end
    #[arg(long)]
    all: bool,
}

/// Arguments of `revoke`.
#[derive(Debug, Args)]
pub(super) struct Revoke {
    /// The key's id
    key_id: String,
    /// key-compromise, affiliation-changed, superseded or privilege-withdrawn
    #[arg(long, default_value = "", hide_default_value = true, value_parser = reason)]
    reason: String,
    /// The reason in words; goes with privilege-withdrawn
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

    /// The member of a list's answer that has the keys.
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
        let failed = || format!("list {}s", kind.noun());
        let mut token = self.page_token.clone().unwrap_or_default();
        let mut answer = self.page(session, kind, &filter, &token).with_context(failed)?;
        let mut keys = take_keys(&mut answer, kind);
        while self.all && !next_token(&answer).is_empty() {
            let next = next_token(&answer).to_owned();
            if next == token {
                bail!("list {}s: the server gives the same page again and again", kind.noun());
            }
            token = next;
            answer = self.page(session, kind, &filter, &token).with_context(failed)?;
            keys.append(&mut take_keys(&mut answer, kind));
        }
        if !next_token(&answer).is_empty() {
            eprintln!("Next page token: {}", next_token(&answer));
        }
        answer[kind.keys()] = keys.into();
        let rows = answer[kind.keys()].as_array().map_or(&[][..], Vec::as_slice);
        session.output.list(&answer, rows, KEY)
    }

    fn page(&self, session: &Session<'_>, kind: Kind, filter: &str, token: &str) -> Result<Value, CallError> {
        let default = if self.all { PAGE } else { "" };
        let size = self.page_size.map_or_else(|| default.to_owned(), |size| size.to_string());
        let call = Call::get(kind.path()).query("filter", filter.to_owned()).query("page_size", size);
        session.client.send(call.query("page_token", token.to_owned()))
    }

    fn filter(&self) -> anyhow::Result<String> {
        let mut clauses = Vec::new();
        if let Some(actor) = self.actor.as_deref().filter(|actor| !actor.is_empty()) {
            if actor.contains('"') {
                bail!("--actor: the API cannot filter by an actor with a quotation mark; leave it out and use jq");
            }
            clauses.push(format!("actor_id=\"{actor}\""));
        }
        clauses.extend(self.status.iter().map(|status| format!("status={status}")));
        Ok(clauses.join(" AND "))
    }
}

fn next_token(answer: &Value) -> &str {
    answer["next_page_token"].as_str().unwrap_or_default()
}

/// The keys of an answer, in whose place an empty list stays, so that members keep their order.
fn take_keys(answer: &mut Value, kind: Kind) -> Vec<Value> {
    match answer.get_mut(kind.keys()).map(|keys| std::mem::replace(keys, json!([]))) {
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
    fn filters_are_in_the_grammar_of_the_api() {
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
