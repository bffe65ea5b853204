//! `keygate keys issued`, and `keygate keys issue`, which is the first of them.

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::Value;

use super::fields::{Fields, list, object, ttl};
use super::manage::{Get, Kind, List, Revoke};
use super::update::Update;
use super::{ISSUED, Session};
use crate::cli::client::{Call, segment};
use crate::cli::output::Columns;

const KEY_AND_SECRET: &Columns = &[
    ("KEY ID", "key_id"),
    ("NAME", "name"),
    ("ACTOR ID", "actor_id"),
    ("STATUS", "status"),
    ("SCOPES", "scopes"),
    ("SECRET", "secret"),
];

/// `keygate keys issued`.
#[derive(Debug, Subcommand)]
pub(super) enum Issued {
    /// Issue a key; its secret is shown this once
    #[command(visible_alias = "create")]
    Issue(Issue),
    /// Show a key
    Get(Get),
    /// List keys
    List(List),
    /// Change a key; only what is named is changed
    Update(Update),
    /// Put a new key in a key's place; the old one is revoked
    Rotate(Rotate),
    /// Revoke a key, for good
    Revoke(Revoke),
}

/// Arguments of `issue`.
#[derive(Debug, Args)]
pub(super) struct Issue {
    /// What the key is called
    name: String,
    /// Who will use it
    #[arg(long, value_name = "ID")]
    actor: String,
    /// How long it lives: Go's units and d, w, mo, y
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = ttl)]
    ttl: String,
    #[command(flatten)]
    fields: Fields,
}

/// Arguments of `rotate`.
#[derive(Debug, Args)]
pub(super) struct Rotate {
    /// The old key
    key_id: String,
    /// What the new key is called, if not as the old one
    #[arg(long)]
    name: Option<String>,
    /// The new key's scopes, separated by commas, if not the old one's
    #[arg(long, value_name = "A,B")]
    scopes: Option<Vec<String>>,
    /// The new key's metadata, a JSON object, if not the old one's
    #[arg(long, value_name = "JSON")]
    metadata: Option<String>,
}

impl Issued {
    pub(super) fn run(&self, session: &Session<'_>) -> anyhow::Result<()> {
        match self {
            Self::Issue(issue) => issue.run(session),
            Self::Get(get) => get.run(session, Kind::Issued),
            Self::List(list) => list.run(session, Kind::Issued),
            Self::Update(update) => update.run(session, Kind::Issued),
            Self::Rotate(rotate) => rotate.run(session),
            Self::Revoke(revoke) => revoke.run(session, Kind::Issued),
        }
    }
}

impl Issue {
    pub(super) fn run(&self, session: &Session<'_>) -> anyhow::Result<()> {
        let mut body = self.fields.body()?;
        body.insert("name".into(), self.name.as_str().into());
        body.insert("actor_id".into(), self.actor.as_str().into());
        if !self.ttl.is_empty() {
            body.insert("ttl".into(), self.ttl.as_str().into());
        }
        let answer = session.client.send(Call::post(ISSUED, body.into())).context("issue API key")?;
        session.output.row(&answer, &with_secret(&answer), KEY_AND_SECRET)
    }
}

impl Rotate {
    fn run(&self, session: &Session<'_>) -> anyhow::Result<()> {
        let mut body = super::fields::Body::new();
        if let Some(name) = &self.name {
            body.insert("name".into(), name.as_str().into());
        }
        if let Some(scopes) = &self.scopes {
            body.insert("scopes".into(), list(scopes).into());
        }
        if let Some(text) = self.metadata.as_deref().filter(|text| !text.trim().is_empty()) {
            body.insert("metadata".into(), object("--metadata", text)?);
        }
        let path = format!("{ISSUED}/{}:rotate", segment(&self.key_id));
        let answer = session.client.send(Call::post(path, body.into())).context("rotate API key")?;
        session.output.row(&answer, &with_secret(&answer), KEY_AND_SECRET)
    }
}

/// The new key and its secret as one row.
fn with_secret(answer: &Value) -> Value {
    let mut row = answer["issued_api_key"].clone();
    if let Value::Object(members) = &mut row {
        members.insert("secret".into(), answer["secret"].clone());
    }
    row
}
