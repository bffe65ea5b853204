//! `keygate migrate from-talos`: copies the keys of another installation of the API-keys API into the database of a configuration.
//!
//! The other installation lists its keys without their secrets, and none is stored: an issued key is verified by the HMAC of its text and the
//! record under its id, an imported one by the record under its hash, which is its id. So the records are enough.

mod checks;
mod report;
mod source;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

use self::checks::Checks;
use self::report::Report;
use self::source::Source;
use super::connection::Connection;
use super::output::Output;
use crate::app::KeyMigration;
use crate::config::Config;

const CREDENTIAL_HELP: &str =
    "File with a valid key of the other installation, to check that its secrets are accepted here";

/// Arguments of `from-talos`.
#[derive(Debug, Args)]
pub(super) struct FromTalos {
    #[command(flatten)]
    output: Output,
    /// Read all keys and write none
    #[arg(long)]
    dry_run: bool,
    /// Number of keys per page, and per transaction
    #[arg(long, value_name = "NUMBER", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1000))]
    page_size: u32,
    #[arg(long, value_name = "FILE", help = CREDENTIAL_HELP)]
    credential_file: Option<PathBuf>,
    /// Copy keys although it is not proven that secrets.hmac is that of the other installation
    #[arg(long)]
    unproven_secret: bool,
}

impl FromTalos {
    /// Copies the keys. The exit code is 1 if a key was not copied.
    pub(super) fn run(&self, connection: &Connection, config: Config) -> anyhow::Result<ExitCode> {
        let source = Source::new(connection.open()?, self.page_size);
        eprintln!("Reading the keys of {}.", connection.endpoint());
        let migration = KeyMigration::open(config, self.dry_run)
            .context("the database of the configuration; stop a server that uses its SQLite file")?;
        let checks = Checks { credential_file: self.credential_file.as_deref(), unproven_secret: self.unproven_secret };
        let copied = checks.run(&source, &migration).map(|()| self.copy(&source, &migration));
        migration.close();
        let (report, result) = copied?;
        report.print(&self.output)?;
        result.context("not all keys were read; run the same command again to continue")?;
        Ok(if report.is_complete() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// Copies the keys page by page. Returns the report of the pages until an error, and the error.
    fn copy(&self, source: &Source, migration: &KeyMigration) -> (Report, anyhow::Result<()>) {
        let mut report = Report::new(self.dry_run);
        let result = source.each_page(|kind, keys| {
            let results = migration.add(kind.is_imported(), keys)?;
            report.add(kind, &results);
            Ok(())
        });
        (report, result)
    }
}
