//! The workers of the gateway: threads with a runtime of one thread each. A connection stays on one worker, so that its requests need no
//! work stealing, and share nothing with other workers except the connection's snapshot and the caches.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime, RuntimeMetrics};
use tokio::sync::watch;

use crate::listener::Place;

/// How long tasks that do not end may delay the end of a runtime.
const RUNTIME_END: Duration = Duration::from_millis(10);

thread_local! {
    static INDEX: Cell<usize> = const { Cell::new(0) };
}

/// The index of the worker that runs on this thread; 0 for other threads.
pub(super) fn current() -> usize {
    INDEX.get()
}

/// The workers. The first runs the accept loops and the background work as well.
pub(super) struct Workers {
    first: Runtime,
    others: Vec<(Handle, JoinHandle<()>)>,
    /// Ends the other workers when it is dropped.
    running: watch::Sender<()>,
}

impl Workers {
    /// Starts all workers except the first, which [`Workers::run`] is for.
    ///
    /// # Errors
    /// When threads cannot be started.
    pub(super) fn start(count: usize) -> io::Result<Self> {
        let (running, ended) = watch::channel(());
        let worker = |index| {
            let (runtime, mut ended) = (runtime()?, ended.clone());
            let handle = runtime.handle().clone();
            let run = move || {
                INDEX.set(index);
                // An error means that the workers end.
                runtime.block_on(async { while ended.changed().await.is_ok() {} });
                runtime.shutdown_timeout(RUNTIME_END);
            };
            let thread = std::thread::Builder::new().name(format!("gateway-{index}")).spawn(run)?;
            io::Result::Ok((handle, thread))
        };
        let others = (1..count).map(worker).collect::<io::Result<_>>()?;
        Ok(Self { first: runtime()?, others, running })
    }

    /// The places for connections: one for each worker. None with a single worker.
    pub(super) fn places(&self) -> Vec<Place> {
        if self.others.is_empty() {
            return Vec::new();
        }
        let others = self.others.iter().map(|(handle, _)| handle);
        std::iter::once(self.first.handle()).chain(others).map(|handle| Place::new(handle.clone())).collect()
    }

    /// The metrics of all runtimes.
    pub(super) fn metrics(&self) -> Arc<[RuntimeMetrics]> {
        let others = self.others.iter().map(|(handle, _)| handle.metrics());
        std::iter::once(self.first.metrics()).chain(others).collect()
    }

    /// Runs the first worker on this thread until `main` has ended, then ends all.
    pub(super) fn run(self, main: impl Future<Output = ()>) {
        let Self { first, others, running } = self;
        first.block_on(main);
        drop(running);
        first.shutdown_timeout(RUNTIME_END);
        for (_, thread) in others {
            if thread.join().is_err() {
                tracing::error!("a worker of the gateway has panicked");
            }
        }
    }
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_worker_has_its_thread_and_all_end_together() {
        let workers = Workers::start(3).unwrap();
        let places = workers.places();
        assert_eq!((places.len(), workers.metrics().len()), (3, 3));
        let (found, indexes) = std::sync::mpsc::channel();
        workers.run(async {
            let tasks = places.iter().map(|place| place.handle().spawn(async { current() }));
            for task in tasks.collect::<Vec<_>>() {
                found.send(task.await.unwrap()).unwrap();
            }
        });
        assert_eq!(indexes.try_iter().collect::<Vec<_>>(), [0, 1, 2]);
        assert!(Workers::start(1).unwrap().places().is_empty());
    }
}
