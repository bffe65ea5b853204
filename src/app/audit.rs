//! Verification of the audit trail in a database, for commands.

use std::io::{BufRead, BufReader};
use std::path::Path;

use tokio::runtime::Builder;

use super::error::AppError;
use crate::audit::{AuditKeys, Heads, read_line};
use crate::audit_log::{Verification, verify};
use crate::config::Config;
use crate::engine::{database, keyring, open_store};
use crate::store::Access;

/// Verifies the audit trail in the database of a configuration with its secrets. `export` is a file of JSON lines that were
/// exported or written by `audit.output`: each of its rows must be in the database, unless retention has removed it.
///
/// # Errors
/// [`AppError`] when the database or the export cannot be read.
pub fn verify_audit(config: &Config, export: Option<&Path>) -> Result<Verification, AppError> {
    let heads = export.map(read_export).transpose()?.unwrap_or_default();
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|cause| AppError::io("threads cannot be started", cause))?;
    runtime.block_on(async {
        // Opening would create a file that does not exist.
        database(&config.db.dsn, "db.dsn")?.schema().await?.check()?;
        let store = open_store(&config.db, Access::ReadOnly).await?;
        let audit = std::sync::Arc::clone(&store).audit();
        let audit = audit.ok_or_else(|| AppError::Setting("the database keeps no audit trail".into()))?;
        let verification = verify(&*audit, &AuditKeys::new(&keyring(config)), config.tenant(), heads).await;
        store.close().await;
        Ok(verification?)
    })
}

fn read_export(file: &Path) -> Result<Heads, AppError> {
    let failed = |cause| AppError::io(format!("cannot read {}", file.display()), cause);
    let mut heads = Heads::default();
    for (number, line) in BufReader::new(std::fs::File::open(file).map_err(failed)?).lines().enumerate() {
        let line = line.map_err(failed)?;
        let unsealed = || AppError::Setting(format!("{} line {} is not a sealed row", file.display(), number + 1));
        read_line(&mut heads, &line).ok_or_else(unsealed)?;
    }
    Ok(heads)
}
