//! Stop signals.

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::error::AppError;

/// The handlers of SIGINT and SIGTERM. A signal that arrives before it is waited for is not lost.
pub(super) struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl StopSignals {
    /// Installs the handlers.
    ///
    /// # Errors
    /// When signal handlers cannot be installed.
    pub(super) fn install(runtime: &Runtime) -> Result<Self, AppError> {
        let _context = runtime.enter();
        let listen = |kind| signal(kind).map_err(|cause| AppError::io("signal handlers cannot be installed", cause));
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    /// Waits for a signal. A second signal ends the process at once with exit code 130.
    pub(super) fn wait(mut self, runtime: &Runtime) {
        runtime.block_on(self.next());
        runtime.spawn(async move {
            self.next().await;
            std::process::exit(130);
        });
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
