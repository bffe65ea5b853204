//! Spans as messages of OTLP.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as AnyValueKind;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource as ProtoResource;
use opentelemetry_proto::tonic::trace::v1::span::{Event as ProtoEvent, SpanKind as ProtoKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span as ProtoSpan, SpanFlags, Status};

use super::super::span::{Attribute, Event, Span, SpanKind, Trace, Value};
use super::settings::Settings;

/// The name of what makes the spans.
const SCOPE: &str = "keygate";

/// What is said of this process in every request to the collector.
pub(super) struct Resource(ProtoResource);

impl Resource {
    pub(super) fn new(settings: &Settings) -> Self {
        let instance = uuid::Builder::from_random_bytes(rand::random()).into_uuid().to_string();
        let attributes = [
            ("service.name", settings.service_name.clone()),
            ("service.version", settings.service_version.clone()),
            ("service.instance.id", instance),
            ("deployment.environment.name", settings.environment.clone()),
        ];
        let attributes = attributes.map(|(name, text)| attribute((name, Value::Text(text.into()))));
        Self(ProtoResource { attributes: attributes.into(), ..ProtoResource::default() })
    }
}

/// The request that delivers the spans of a batch.
pub(super) fn request(resource: &Resource, batch: Vec<Trace>) -> ExportTraceServiceRequest {
    let scope = InstrumentationScope {
        name: SCOPE.into(),
        version: env!("CARGO_PKG_VERSION").into(),
        ..InstrumentationScope::default()
    };
    let spans = batch.into_iter().flat_map(spans).collect();
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, schema_url: String::new() }];
    let spans = ResourceSpans { resource: Some(resource.0.clone()), scope_spans, schema_url: String::new() };
    ExportTraceServiceRequest { resource_spans: vec![spans] }
}

fn spans(trace: Trace) -> impl Iterator<Item = ProtoSpan> {
    let Trace { context, state, spans } = trace;
    spans.into_iter().map(move |span| {
        let Span { id, parent, is_parent_remote, kind, name, start, end, attributes, events, is_error } = span;
        let mut flags = u32::from(context.flags()) | SpanFlags::ContextHasIsRemoteMask as u32;
        if is_parent_remote {
            flags |= SpanFlags::ContextIsRemoteMask as u32;
        }
        let status = Status { code: StatusCode::Error as i32, message: String::new() };
        ProtoSpan {
            trace_id: context.trace_id.0.into(),
            span_id: id.0.into(),
            parent_span_id: parent.map(|parent| parent.0.into()).unwrap_or_default(),
            trace_state: state.to_string(),
            flags,
            name: name.into_owned(),
            kind: proto_kind(kind) as i32,
            start_time_unix_nano: start,
            end_time_unix_nano: end,
            attributes: attributes.into_iter().map(attribute).collect(),
            events: events.into_iter().map(event).collect(),
            status: is_error.then_some(status),
            ..ProtoSpan::default()
        }
    })
}

fn event(event: Event) -> ProtoEvent {
    let Event { name, time, attributes } = event;
    ProtoEvent {
        time_unix_nano: time,
        name: name.into(),
        attributes: attributes.into_iter().map(attribute).collect(),
        dropped_attributes_count: 0,
    }
}

fn attribute((name, value): Attribute) -> KeyValue {
    let value = match value {
        Value::Text(text) => AnyValueKind::StringValue(text.into_owned()),
        Value::Int(number) => AnyValueKind::IntValue(number),
        Value::Bool(flag) => AnyValueKind::BoolValue(flag),
    };
    KeyValue { key: name.into(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn proto_kind(kind: SpanKind) -> ProtoKind {
    match kind {
        SpanKind::Server => ProtoKind::Server,
        SpanKind::Client => ProtoKind::Client,
        SpanKind::Internal => ProtoKind::Internal,
    }
}
