//! The trace of one request: its context, which is continued from the client and towards the upstream, and what is recorded of it.
//!
//! Without a [`Tracer`] there is no [`RequestTrace`], and the fields `traceparent` and `tracestate` pass as others.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http::HeaderName;

use super::headers::{FieldEdits, SetName, value_of};
use crate::clock::{Clock, SystemClock};
use crate::traces::{
    Attribute, Event, Span, SpanId, SpanKind, Trace, TraceContext, TraceId, Tracer, Value, is_valid_state,
};
use crate::wire::fields::{Fields, text};

static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The trace of one request.
#[derive(Debug)]
pub struct RequestTrace {
    tracer: Arc<Tracer>,
    /// The trace, and the span of the request.
    context: TraceContext,
    /// The span of the client that the request is a part of.
    parent: Option<SpanId>,
    /// Whether the client's `tracestate` is continued.
    continues_state: bool,
    /// The span of the request to the upstream.
    upstream_span: SpanId,
    /// Whether the upstream was told of that span.
    is_forwarded: AtomicBool,
    /// `None` if the trace is not recorded.
    record: Option<Box<Record>>,
}

/// What is recorded while the request runs.
#[derive(Debug)]
struct Record {
    /// When the request arrived, by both clocks.
    arrived: Instant,
    arrived_time: u64,
    /// The client's `tracestate`.
    state: Box<str>,
    /// The attributes that are known at the begin.
    attributes: Vec<Attribute>,
    /// The finished parts of the request.
    parts: Vec<Span>,
}

/// The begin, the end and the description of a part of a request.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) name: Cow<'static, str>,
    pub(super) kind: SpanKind,
    /// The part that it belongs to; `None` for the request itself.
    pub(super) parent: Option<SpanId>,
    pub(super) began: Instant,
    pub(super) ended: Instant,
    pub(super) attributes: Vec<Attribute>,
    pub(super) events: Vec<(&'static str, Vec<Attribute>)>,
    pub(super) is_error: bool,
}

impl RequestTrace {
    /// Continues the trace of a client, or begins a new one if its context is absent or malformed. The client decides whether its trace is
    /// recorded, the sample rate whether a new one is.
    pub fn begin<F: Fields>(tracer: &Arc<Tracer>, fields: &F, arrived: Instant) -> Self {
        let received = received(fields);
        let context = if let Some(parent) = received {
            parent.with_span(SpanId::random())
        } else {
            let id = TraceId::random();
            TraceContext::root(id, tracer.samples(id))
        };
        let continues_state = received.is_some() && is_valid_state(fields.field_values(&TRACESTATE));
        let record = context.is_sampled().then(|| {
            let state = if continues_state { state(fields) } else { String::new() };
            Box::new(Record {
                arrived,
                arrived_time: unix_nanos(arrived),
                state: state.into(),
                attributes: Vec::new(),
                parts: Vec::new(),
            })
        });
        Self {
            tracer: Arc::clone(tracer),
            context,
            parent: received.map(|parent| parent.span_id),
            continues_state,
            upstream_span: SpanId::random(),
            is_forwarded: AtomicBool::new(false),
            record,
        }
    }

    /// The id of the trace.
    pub fn id(&self) -> TraceId {
        self.context.trace_id
    }

    /// Whether the trace is recorded.
    pub fn is_recorded(&self) -> bool {
        self.record.is_some()
    }

    /// Adds attributes of the request, computed only if the trace is recorded.
    pub fn describe(&mut self, attributes: impl FnOnce(&mut Vec<Attribute>)) {
        if let Some(record) = &mut self.record {
            attributes(&mut record.attributes);
        }
    }

    /// Adds the fields of the trace for the upstream: the request to it is a span of its own.
    pub(super) fn edit_upstream_fields(&self, edits: &mut FieldEdits) {
        self.is_forwarded.store(true, Ordering::Relaxed);
        self.edit_fields(edits, self.upstream_span);
    }

    /// Adds the fields of the trace for a service in this process.
    pub(super) fn edit_inner_fields(&self, edits: &mut FieldEdits) {
        self.edit_fields(edits, self.context.span_id);
    }

    fn edit_fields(&self, edits: &mut FieldEdits, span: SpanId) {
        edits.set_field(SetName::TraceParent, value_of(self.context.with_span(span).to_string()));
        if !self.continues_state {
            edits.remove_field(SetName::TraceState);
        }
    }

