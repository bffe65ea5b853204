//! `keygate audit`: reads the audit trail through the admin API, and verifies it in the database.

mod events;
mod list;
mod tail;
mod verify;

use clap::{Args, Subcommand};

use super::connection::Connection;
use super::output::Output;

/// `keygate audit`.
#[derive(Debug, Args)]
pub(super) struct Audit {
    #[command(flatten)]
    output: Output,
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// List events, the latest first
    List(list::List),
    /// Print events as they happen
    Tail(tail::Tail),
    /// Print events as JSON lines, the oldest first
    Export(list::Export),
    /// Find rows that were removed, edited or inserted in the database; exit code 1 if there are any
    Verify(verify::Verify),
}

impl Audit {
    pub(super) fn run(&self, connection: &Connection) -> anyhow::Result<()> {
        match &self.command {
            AuditCommand::List(list) => list.run(&connection.open()?, &self.output),
            AuditCommand::Tail(tail) => tail.run(&connection.open()?, &self.output),
            AuditCommand::Export(export) => export.run(&connection.open()?),
            AuditCommand::Verify(verify) => verify.run(),
        }
    }
}
