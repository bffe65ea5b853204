//! Being told to stop.

use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use super::AppError;

/// Waits for Ctrl-C or SIGTERM. A second signal ends the process at once, by the shell's own convention.
///
/// # Errors
/// When signals cannot be waited for.
pub fn wait_for_stop(runtime: &Runtime) -> Result<(), AppError> {
    runtime.block_on(async {
        let listen = |kind| signal(kind).map_err(|cause| AppError::io("signals cannot be waited for", cause));
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
