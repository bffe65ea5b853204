//! `keygate audit verify`.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;

use crate::app::verify_audit;
use crate::cli::config::{ConfigFile, print_warnings};
use crate::cli::output::print;

/// Arguments of `verify`.
#[derive(Debug, Args)]
pub(super) struct Verify {
    #[command(flatten)]
    config: ConfigFile,
    /// DSN of the database to verify, such as a copy; default: db.dsn
    #[arg(long, value_name = "DSN")]
    database: Option<String>,
    /// File with exported JSON lines, each of which must be in the database unless retention has removed it
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
}

impl Verify {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let (config, unknown) = self.config.load();
        print_warnings(&unknown);
        let mut config = config?;
        if let Some(dsn) = &self.database {
            config.db.dsn.clone_from(dsn);
        }
        // The tables of the database are read, not changed.
        config.db.auto_migrate = false;
        let result = verify_audit(&config, self.against.as_deref())?;
        for problem in &result.problems {
            print(&format!("{problem}\n"))?;
        }
        let span = result.span.map(|(first, last)| format!(", from {first:?} to {last:?}"));
        eprintln!("{} rows in {} chains were verified{}.", result.rows, result.chains, span.unwrap_or_default());
        if result.rows == 0 && result.removed == 0 {
            eprintln!("The trail is empty: no key was changed since its tables were made, or all of it was removed.");
        }
        if result.removed > 0 {
            eprintln!("Retention has removed {} rows before them.", result.removed);
        }
        if result.unsealed > 0 {
            eprintln!("{} rows are authentic but not sealed yet; a running Keygate seals them.", result.unsealed);
        }
        match result.problems.len() {
            0 => Ok(()),
            1 => bail!("the audit trail was tampered with: 1 problem"),
            count => bail!("the audit trail was tampered with: {count} problems"),
        }
    }
}
