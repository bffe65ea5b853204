//! The background work of an engine.

use tokio::task::JoinSet;

/// Tasks that run until they are dropped.
#[derive(Default)]
pub(super) struct Tasks(JoinSet<()>);

impl Tasks {
    /// Runs a task on the current runtime.
    pub(super) fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(task);
    }
}
