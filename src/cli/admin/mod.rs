//! `keygate admin`: who may call the admin API.

mod create;
mod keys;
mod secret;

use clap::{Args, Subcommand};

use super::connection::Connection;
use super::output::Output;

/// `keygate admin`.
#[derive(Debug, Args)]
pub(super) struct Admin {
    #[command(flatten)]
    output: Output,
    #[command(subcommand)]
    command: AdminCommand,
}

#[derive(Debug, Subcommand)]
enum AdminCommand {
    /// Manage the keys of the callers of the admin API
    #[command(subcommand)]
    Keys(keys::Keys),
}

impl Admin {
    pub(super) fn run(&self, connection: &Connection) -> anyhow::Result<()> {
        match &self.command {
            AdminCommand::Keys(command) => command.run(connection, &self.output),
        }
    }
}
