//! `keygate admin keys`.

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::create::{ADMIN_KEYS, Create};
use crate::cli::client::{Call, Client, segment};
use crate::cli::connection::Connection;
use crate::cli::output::{Columns, Output};

const KEY: &Columns = &[
    ("KEY ID", "key_id"),
    ("NAME", "name"),
    ("ROLES", "roles"),
    ("ACTORS", "actors"),
    ("STATUS", "status"),
    ("EXPIRE TIME", "expire_time"),
];
const KEY_AND_SECRET: &Columns = &[
    ("KEY ID", "key_id"),
    ("NAME", "name"),
    ("ROLES", "roles"),
    ("ACTORS", "actors"),
    ("STATUS", "status"),
    ("EXPIRE TIME", "expire_time"),
    ("SECRET", "secret"),
];

/// `keygate admin keys`.
#[derive(Debug, Subcommand)]
pub(super) enum Keys {
    /// Create an admin key; its secret is shown only once
    Create(Create),
    /// List admin keys
    List(List),
    /// Show an admin key
    Get(KeyId),
    /// Replace an admin key with a new one that expires at the same time; the old key is revoked
    Rotate(KeyId),
    /// Revoke an admin key permanently
    Revoke(KeyId),
}

/// The id of a key as an argument.
#[derive(Debug, Args)]
pub(super) struct KeyId {
    /// Id of the admin key
    key_id: String,
}

/// Arguments of `list`.
#[derive(Debug, Args)]
pub(super) struct List {
    /// Continue after the page that returned this token
    #[arg(long, value_name = "TOKEN", allow_hyphen_values = true)]
    page_token: Option<String>,
}

impl Keys {
    pub(super) fn run(&self, connection: &Connection, output: &Output) -> anyhow::Result<()> {
        match self {
            Self::Create(create) => print_secret(output, &create.run(connection)?),
            Self::List(list) => list.run(&connection.open()?, output),
            Self::Get(key) => key.show(&connection.open()?, output),
            Self::Rotate(key) => {
                let call = Call::post(format!("{}:rotate", key.path()), json!({}));
                print_secret(output, &connection.open()?.send(call).context("rotate admin key")?)
            }
            Self::Revoke(key) => {
                let client = connection.open()?;
                client.send(Call::post(format!("{}:revoke", key.path()), json!({}))).context("revoke admin key")?;
                key.show(&client, output)
            }
        }
    }
}

impl KeyId {
    fn path(&self) -> String {
        format!("{ADMIN_KEYS}/{}", segment(&self.key_id))
    }

    fn show(&self, client: &Client, output: &Output) -> anyhow::Result<()> {
        let key = client.send(Call::get(self.path())).context("get admin key")?;
        output.row(&key, &key, KEY)
    }
}

impl List {
    fn run(&self, client: &Client, output: &Output) -> anyhow::Result<()> {
        let call = Call::get(ADMIN_KEYS).query("page_token", self.page_token.clone().unwrap_or_default());
        let response = client.send(call).context("list admin keys")?;
        if let Some(token) = response["next_page_token"].as_str().filter(|token| !token.is_empty()) {
            eprintln!("Next page token: {token}");
        }
        let keys = response["admin_keys"].as_array().map_or(&[][..], Vec::as_slice);
        output.list(&response, keys, KEY)
    }
}

/// Prints a new key and its secret as one row.
fn print_secret(output: &Output, response: &Value) -> anyhow::Result<()> {
    let mut row = response["admin_key"].clone();
    if let Value::Object(members) = &mut row {
        members.insert("secret".into(), response["secret"].clone());
    }
    output.row(response, &row, KEY_AND_SECRET)
}
