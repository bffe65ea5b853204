//! `keygate keys`: the API's operations as commands.

mod batch;
mod fields;
mod imported;
mod issued;
mod manage;
mod tokens;
mod update;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::client::Client;
use super::connection::Connection;
use super::output::{Columns, Output};

const ISSUED: &str = "/v2alpha1/admin/issuedApiKeys";
const IMPORTED: &str = "/v2alpha1/admin/importedApiKeys";
const CREDENTIALS: &str = "/v2alpha1/admin/apiKeys";
const SELF_REVOKE: &str = "/v2alpha1/apiKeys:selfRevoke";

const KEY: &Columns =
    &[("KEY ID", "key_id"), ("NAME", "name"), ("ACTOR ID", "actor_id"), ("STATUS", "status"), ("SCOPES", "scopes")];

/// `keygate keys`.
#[derive(Debug, Args)]
pub(super) struct Keys {
    #[command(flatten)]
    output: Output,
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// Issue a key; its secret is shown this once
    #[command(visible_alias = "create")]
    Issue(issued::Issue),
    /// Work on keys that Keygate made
    #[command(subcommand)]
    Issued(issued::Issued),
    /// Work on keys that were made elsewhere
    #[command(subcommand)]
    Imported(imported::Imported),
    /// Say whether a credential is good; exit code 1 when it is not
    #[command(visible_alias = "validate")]
    Verify(tokens::Verify),
    /// Say which of many credentials are good; exit code 0
    BatchVerify(tokens::BatchVerify),
    /// Make a short-lived token from a key
    #[command(visible_alias = "derive")]
    DeriveToken(tokens::DeriveToken),
    /// Revoke the key whose secret is given
    SelfRevoke(tokens::SelfRevoke),
}

/// What every command works with.
struct Session<'a> {
    client: Client,
    output: &'a Output,
}

impl Keys {
    pub(super) fn run(&self, connection: &Connection) -> anyhow::Result<ExitCode> {
        let session = Session { client: connection.open()?, output: &self.output };
        match &self.command {
            KeysCommand::Issue(issue) => issue.run(&session),
            KeysCommand::Issued(command) => command.run(&session),
            KeysCommand::Imported(command) => return command.run(&session),
            KeysCommand::Verify(verify) => return verify.run(&session),
            KeysCommand::BatchVerify(verify) => verify.run(&session),
            KeysCommand::DeriveToken(derive) => derive.run(&session),
            KeysCommand::SelfRevoke(revoke) => revoke.run(&session),
        }
        .map(|()| ExitCode::SUCCESS)
    }
}
