//! `keygate migrate`: applies, reverts and shows migrations of the database schema (contract, operating surface section 3), and copies
//! keys of another installation.

use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};

use super::config::{self, ConfigFile, print_warnings};
use super::connection::Connection;
use super::migrate_from_talos::FromTalos;
use crate::app::Migrations;
use crate::config::Config;

/// Environment variables with the DSN, in order of precedence.
const VARIABLES: [&str; 4] = ["KEYGATE_DB_DSN", "TALOS_DB_DSN", "DB_DSN", "DSN"];
const DATABASE_HELP: &str =
    "DSN of the database, for example postgres://USER:PASSWORD@HOST/DATABASE or sqlite://PATH [env: DB_DSN, or DSN]";
/// Poll interval of `status --block`.
const POLL: Duration = Duration::from_secs(1);

/// Manage the database schema, and copy the keys of another installation
#[derive(Debug, Args)]
pub(super) struct Migrate {
    #[command(flatten)]
    database: Database,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct Database {
    // clap does not read the variables: its help would show their values, and with them a password.
    #[arg(long, global = true, value_name = "DSN", help = DATABASE_HELP)]
    database: Option<String>,
    /// Configuration file that provides db.dsn if neither --database nor a variable is set
    #[arg(long, global = true, value_name = "FILE", env = "KEYGATE_CONFIG")]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Apply all pending migrations; safe to run concurrently
    Up,
    /// Revert migrations and delete the data in their tables
    Down {
        /// Number of migrations to revert, latest first
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        steps: u32,
    },
    /// Show the schema version
    Status {
        /// Wait until no migration is pending
        #[arg(long)]
        block: bool,
    },
    /// Set the recorded schema version without running migrations, after a manual repair
    Force {
        /// The version; 0 for an empty schema
        version: i64,
    },
    /// Copy all keys of a server of Ory Talos or Keygate into the database of the configuration; their secrets stay valid
    FromTalos(FromTalos),
}

impl Migrate {
    /// Runs the command.
    pub(super) fn run(&self, connection: &Connection) -> anyhow::Result<ExitCode> {
        match &self.command {
            Command::FromTalos(command) => return command.run(connection, self.database.config()?),
            Command::Up => self.change(Migrations::up)?,
            Command::Down { steps } => {
                let steps = usize::try_from(*steps)?;
                self.change(|migrations| migrations.down(steps))?;
            }
            Command::Status { block } => status(&self.database.open()?, *block)?,
            Command::Force { version } => self.change(|migrations| migrations.force(*version))?,
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Changes the schema and prints its version.
    fn change<E: Into<anyhow::Error>>(&self, change: impl FnOnce(&Migrations) -> Result<(), E>) -> anyhow::Result<()> {
        let migrations = self.database.open()?;
        change(&migrations).map_err(Into::into)?;
        let schema = migrations.schema()?;
        eprintln!("The schema is at version {} of {}.", schema.current(), schema.latest());
        Ok(())
    }
}

impl Database {
    fn open(&self) -> anyhow::Result<Migrations> {
        let (dsn, origin) = self.dsn()?;
        Ok(Migrations::new(&dsn, origin)?)
    }

    /// The whole configuration, for commands that work with keys; `--database` replaces its database.
    fn config(&self) -> anyhow::Result<Config> {
        let (config, unknown) = ConfigFile::of(self.config.clone()).load();
        print_warnings(&unknown);
        let mut config = config?;
        if let Some(dsn) = &self.database {
            config.db.dsn.clone_from(dsn);
        }
        Ok(config)
    }

    /// The DSN and the name of its source.
    fn dsn(&self) -> anyhow::Result<(String, &'static str)> {
        if let Some(dsn) = &self.database {
            return Ok((dsn.clone(), "--database"));
        }
        let set = |name| std::env::var(name).ok().filter(|dsn| !dsn.is_empty()).map(|dsn| (dsn, name));
        if let Some(dsn) = VARIABLES.into_iter().find_map(set) {
            return Ok(dsn);
        }
        match &self.config {
            Some(file) => Ok((config::load_file(file).0.context("cannot read db.dsn")?.db.dsn, "db.dsn")),
            None => bail!("no database is configured; use --database DSN, DB_DSN or --config FILE"),
        }
    }
}

fn status(migrations: &Migrations, block: bool) -> anyhow::Result<()> {
    loop {
        let schema = migrations.schema()?;
        let pending = schema.pending();
        let state = match (schema.dirty(), schema.is_initialized()) {
            (Some(_), _) => "DIRTY",
            (None, true) => "clean",
            (None, false) => "Not initialized",
        };
        eprintln!("Database Status: {state}");
        eprintln!("Database Driver: {}", migrations.driver());
        eprintln!("Current Version: {}", schema.current());
        eprintln!("Latest Available: {} ({pending} pending)", schema.latest());
        if !block || pending == 0 {
            return Ok(());
        }
        thread::sleep(POLL);
    }
}
