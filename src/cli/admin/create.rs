//! `keygate admin keys create`: over the API, or in a database for the first key of an installation.

use anyhow::{Context, anyhow, bail};
use clap::Args;
use serde_json::{Value, json};

use super::secret::HmacSecret;
use crate::app::{AdminGrant, AdminKeyDatabase, NewAdminKey, create_admin_key};
use crate::cli::client::Call;
use crate::cli::connection::Connection;
use crate::cli::keys::{list, ttl};
use crate::duration::parse_extended;

/// The path of admin keys.
pub(super) const ADMIN_KEYS: &str = "/keygate/v1/adminKeys";

/// Arguments of `create`.
#[derive(Debug, Args)]
pub(super) struct Create {
    /// Display name of the key
    name: String,
    /// Comma-separated roles: read, verify, manage, admin
    #[arg(long, value_name = "A,B", required = true)]
    roles: Vec<String>,
    /// Comma-separated prefixes of the actors whose keys it may name; default: every actor
    #[arg(long, value_name = "A,B")]
    actors: Vec<String>,
    /// Time to live: Go's units and d, w, mo, y; default: the default of the configuration
    #[arg(long, value_name = "DURATION", value_parser = ttl)]
    ttl: Option<String>,
    /// Comma-separated client networks that may use the key, for example 10.0.0.0/8
    #[arg(long, value_name = "CIDR,CIDR")]
    allowed_cidrs: Vec<String>,
    /// DSN of the database to create the key in, without a running server
    // The variables of `migrate` are not read: they are often set, and a key must not be created in a database by accident.
    #[arg(long, value_name = "DSN", conflicts_with = "allowed_cidrs")]
    database: Option<String>,
    #[command(flatten)]
    secret: HmacSecret,
}

impl Create {
    /// Creates the key. Returns the response of the API, also without one.
    pub(super) fn run(&self, connection: &Connection) -> anyhow::Result<Value> {
        match &self.database {
            Some(dsn) => self.create_in(dsn),
            None => connection.open()?.send(self.call()).context("create admin key"),
        }
    }

    fn call(&self) -> Call {
        let mut body = json!({ "name": self.name, "roles": list(&self.roles), "actors": list(&self.actors) });
        if let Some(ttl) = self.ttl.as_deref().filter(|ttl| !ttl.is_empty()) {
            body["ttl"] = ttl.into();
        }
        let cidrs = list(&self.allowed_cidrs);
        if !cidrs.is_empty() {
            body["ip_restriction"] = json!({ "allowed_cidrs": cidrs });
        }
        Call::post(ADMIN_KEYS, body)
    }

    fn create_in(&self, dsn: &str) -> anyhow::Result<Value> {
        if dsn.trim() == ":memory:" || dsn.ends_with("://:memory:") {
            bail!("--database: a key in a database in memory is lost at once; name the database of the server");
        }
        let grant = AdminGrant::parse(&list(&self.roles), &list(&self.actors)).map_err(|why| anyhow!(why))?;
        let ttl = self.ttl.as_deref().filter(|ttl| !ttl.is_empty()).map(parse_extended).transpose()?;
        let database = AdminKeyDatabase { dsn: dsn.to_owned(), hmac_secret: self.secret.read()? };
        create_admin_key(database, NewAdminKey { ttl, ..NewAdminKey::new(&*self.name, grant) })
            .context("create admin key")
    }
}
