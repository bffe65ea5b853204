//! `keygate keys`: operations of the admin API as commands.

mod batch;
mod fields;
mod imported;
mod issued;
mod list;
mod manage;
mod pages;
mod session;
mod tokens;
mod update;
mod usage;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::connection::Connection;
use super::output::Output;
pub(super) use fields::credential;
use session::Session;

pub(super) use fields::{list, ttl};

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
    /// Issue a key; its secret is shown only once
    #[command(visible_alias = "create")]
    Issue(issued::Issue),
    /// List issued and imported keys, with conditions
    List(list::ListAll),
    /// Manage keys created by Keygate
    #[command(subcommand)]
    Issued(issued::Issued),
    /// Manage keys created by other systems
    #[command(subcommand)]
    Imported(imported::Imported),
    /// Show the requests of a key by hour or day
    Usage(usage::Usage),
    /// Verify a credential; exit code 1 if it is not valid
    #[command(visible_alias = "validate")]
    Verify(tokens::Verify),
    /// Verify many credentials; exit code 0 even if some are not valid
    BatchVerify(tokens::BatchVerify),
    /// Derive a short-lived token from a key
    #[command(visible_alias = "derive")]
    DeriveToken(tokens::DeriveToken),
    /// Revoke a key with its own secret
    SelfRevoke(tokens::SelfRevoke),
}

impl Keys {
    pub(super) fn run(&self, connection: &Connection) -> anyhow::Result<ExitCode> {
        let session = Session { client: connection.open()?, output: &self.output };
        match &self.command {
            KeysCommand::Issue(issue) => issue.run(&session),
            KeysCommand::List(list) => list.run(&session),
            KeysCommand::Issued(command) => command.run(&session),
            KeysCommand::Imported(command) => return command.run(&session),
            KeysCommand::Usage(usage) => usage.run(&session),
            KeysCommand::Verify(verify) => return verify.run(&session),
            KeysCommand::BatchVerify(verify) => verify.run(&session),
            KeysCommand::DeriveToken(derive) => derive.run(&session),
            KeysCommand::SelfRevoke(revoke) => revoke.run(&session),
        }
        .map(|()| ExitCode::SUCCESS)
    }
}
