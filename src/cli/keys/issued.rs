//! `keygate keys issued`, and `keygate keys issue`, which is short for `keygate keys issued issue`.

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::Value;

use super::fields::{Body, Fields, list, object, overlap, ttl};
use super::manage::{Get, Kind, List, Revoke};
use super::session::{ISSUED, Session};
use super::update::Update;
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
    /// Issue a key; its secret is shown only once
    #[command(visible_alias = "create")]
    Issue(Issue),
    /// Show a key
    Get(Get),
    /// List keys
    List(List),
    /// Update the given fields of a key
    Update(Update),
    /// Replace a key with a new one; the old key is revoked at once, or after --overlap
    Rotate(Rotate),
    /// Revoke a key permanently
    Revoke(Revoke),
}

/// Arguments of `issue`.
#[derive(Debug, Args)]
pub(super) struct Issue {
    /// Display name of the key
    name: String,
    /// Actor that the key identifies
    #[arg(long, value_name = "ID")]
    actor: String,
    /// Time to live: Go's units and d, w, mo, y
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = ttl)]
    ttl: String,
    #[command(flatten)]
    fields: Fields,
}

/// Arguments of `rotate`.
#[derive(Debug, Args)]
pub(super) struct Rotate {
    /// Id of the old key
    key_id: String,
    /// Display name of the new key; default: that of the old key
    #[arg(long)]
    name: Option<String>,
    /// Comma-separated scopes of the new key; default: those of the old key
    #[arg(long, value_name = "A,B")]
    scopes: Option<Vec<String>>,
    /// Metadata of the new key, a JSON object; default: that of the old key
    #[arg(long, value_name = "JSON")]
    metadata: Option<String>,
    /// How long the old key stays active, for example 24h; default: it is revoked at once
    #[arg(long, value_name = "DURATION", value_parser = overlap)]
    overlap: Option<String>,
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
        let response = session.client.send(Call::post(ISSUED, body.into())).context("issue API key")?;
        session.output.row(&response, &with_secret(&response), KEY_AND_SECRET)
    }
}

impl Rotate {
    fn run(&self, session: &Session<'_>) -> anyhow::Result<()> {
        let mut body = Body::new();
        if let Some(name) = &self.name {
            body.insert("name".into(), name.as_str().into());
        }
        if let Some(scopes) = &self.scopes {
            body.insert("scopes".into(), list(scopes).into());
        }
        if let Some(text) = self.metadata.as_deref().filter(|text| !text.trim().is_empty()) {
            body.insert("metadata".into(), object("--metadata", text)?);
        }
        if let Some(overlap) = &self.overlap {
            body.insert("revoke_old_after".into(), overlap.as_str().into());
        }
        let path = format!("{ISSUED}/{}:rotate", segment(&self.key_id));
        let response = session.client.send(Call::post(path, body.into())).context("rotate API key")?;
        if let Some(end) = response["old_issued_api_key"]["revoke_time"].as_str() {
            eprintln!("The old key {} stays active until {end}", self.key_id);
        }
        session.output.row(&response, &with_secret(&response), KEY_AND_SECRET)
    }
}

/// Merges the new key and its secret into one row.
fn with_secret(response: &Value) -> Value {
    let mut row = response["issued_api_key"].clone();
    if let Value::Object(members) = &mut row {
        members.insert("secret".into(), response["secret"].clone());
    }
    row
}
