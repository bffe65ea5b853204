//! `keygate serve`.

use std::sync::Arc;

use anyhow::Context;

use super::config::{ConfigFile, print_warnings};
use crate::app::{App, Inherited, Listeners, Predecessor, SharedSockets, StartedFrom};
use crate::config::unknown_variables;
use crate::telemetry::start_logs;

/// Runs the server until it is stopped.
pub(super) fn run(file: &ConfigFile) -> anyhow::Result<()> {
    let source = file.source();
    let unknown = unknown_variables(source.variables());
    // Before the log is started, warnings can only be printed.
    let loaded = source.load().inspect_err(|_| print_warnings(&unknown))?;
    // Before the start, which may take some time: a change meanwhile is loaded as well.
    let digest = source.digest(&loaded);
    let config = loaded.config.clone();
    let log = Arc::new(start_logs(&config.log)?);
    for variable in &unknown {
        tracing::warn!("{variable}");
    }
    for warning in file.warnings(&config) {
        tracing::warn!("{warning}");
    }
    let predecessor = Predecessor::find()?;
    let mut inherited = match &predecessor {
        Some(predecessor) => predecessor.receive()?,
        None => Inherited::activated()?,
    };
    let is_own = !inherited.has_sockets();
    let listeners = Listeners::bind(&config, &mut inherited)?;
    let sockets =
        SharedSockets::new(&listeners, is_own).context("no descriptor is free for the sockets of a successor")?;
    let lock = inherited.lock();
    inherited.warn_of_unused();
    drop(inherited);
    let mut app = App::start_after(&config, listeners, predecessor.is_some(), lock)?;
    tracing::info!(
        gateway = app.gateway_address().map(tracing::field::display),
        admin = app.admin_address().map(tracing::field::display),
        metrics = app.metrics_address().map(tracing::field::display),
        "keygate {} is serving",
        env!("CARGO_PKG_VERSION"),
    );
    app.watch_config(StartedFrom { source, loaded, digest, log: Arc::clone(&log) })?;
    app.replaceable(sockets);
    if let Some(predecessor) = predecessor {
        app.succeed(predecessor);
    }
    app.wait_for_stop();
    app.stop();
    Ok(())
}
