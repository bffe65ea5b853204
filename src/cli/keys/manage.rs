//! Commands that work the same way for issued and imported keys: `get`, `list` and `revoke`.

use anyhow::{Context, bail};
use clap::Args;
use serde_json::json;

use super::fields::{reason, status};
use super::pages::{Listing, Pages};
use super::session::{IMPORTED, ISSUED, KEY, Session};
use crate::cli::client::{Call, segment};

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
    #[command(flatten)]
    pages: Pages,
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
        let listing = Listing {
            action: format!("list {}s", kind.noun()),
            path: kind.path(),
            member: kind.keys(),
            query: vec![("filter", self.filter()?)],
            columns: KEY,
        };
        self.pages.print(session, &listing)
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
