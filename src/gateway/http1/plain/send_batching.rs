//! Batches the sends of many connections.
//!
//! A send to a peer on the same machine wakes it. If each connection sends as soon as it has received, the peer handles one request, sleeps
//! and is woken for the next one. When all connections that are ready receive first and send then, the sends follow each other closely
//! and most of them find the peer awake, which saves the kernel a wake-up each.

use std::future::poll_fn;
use std::task::Poll;

/// Lets the other ready tasks of this thread run before the caller sends. Without any, it continues at once.
///
/// The caller is put at the end of the queue of ready tasks. `tokio::task::yield_now` would poll the sockets first as well, which is a
/// system call for each request if there are few.
pub(super) async fn after_ready_tasks() {
    let mut is_requeued = false;
    poll_fn(|context| {
        if is_requeued {
            return Poll::Ready(());
        }
        is_requeued = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    /// Two tasks that are ready: both receive before the first of them sends.
    #[test]
    fn ready_tasks_run_before_the_caller_continues() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
        let events = Arc::new(Mutex::new(Vec::new()));
        let exchange = |receives: &'static str, sends: &'static str| {
            let events = Arc::clone(&events);
            async move {
                events.lock().push(receives);
                after_ready_tasks().await;
                events.lock().push(sends);
            }
        };
        runtime.block_on(async {
            let first = tokio::spawn(exchange("receive 1", "send 1"));
            let second = tokio::spawn(exchange("receive 2", "send 2"));
            first.await.expect("first");
            second.await.expect("second");
        });
        assert_eq!(*events.lock(), ["receive 1", "receive 2", "send 1", "send 2"]);
    }
}
