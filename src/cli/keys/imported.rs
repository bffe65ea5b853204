//! `keygate keys imported`.

use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use super::batch::BatchImport;
use super::fields::{Fields, credential, ttl};
use super::manage::{Get, Kind, List, Revoke};
use super::session::{IMPORTED, KEY, Session};
use super::update::Update;
use crate::cli::client::{Call, segment};

/// `keygate keys imported`.
#[derive(Debug, Subcommand)]
pub(super) enum Imported {
    /// Import a key created by another system
    Import(Import),
    /// Import many keys from a file; a second run imports only the missing keys
    #[command(visible_alias = "import-batch")]
    BatchImport(BatchImport),
    /// Show a key
    Get(Get),
    /// List keys
    List(List),
    /// Update the given fields of a key
    Update(Update),
    /// Revoke a key permanently
    Revoke(Revoke),
    /// Delete a key, which can then be imported again
    Delete(Delete),
}

/// Arguments of `import`.
#[derive(Debug, Args)]
pub(super) struct Import {
    /// Display name of the key
    name: String,
    /// The raw key; - reads it from stdin
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    raw_key: SecretString,
    /// Actor that the key identifies
    #[arg(long, value_name = "ID")]
    actor: String,
    /// Time to live: Go's units and d, w, mo, y; default: that of the server
    #[arg(long, value_name = "DURATION", default_value = "", hide_default_value = true, value_parser = ttl)]
    ttl: String,
    #[command(flatten)]
    fields: Fields,
}

/// Arguments of `delete`.
#[derive(Debug, Args)]
pub(super) struct Delete {
    /// Id of the key
    key_id: String,
}

impl Imported {
    pub(super) fn run(&self, session: &Session<'_>) -> anyhow::Result<ExitCode> {
        match self {
            Self::Import(import) => import.run(session),
            Self::BatchImport(import) => return import.run(session),
            Self::Get(get) => get.run(session, Kind::Imported),
            Self::List(list) => list.run(session, Kind::Imported),
            Self::Update(update) => update.run(session, Kind::Imported),
            Self::Revoke(revoke) => revoke.run(session, Kind::Imported),
            Self::Delete(delete) => delete.run(session),
        }
        .map(|()| ExitCode::SUCCESS)
    }
}

impl Import {
    fn run(&self, session: &Session<'_>) -> anyhow::Result<()> {
        let mut body = self.fields.body()?;
        let raw_key = credential(&self.raw_key)?;
        body.insert("raw_key".into(), raw_key.expose_secret().into());
        body.insert("name".into(), self.name.as_str().into());
        body.insert("actor_id".into(), self.actor.as_str().into());
        if !self.ttl.is_empty() {
            body.insert("ttl".into(), self.ttl.as_str().into());
        }
        let key = session.client.send(Call::post(IMPORTED, body.into())).context("import API key")?;
        session.output.row(&key, &key, KEY)
    }
}

impl Delete {
    fn run(&self, session: &Session<'_>) -> anyhow::Result<()> {
        let path = format!("{IMPORTED}/{}", segment(&self.key_id));
        session.client.send(Call::delete(path)).context("delete imported API key")?;
        let result = json!({ "id": self.key_id, "deleted": true });
        session.output.row(&result, &result, &[("ID", "id"), ("Deleted", "deleted")])
    }
}
