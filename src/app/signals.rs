//! Signals.

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::error::AppError;

/// The handlers of SIGINT, SIGTERM, SIGHUP and SIGUSR1. A signal that arrives before it is waited for is not lost.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// `None` once it is handled elsewhere. Until then it is a stop signal: the terminal of the process was closed.
    hangup: Option<Signal>,
    /// `None` once it is handled elsewhere.
    reopen: Option<Signal>,
}

impl Signals {
    /// Installs the handlers.
    ///
    /// # Errors
    /// When signal handlers cannot be installed.
    pub(super) fn install(runtime: &Runtime) -> Result<Self, AppError> {
        let _context = runtime.enter();
        let listen = |kind| signal(kind).map_err(|cause| AppError::io("signal handlers cannot be installed", cause));
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: Some(listen(SignalKind::hangup())?),
            reopen: Some(listen(SignalKind::user_defined1())?),
        })
    }

    /// Takes the handler of SIGHUP, for another purpose than to stop; `None` if it was taken.
    pub(super) fn take_hangup(&mut self) -> Option<Signal> {
        self.hangup.take()
    }

    /// Takes the handler of SIGUSR1; `None` if it was taken.
    pub(super) fn take_reopen(&mut self) -> Option<Signal> {
        self.reopen.take()
    }

    /// Waits for a stop signal. A second signal ends the process at once with exit code 130.
    pub(super) fn wait(mut self, runtime: &Runtime) {
        runtime.block_on(self.next());
        runtime.spawn(async move {
            self.next().await;
            std::process::exit(130);
        });
    }

    async fn next(&mut self) {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = hangup => {}
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
