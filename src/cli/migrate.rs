//! `keygate migrate`: applies, reverts and shows migrations of the database schema (contract, operating surface section 3).

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};

use super::config;
use crate::app::Migrations;

/// Environment variables with the DSN, in order of precedence.
const VARIABLES: [&str; 4] = ["KEYGATE_DB_DSN", "TALOS_DB_DSN", "DB_DSN", "DSN"];
const DATABASE_HELP: &str =
    "DSN of the database, for example postgres://USER:PASSWORD@HOST/DATABASE or sqlite://PATH [env: DB_DSN, or DSN]";
/// Poll interval of `status --block`.
const POLL: Duration = Duration::from_secs(1);

/// Manage the database schema
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
}

impl Migrate {
    /// Runs the command.
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let migrations = self.database.open()?;
        match self.command {
            Command::Up => migrations.up()?,
            Command::Down { steps } => migrations.down(usize::try_from(steps)?)?,
            Command::Status { block } => return status(&migrations, block),
            Command::Force { version } => migrations.force(version)?,
        }
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
