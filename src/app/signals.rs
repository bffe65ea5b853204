//! Signals.

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::error::AppError;

/// The handlers of SIGINT, SIGTERM, SIGHUP, SIGUSR1 and SIGUSR2. A signal that arrives before it is waited for is not lost.
pub(super) struct Signals {
    stop: StopSignals,
    /// `None` once it is handled elsewhere.
    reopen: Option<Signal>,
    replace: Signal,
}

struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
    /// `None` once it is handled elsewhere. Until then it is a stop signal: the terminal of the process was closed.
    hangup: Option<Signal>,
}

impl Signals {
    /// Installs the handlers.
    ///
    /// # Errors
    /// When signal handlers cannot be installed.
    pub(super) fn install(runtime: &Runtime) -> Result<Self, AppError> {
        let _context = runtime.enter();
        let listen = |kind| signal(kind).map_err(|cause| AppError::io("signal handlers cannot be installed", cause));
        let stop = StopSignals {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: Some(listen(SignalKind::hangup())?),
        };
        let (reopen, replace) = (Some(listen(SignalKind::user_defined1())?), listen(SignalKind::user_defined2())?);
        Ok(Self { stop, reopen, replace })
    }

    /// Takes the handler of SIGHUP, for another purpose than to stop; `None` if it was taken.
    pub(super) fn take_hangup(&mut self) -> Option<Signal> {
        self.stop.hangup.take()
    }

    /// Takes the handler of SIGUSR1; `None` if it was taken.
    pub(super) fn take_reopen(&mut self) -> Option<Signal> {
        self.reopen.take()
    }

    /// Waits for a stop signal, or until a process replaces this one: at SIGUSR2, `replace` starts it, and returns whether it is ready. The
    /// first stop signal after this has returned ends the process at once with exit code 130.
    pub(super) fn wait<T>(self, runtime: &Runtime, mut replace: impl AsyncFnMut() -> Option<T>) -> Option<T> {
        let Self { mut stop, replace: mut signal, .. } = self;
        let replaced = runtime.block_on(async {
            loop {
                tokio::select! {
                    () = stop.next() => return None,
                    _ = signal.recv() => {}
                }
                tokio::select! {
                    () = stop.next() => return None,
                    replaced = replace() => if replaced.is_some() {
                        return replaced;
                    },
                }
            }
        });
        runtime.spawn(async move {
            stop.next().await;
            std::process::exit(130);
        });
        replaced
    }
}

impl StopSignals {
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
