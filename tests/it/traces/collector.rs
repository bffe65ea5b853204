//! A collector of traces: receives them by OTLP over gRPC and over HTTP.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value as AnyValue;
use opentelemetry_proto::tonic::trace::v1::Span as ProtoSpan;
use prost::Message;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tonic::service::Routes;
use tonic::transport::server::TcpIncoming;
use tower::ServiceExt;

use crate::support::authority::Pair;
use crate::support::wait::wait_for;
use crate::upstream_tls::server::Settings;

/// The protocol of a collector, as in `tracing.protocol`.
#[derive(Debug, Clone, Copy)]
pub(super) enum Protocol {
    Grpc,
    Http,
}

/// A running collector; it ends with the runtime of the test.
#[derive(Clone)]
pub(super) struct Collector {
    /// `tracing` of a configuration that sends all traces to it.
    pub(super) settings: Value,
    requests: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
    /// The fields of the requests; over TLS only.
    fields: Arc<Mutex<Vec<HeaderMap>>>,
}

/// A received span.
#[derive(Debug, Clone)]
pub(super) struct Span {
    pub(super) trace_id: String,
    pub(super) id: String,
    /// Empty for the first span of a trace.
    pub(super) parent: String,
    pub(super) state: String,
    pub(super) name: String,
    /// 1: internal, 2: server, 3: client.
    pub(super) kind: i32,
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) is_error: bool,
    pub(super) attributes: Value,
    pub(super) events: Vec<(String, Value)>,
}

impl Collector {
    pub(super) async fn start(protocol: Protocol) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let name = match protocol {
            Protocol::Grpc => "grpc",
            Protocol::Http => "http/protobuf",
        };
        let settings = json!({
            "enabled": true, "exporter": "otlp", "protocol": name, "sample_rate": 1, "service_name": "keygate-test",
            "endpoint": listener.local_addr().unwrap().to_string()
        });
        let collector = Self { settings, requests: Arc::default(), fields: Arc::default() };
        match protocol {
            Protocol::Grpc => {
                let service = TraceServiceServer::new(collector.clone());
                let server = tonic::transport::Server::builder().add_service(service);
                tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
            }
            Protocol::Http => {
                let router = Router::new().route("/v1/traces", post(receive)).with_state(collector.clone());
                tokio::spawn(axum::serve(listener, router).into_future());
            }
        }
        collector
    }

    /// A collector over TLS, with the certificate of an authority for `localhost`.
    pub(super) async fn start_tls(protocol: Protocol, certificate: &Pair) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (name, alpn) = match protocol {
            Protocol::Grpc => ("grpc", "h2"),
            Protocol::Http => ("http/protobuf", "http/1.1"),
        };
        let settings = json!({
            "enabled": true, "exporter": "otlp", "protocol": name, "sample_rate": 1,
            "endpoint": format!("https://localhost:{}", listener.local_addr().unwrap().port())
        });
        let collector = Self { settings, requests: Arc::default(), fields: Arc::default() };
        let config = Settings { alpn: &[alpn], ..Settings::new(certificate) }.config();
        tokio::spawn(serve_tls(listener, TlsAcceptor::from(Arc::new(config)), collector.clone()));
        collector
    }

    /// The fields of the requests that were received over TLS.
    pub(super) fn fields(&self) -> Vec<HeaderMap> {
        self.fields.lock().unwrap().clone()
    }

    /// What was received, as text.
    pub(super) fn text(&self) -> String {
        format!("{:?}", self.requests.lock().unwrap())
    }

    /// The attributes of the process that sent the first spans.
    pub(super) fn resource(&self) -> Value {
        let requests = self.requests.lock().unwrap();
        attributes(&requests[0].resource_spans[0].resource.as_ref().unwrap().attributes)
    }

    /// All spans that were received so far.
    pub(super) fn spans(&self) -> Vec<Span> {
        let requests = self.requests.lock().unwrap();
        let scopes = requests.iter().flat_map(|request| &request.resource_spans).flat_map(|spans| &spans.scope_spans);
        scopes.flat_map(|scope| &scope.spans).map(Span::from).collect()
    }

    /// Waits for the span of a request, which is the last one of its trace, and returns all spans of its trace.
    pub(super) async fn trace_of(&self, name: &str) -> Vec<Span> {
        wait_for(async || {
            let spans = self.spans();
            let server = spans.iter().find(|span| span.kind == 2 && span.name == name);
            let Some(server) = server else {
                return Err(format!(
                    "no span {name:?} among {:?}",
                    spans.iter().map(|span| &span.name).collect::<Vec<_>>()
                ));
            };
            Ok(spans.iter().filter(|span| span.trace_id == server.trace_id).cloned().collect())
        })
        .await
    }
}

async fn serve_tls(listener: TcpListener, acceptor: TlsAcceptor, collector: Collector) {
    let service = TraceServiceServer::new(collector.clone());
    let router = Router::new().route("/v1/traces", post(receive)).with_state(collector.clone());
    let router = Routes::new(service).into_axum_router().merge(router);
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (acceptor, router, fields) = (acceptor.clone(), router.clone(), Arc::clone(&collector.fields));
        tokio::spawn(async move {
            // The client refuses the certificate.
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                fields.lock().unwrap().push(request.headers().clone());
                router.clone().oneshot(request)
            });
            let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        self.requests.lock().unwrap().push(request.into_inner());
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

async fn receive(State(collector): State<Collector>, fields: HeaderMap, body: Bytes) -> (StatusCode, Vec<u8>) {
    assert_eq!(fields[CONTENT_TYPE], "application/x-protobuf");
    collector.requests.lock().unwrap().push(ExportTraceServiceRequest::decode(body).unwrap());
    (StatusCode::OK, ExportTraceServiceResponse::default().encode_to_vec())
}

impl From<&ProtoSpan> for Span {
    fn from(span: &ProtoSpan) -> Self {
        Self {
            trace_id: hex::encode(&span.trace_id),
            id: hex::encode(&span.span_id),
            parent: hex::encode(&span.parent_span_id),
            state: span.trace_state.clone(),
            name: span.name.clone(),
            kind: span.kind,
            start: span.start_time_unix_nano,
            end: span.end_time_unix_nano,
            is_error: span.status.as_ref().is_some_and(|status| status.code == 2),
            attributes: attributes(&span.attributes),
            events: span.events.iter().map(|event| (event.name.clone(), attributes(&event.attributes))).collect(),
        }
    }
}

fn attributes(attributes: &[KeyValue]) -> Value {
    let value = |attribute: &KeyValue| match attribute.value.as_ref().unwrap().value.as_ref().unwrap() {
        AnyValue::StringValue(text) => json!(text),
        AnyValue::IntValue(number) => json!(number),
        AnyValue::BoolValue(flag) => json!(flag),
        other => panic!("{other:?}"),
    };
    attributes
        .iter()
        .map(|attribute| (attribute.key.clone(), value(attribute)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}