    /// The id of the span of the request to the upstream; `None` if there was none.
    pub(super) fn upstream_span(&self) -> Option<SpanId> {
        self.is_forwarded.load(Ordering::Relaxed).then_some(self.upstream_span)
    }

    /// Adds a part of the request that has ended. `id` is its id, if others were told of it.
    pub(super) fn add_part(&mut self, id: Option<SpanId>, part: Part) -> SpanId {
        let id = id.unwrap_or_else(SpanId::random);
        let parent = part.parent.unwrap_or(self.context.span_id);
        if let Some(record) = &mut self.record {
            let span = record.span(part, (id, Some(parent), false));
            record.parts.push(span);
        }
        id
    }

    /// Ends the request: its spans are sent if the trace is recorded. `part` describes the request itself; the attributes of
    /// [`describe`](Self::describe) are added to its own.
    pub(super) fn finish(self, part: impl FnOnce(Instant) -> Part) {
        let Some(mut record) = self.record else { return };
        let is_remote = self.parent.is_some();
        let mut span = record.span(part(record.arrived), (self.context.span_id, self.parent, is_remote));
        span.attributes.append(&mut record.attributes);
        let mut spans = record.parts;
        spans.push(span);
        self.tracer.send(Trace { context: self.context, state: record.state, spans });
    }
}

impl Record {
    fn span(&self, part: Part, (id, parent, is_parent_remote): (SpanId, Option<SpanId>, bool)) -> Span {
        let Part { name, kind, began, ended, attributes, events, is_error, .. } = part;
        let (start, end) = (self.time(began), self.time(ended));
        let event = |(name, attributes)| Event { name, time: end, attributes };
        let events = events.into_iter().map(event).collect();
        Span { id, parent, is_parent_remote, kind, name, start, end, attributes, events, is_error }
    }

    /// A time of the monotonic clock, in nanoseconds since 1970.
    fn time(&self, instant: Instant) -> u64 {
        let before = nanos(self.arrived.saturating_duration_since(instant));
        let after = nanos(instant.saturating_duration_since(self.arrived));
        (self.arrived_time + after).saturating_sub(before)
    }
}

impl Part {
    /// The request itself, from its arrival until now.
    pub(super) fn server(name: String, began: Instant, attributes: Vec<Attribute>, is_error: bool) -> Self {
        Self {
            name: name.into(),
            kind: SpanKind::Server,
            parent: None,
            began,
            ended: Instant::now(),
            attributes,
            events: Vec::new(),
            is_error,
        }
    }

    /// A step in this process.
    pub(super) fn step(name: &'static str, (began, ended): (Instant, Instant), attributes: Vec<Attribute>) -> Self {
        Self {
            name: name.into(),
            kind: SpanKind::Internal,
            parent: None,
            began,
            ended,
            attributes,
            events: Vec::new(),
            is_error: false,
        }
    }
}

/// The id of the client's trace, for the log; `None` if the client sent no valid context.
pub(super) fn received_id<F: Fields>(fields: &F) -> Option<TraceId> {
    received(fields).map(|context| context.trace_id)
}

/// The client's context; `None` if it sent none, a malformed one, or several.
fn received<F: Fields>(fields: &F) -> Option<TraceContext> {
    let mut values = fields.field_values(&TRACEPARENT);
    let context = TraceContext::parse(values.next()?)?;
    values.next().is_none().then_some(context)
}

/// The values of all `tracestate` fields as one list.
fn state<F: Fields>(fields: &F) -> String {
    fields.field_values(&TRACESTATE).filter_map(text).collect::<Vec<_>>().join(",")
}

/// The wall-clock time of an instant, in nanoseconds since 1970.
fn unix_nanos(instant: Instant) -> u64 {
    let now = SystemClock.now().timestamp_nanos_opt().and_then(|now| u64::try_from(now).ok()).unwrap_or_default();
    now.saturating_sub(nanos(instant.elapsed()))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The attributes of an address, `host` or `host:port`.
pub(super) fn server_attributes(attributes: &mut Vec<Attribute>, address: &str) {
    if address.is_empty() {
        return;
    }
    match address.parse::<http::uri::Authority>() {
        Ok(authority) => {
            attributes.push(("server.address", Value::text(authority.host())));
            attributes.extend(authority.port_u16().map(|port| ("server.port", Value::count(port))));
        }
        Err(_) => attributes.push(("server.address", Value::text(address))),
    }
}
