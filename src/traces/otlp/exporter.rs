//! Takes spans from the queue and sends them in batches.

use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::super::metrics::{DropReason, Metrics};
use super::super::span::Trace;
use super::super::tracer::Queue;
use super::message::{Resource, request};
use super::settings::Settings;
use super::transport::{Failure, Transport, TransportError};

/// The most requests whose spans are sent at once.
const BATCH_MAX: usize = 256;
/// How long a batch waits for more.
const BATCH_DELAY: Duration = Duration::from_secs(1);
/// How often a batch is sent before it is dropped.
const ATTEMPTS: u32 = 3;
/// The time between the first two attempts. It doubles each time.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Sends spans to a collector.
pub struct Exporter {
    queue: Queue,
    transport: Transport,
    resource: Resource,
    metrics: Metrics,
    /// Becomes true when the process stops.
    stop: watch::Receiver<bool>,
    /// Whether the last batch was dropped.
    is_failing: bool,
}

impl Exporter {
    /// An exporter of what is in a queue. It connects when there is something to send.
    ///
    /// # Errors
    /// [`TransportError`] if the URL cannot be used.
    pub fn new(
        settings: &Settings,
        queue: Queue,
        metrics: Metrics,
        stop: watch::Receiver<bool>,
    ) -> Result<Self, TransportError> {
        let transport = Transport::new(settings)?;
        Ok(Self { queue, transport, resource: Resource::new(settings), metrics, stop, is_failing: false })
    }

    /// Sends spans until the process stops; then what is left in the queue is sent.
    pub async fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        while self.gather(&mut batch).await {
            self.export(std::mem::take(&mut batch)).await;
        }
    }

    /// Waits for spans. Returns false if there will be no more.
    async fn gather(&mut self, batch: &mut Vec<Trace>) -> bool {
        if self.receive(batch).await == 0 {
            return false;
        }
        // The time is over, or the process stops: the batch is sent as it is.
        let _ = timeout(BATCH_DELAY, async { while batch.len() < BATCH_MAX && self.receive(batch).await > 0 {} }).await;
        true
    }

    /// Receives what is in the queue, and waits if there is nothing. 0 if the queue is closed and empty.
    async fn receive(&mut self, batch: &mut Vec<Trace>) -> usize {
        let room = BATCH_MAX - batch.len();
        loop {
            if *self.stop.borrow() {
                self.queue.close();
                return self.queue.recv_many(batch, room).await;
            }
            tokio::select! {
                received = self.queue.recv_many(batch, room) => return received,
                changed = self.stop.changed() => if changed.is_err() {
                    // The engine was dropped.
                    self.queue.close();
                    return self.queue.recv_many(batch, room).await;
                },
            }
        }
    }

    async fn export(&mut self, batch: Vec<Trace>) {
        let count = batch.iter().map(|trace| trace.spans.len()).sum();
        let request = request(&self.resource, batch);
        match self.send(request).await {
            Ok(rejected) => {
                let rejected = rejected.min(count);
                self.metrics.export_spans(count - rejected);
                self.metrics.drop_spans(DropReason::Rejected, rejected);
                if std::mem::take(&mut self.is_failing) {
                    tracing::info!("the collector of traces can be reached again");
                }
            }
            Err(failure) => {
                self.metrics.drop_spans(DropReason::ExportFailed, count);
                // Once, until a batch is delivered again.
                if !std::mem::replace(&mut self.is_failing, true) {
                    tracing::warn!(
                        "traces cannot be delivered to {} (tracing.endpoint), spans are dropped: {failure}",
                        self.transport
                    );
                }
            }
        }
    }

    /// Sends a batch, again if that may help. Returns how many spans the collector rejected.
    async fn send(&mut self, request: ExportTraceServiceRequest) -> Result<usize, Failure> {
        let mut delay = RETRY_DELAY;
        for _ in 1..ATTEMPTS {
            match self.transport.send(request.clone()).await {
                Err(failure) if failure.is_retryable && !*self.stop.borrow() => {}
                result => return result,
            }
            tokio::select! {
                () = sleep(delay) => {}
                _ = self.stop.changed() => {}
            }
            delay *= 2;
        }
        self.transport.send(request).await
    }
}
