//! What the path of a request uses: the decision whether a new trace is recorded, and the queue of finished spans.

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::context::TraceId;
use super::metrics::{DropReason, Metrics};
use super::span::Trace;

/// The maximum number of requests whose spans wait for the exporter.
const QUEUE_MAX: usize = 2048;
/// The number of values that the random part of a trace id can have.
const RANDOMNESS: u64 = 1 << 56;

/// Decides which new traces are recorded, and takes the spans of finished requests.
#[derive(Debug)]
pub struct Tracer {
    /// New traces whose id is at or above this are recorded.
    threshold: u64,
    queue: Sender<Trace>,
    metrics: Metrics,
}

/// The spans of finished requests.
pub type Queue = Receiver<Trace>;

/// A tracer that records a fraction of new traces, 0 to 1, and the queue of what it has taken.
pub fn tracer(sample_rate: f64, metrics: Metrics) -> (Tracer, Queue) {
    let (sender, queue) = channel(QUEUE_MAX);
    (Tracer { threshold: threshold(sample_rate), queue: sender, metrics }, queue)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the product is between 0 and 2^56")]
#[expect(clippy::cast_precision_loss, reason = "a power of two is exact")]
fn threshold(sample_rate: f64) -> u64 {
    RANDOMNESS - (sample_rate.clamp(0.0, 1.0) * RANDOMNESS as f64) as u64
}

impl Tracer {
    /// Whether a new trace with this id is recorded. Every process with the same rate decides alike.
    pub fn samples(&self, id: TraceId) -> bool {
        id.randomness() >= self.threshold
    }

    /// Takes the spans of a finished request. Neither waits nor fails: if there is no room, they are dropped and counted.
    pub fn send(&self, trace: Trace) {
        let (reason, trace) = match self.queue.try_send(trace) {
            Ok(()) => return,
            Err(TrySendError::Full(trace)) => (DropReason::QueueFull, trace),
            Err(TrySendError::Closed(trace)) => (DropReason::Stopped, trace),
        };
        self.metrics.drop_spans(reason, trace.spans.len());
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;

    use super::super::context::{SpanId, TraceContext};
    use super::super::span::{Span, SpanKind};
    use super::*;

    fn tracer_at(sample_rate: f64) -> (Tracer, Queue, Registry) {
        let registry = Registry::new();
        let (tracer, queue) = tracer(sample_rate, Metrics::register(&registry).unwrap());
        (tracer, queue, registry)
    }

    #[test]
    fn fraction_of_new_traces_is_recorded() {
        const ROUNDS: u32 = 20_000;
        for (rate, least, most) in [(0.0, 0, 0), (0.25, 4_500, 5_500), (1.0, ROUNDS, ROUNDS)] {
            let (tracer, _queue, _) = tracer_at(rate);
            let sampled = (0..ROUNDS).filter(|_| tracer.samples(TraceId::random())).count();
            assert!((least as usize..=most as usize).contains(&sampled), "{rate}: {sampled}");
        }
    }

    #[test]
    fn every_process_decides_alike() {
        let [(one, ..), (other, ..)] = [tracer_at(0.5), tracer_at(0.5)];
        for _ in 0..100 {
            let id = TraceId::random();
            assert_eq!(one.samples(id), other.samples(id));
        }
    }

    #[test]
    fn spans_without_room_are_dropped_and_counted() {
        let (tracer, mut queue, registry) = tracer_at(1.0);
        let span = || Span {
            id: SpanId::random(),
            parent: None,
            is_parent_remote: false,
            kind: SpanKind::Server,
            name: "GET".into(),
            start: 1,
            end: 2,
            attributes: Vec::new(),
            events: Vec::new(),
            is_error: false,
        };
        let trace = || {
            let context = TraceContext::root(TraceId::random(), true);
            Trace { context, state: "".into(), spans: vec![span(), span()] }
        };
        (0..QUEUE_MAX + 3).for_each(|_| tracer.send(trace()));
        queue.close();
        tracer.send(trace());
        let dropped = |reason: &str| {
            let families = registry.gather();
            let family = families.iter().find(|family| family.name() == "keygate_trace_spans_dropped_total").unwrap();
            let of_reason = |metric: &&prometheus::proto::Metric| metric.get_label()[0].value() == reason;
            family.get_metric().iter().find(of_reason).unwrap().get_counter().get_value()
        };
        assert_eq!(format!("{} {}", dropped("queue_full"), dropped("stopped")), "6 2");
    }
}
