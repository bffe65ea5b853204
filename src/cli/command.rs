//! The commands and global options of `keygate`.

use std::process::ExitCode;
use std::sync::LazyLock;

use clap::{ArgAction, CommandFactory, Parser, Subcommand};

use super::{
    admin, audit, config, connection, dev, explain, jwk, keys, migrate, nodes, serve, shell, suggest, upgrade,
};
use crate::app::{BUILD_TIME, COMMIT};
use crate::tls::install_crypto_provider;

/// An API-key gateway: a reverse proxy that verifies the credential of every request, and an admin API that issues keys.
#[derive(Debug, Parser)]
#[command(name = "keygate", version = version(), disable_version_flag = true)]
struct Cli {
    /// Print the version
    #[arg(short = 'v', long, action = ArgAction::Version)]
    version: Option<bool>,
    #[command(flatten)]
    connection: connection::Connection,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a local gateway with a demonstration key, in front of your API or a sample API
    Dev(dev::DevArgs),
    /// Run the server with a configuration file, a directory of them, or environment variables alone
    Serve(config::ConfigFile),
    /// Replace a running server by a new process of its program, without a refused connection
    Upgrade(upgrade::Upgrade),
    /// Check configuration files and print schemas
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Manage the database schema
    Migrate(migrate::Migrate),
    /// Issue, import, verify and revoke keys through the admin API
    Keys(keys::Keys),
    /// Manage who may call the admin API
    Admin(admin::Admin),
    /// Show the nodes of an installation
    Nodes(nodes::Nodes),
    /// Show rates, refusals and decision times of the node that answers
    Overview(nodes::OverviewArgs),
    /// Explain step by step why a request with a credential is accepted or rejected; exit code 1 if it is rejected
    Explain(explain::Explain),
    /// Read and verify the audit trail
    Audit(audit::Audit),
    /// Generate signing keys for tokens, and print the public keys of a server
    #[command(subcommand)]
    Jwk(jwk::Jwk),
    /// Print a shell completion script
    Completions(shell::Completions),
    /// Print the manual page
    Man(shell::Man),
}

/// Runs the command line. Errors are printed to stderr, with exit code 1.
pub fn run() -> ExitCode {
    install_crypto_provider();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(mut error) => {
            let arguments = std::env::args_os().skip(1).filter_map(|argument| argument.into_string().ok());
            suggest::add_full_paths(&mut error, &Cli::command(), arguments);
            // There is no other place to report that stderr cannot be written.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    match cli.run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The definition of the command line, for its reference.
#[cfg(test)]
pub(crate) fn definition() -> clap::Command {
    Cli::command()
}

impl Cli {
    fn run(&self) -> anyhow::Result<ExitCode> {
        match &self.command {
            Command::Dev(args) => args.run(),
            Command::Serve(file) => serve::run(file),
            Command::Upgrade(upgrade) => upgrade.run(),
            Command::Config(command) => return command.run(),
            Command::Migrate(migrate) => return migrate.run(&self.connection),
            Command::Keys(keys) => return keys.run(&self.connection),
            Command::Admin(admin) => admin.run(&self.connection),
            Command::Nodes(nodes) => nodes.run(&self.connection),
            Command::Overview(overview) => overview.run(&self.connection),
            Command::Explain(explain) => return explain.run(&self.connection),
            Command::Audit(audit) => audit.run(&self.connection),
            Command::Jwk(jwk) => jwk.run(&self.connection),
            Command::Completions(completions) => completions.run(Self::command()),
            Command::Man(man) => man.run(Self::command()),
        }
        .map(|()| ExitCode::SUCCESS)
    }
}

fn version() -> &'static str {
    static TEXT: LazyLock<String> =
        LazyLock::new(|| format!("version {} (commit: {COMMIT}, built: {BUILD_TIME})", env!("CARGO_PKG_VERSION")));
    &TEXT
}
