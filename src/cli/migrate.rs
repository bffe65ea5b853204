//! `keygate migrate`: the tables of the database, made, looked at and taken back (contract, operating surface section 3).

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};

use crate::app::Migrations;

/// Where the name of the database is looked for, the first that is set wins.
const VARIABLES: [&str; 4] = ["KEYGATE_DB_DSN", "TALOS_DB_DSN", "DB_DSN", "DSN"];
const DATABASE_HELP: &str =
    "The database, for example postgres://USER:PASSWORD@HOST/DATABASE or sqlite://PATH [env: DB_DSN, or DSN]";
/// How often `status --block` looks.
const POLL: Duration = Duration::from_secs(1);

/// Bring the tables of the database up to date
#[derive(Debug, Args)]
pub(super) struct Migrate {
    #[command(flatten)]
    database: Database,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct Database {
    // The variables are not read by clap: it would show their values, and a password with them.
    #[arg(long, global = true, value_name = "DSN", help = DATABASE_HELP)]
    database: Option<String>,
    /// The configuration file to take db.dsn from, when neither --database nor a variable names the database
    #[arg(long, global = true, value_name = "FILE", env = "KEYGATE_CONFIG")]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make every migration that is still to be made; many may do so at once
    Up,
    /// Take migrations back, with all that is only in their tables
    Down {
        /// How many, the latest first
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        steps: u32,
    },
    /// Show the version of the tables
    Status {
        /// Wait until nothing is pending
        #[arg(long)]
        block: bool,
    },
    /// Write down that the tables are at a version, after they were mended by hand
    Force {
        /// The version; 0 for no tables
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
        eprintln!("The tables are at version {} of {}.", schema.current(), schema.latest());
        Ok(())
    }
}

impl Database {
    fn open(&self) -> anyhow::Result<Migrations> {
        let (dsn, origin) = self.dsn()?;
        Ok(Migrations::new(&dsn, origin)?)
    }

    /// The name of the database, and where it is from.
    fn dsn(&self) -> anyhow::Result<(String, &'static str)> {
        if let Some(dsn) = &self.database {
            return Ok((dsn.clone(), "--database"));
        }
        let set = |name| std::env::var(name).ok().filter(|dsn| !dsn.is_empty()).map(|dsn| (dsn, name));
        if let Some(found) = VARIABLES.into_iter().find_map(set) {
            return Ok(found);
        }
        match &self.config {
            Some(file) => Ok((super::load(file).0.context("no other source names the database")?.db.dsn, "db.dsn")),
            None => bail!("which database? Give --database DSN, or set DB_DSN, or give --config FILE"),
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
