//! Stop signals.

use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use super::error::AppError;

/// Waits for SIGINT or SIGTERM. A second signal ends the process at once with exit code 130.
///
/// # Errors
/// When signal handlers cannot be installed.
pub fn wait_for_stop(runtime: &Runtime) -> Result<(), AppError> {
    runtime.block_on(async {
        let listen = |kind| signal(kind).map_err(|cause| AppError::io("signal handlers cannot be installed", cause));
        let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tokio::spawn(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            std::process::exit(130);
        });
        Ok(())
    })
}
