//! `keygate serve`.

use super::config::{ConfigFile, print_warnings};
use crate::app::{App, Listeners};
use crate::telemetry::start_logs;

/// Runs the server until it is stopped.
pub(super) fn run(file: &ConfigFile) -> anyhow::Result<()> {
    let (config, unknown) = file.load();
    // Before the log is started, warnings can only be printed.
    let config = config.inspect_err(|_| print_warnings(&unknown))?;
    let _log = start_logs(&config.log)?;
    for variable in &unknown {
        tracing::warn!("{variable}");
    }
    for warning in file.warnings(&config) {
        tracing::warn!("{warning}");
    }
    let mut app = App::start(&config, Listeners::bind(&config)?)?;
    tracing::info!(
        gateway = app.gateway_address().map(tracing::field::display),
        admin = app.admin_address().map(tracing::field::display),
        metrics = app.metrics_address().map(tracing::field::display),
        "keygate {} is serving",
        env!("CARGO_PKG_VERSION"),
    );
    app.wait_for_stop();
    app.stop();
    Ok(())
}
