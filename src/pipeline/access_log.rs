//! The access log. No credential and no query is logged.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Version;
use http::header::USER_AGENT;

use super::error_type::CLIENT_CLOSED_REQUEST;
use super::log_line::{ACCESS_LOG, AccessLogSink, LineFields, LogValue};
use super::request_metrics::{CachedSeries, CountedRequest, Metrics, RequestPath};
use super::trace::received_id;
use crate::config::{AccessLogConfig, AccessLogField as Field};
use crate::id::{KeyId, RequestId};
use crate::traces::TraceId;
use crate::wire::fields::Fields;

/// The lowest status that is logged whatever the sample rate is.
const ALWAYS_LOGGED: u16 = 500;

/// How much of a `User-Agent` field is logged, in bytes.
const USER_AGENT_MAX: usize = 256;

/// Which requests are logged, which fields a line has, and where it is written.
#[derive(Debug, Clone)]
pub(super) struct AccessLog {
    is_enabled: bool,
    sample_rate: f64,
    /// A bit for each field.
    fields: u32,
    /// `None` if lines are events of `tracing`.
    sink: Option<AccessLogSink>,
}

/// A request whose line is written.
struct LoggedRequest<'a, 'r> {
    log: &'a AccessLog,
    request: &'a RequestLog<'r>,
    status: u16,
    elapsed: Duration,
}

/// One finished request, as it is counted and logged.
#[derive(Debug)]
pub(super) struct RequestLog<'a> {
    /// `None` if no log line is written, because the log is off.
    pub(super) request_id: Option<&'a RequestId>,
    pub(super) request_path: RequestPath,
    pub(super) method: &'a str,
    pub(super) host: Option<&'a str>,
    /// The path as received, without the query: a query may contain secrets.
    pub(super) path: &'a str,
    pub(super) protocol: Option<Version>,
    pub(super) user_agent: Option<&'a str>,
    pub(super) trace_id: Option<TraceId>,
    pub(super) route: Option<&'a CachedSeries>,
    /// The key of the credential, also of one that is rejected.
    pub(super) key_id: Option<KeyId>,
    /// The code of the rejection.
    pub(super) rejection: Option<&'static str>,
    pub(super) client_ip: Option<IpAddr>,
    /// The peer of the socket, if that is not the client.
    pub(super) proxy: Option<IpAddr>,
    pub(super) arrived: Instant,
    pub(super) response: ResponseInfo,
}

/// What a front sent to the client, and what it received.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResponseInfo {
    /// The status; `None` if the client closed the connection before the response.
    pub status: Option<u16>,
    /// Body bytes sent.
    pub bytes: usize,
    /// Body bytes received.
    pub bytes_received: u64,
    /// Whether the upstream broke off its response.
    pub is_truncated: bool,
    /// The upstream; `None` if the request was not forwarded.
    pub upstream: Option<UpstreamInfo>,
}

/// How an upstream processed a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamInfo {
    /// The name of the upstream.
    pub name: Arc<str>,
    /// The endpoint that sent the response, or was tried last.
    pub endpoint: Option<Arc<str>>,
    /// Number of attempts.
    pub attempts: u32,
    /// Time from the first attempt to the end of the response.
    pub elapsed: Duration,
}

impl ResponseInfo {
    /// A response that a front made itself.
    pub fn new(status: u16, bytes: usize) -> Self {
        Self { status: Some(status), bytes, ..Self::default() }
    }
}

impl AccessLog {
    pub(super) fn new(config: &AccessLogConfig, sink: Option<AccessLogSink>) -> Self {
        let fields = config.fields.iter().fold(0, |bits, field| bits | 1 << *field as u32);
        Self { is_enabled: config.enabled, sample_rate: config.sample_rate, fields, sink }
    }

    /// Whether lines are written.
    pub(super) fn is_enabled(&self) -> bool {
        self.is_enabled && (self.sink.is_some() || tracing::enabled!(target: ACCESS_LOG, tracing::Level::INFO))
    }

    /// The `User-Agent` of a request, if it is logged, or `is_traced`.
    pub(super) fn user_agent<F: Fields>(&self, fields: &F, is_traced: bool) -> Option<Box<str>> {
        let is_logged = || self.is_enabled() && self.has(Field::UserAgent);
        if !is_traced && !is_logged() {
            return None;
        }
        let value = fields.field_values(&USER_AGENT).next()?;
        let end = value.len().min(USER_AGENT_MAX);
        Some(String::from_utf8_lossy(&value[..end]).into())
    }

    /// The id of the client's trace, if it is logged.
    pub(super) fn trace_id<F: Fields>(&self, fields: &F) -> Option<TraceId> {
        if self.is_enabled() && self.has(Field::TraceId) { received_id(fields) } else { None }
    }

    fn has(&self, field: Field) -> bool {
        self.fields >> field as u32 & 1 == 1
    }

    fn select<T>(&self, field: Field, value: Option<T>) -> Option<T> {
        value.filter(|_| self.has(field))
    }

    fn is_sampled(&self, status: u16) -> bool {
        self.sample_rate >= 1.0 || status >= ALWAYS_LOGGED || rand::random::<f64>() < self.sample_rate
    }
}

impl RequestLog<'_> {
    /// Counts the request and writes its line.
    pub(super) fn record(&self, metrics: &Metrics, log: &AccessLog) {
        let elapsed = self.arrived.elapsed();
        let status = self.response.status.unwrap_or(CLIENT_CLOSED_REQUEST);
        let upstream = self.response.upstream.as_ref();
        let upstream = upstream.map(|upstream| upstream.elapsed);
        let (path, rejection) = (self.request_path, self.rejection);
        let counted = CountedRequest { path, method: self.method, status, rejection, elapsed, upstream };
        metrics.count(self.route, &counted);
        if self.request_id.is_some() && log.is_sampled(status) {
            match &log.sink {
                Some(sink) => sink.write(&LoggedRequest { log, request: self, status, elapsed }),
                None => self.write(log, status, elapsed),
            }
        }
    }

    fn write(&self, log: &AccessLog, status: u16, elapsed: Duration) {
        let response = &self.response;
        let upstream = response.upstream.as_ref();
        tracing::info!(
            target: ACCESS_LOG,
            request_id = log.select(Field::RequestId, self.request_id.map(RequestId::as_str)),
            method = log.select(Field::Method, Some(self.method)),
            host = log.select(Field::Host, self.host),
            path = log.select(Field::Path, Some(self.path)),
            protocol = log.select(Field::Protocol, self.protocol).map(tracing::field::debug),
            status = log.select(Field::Status, Some(status)),
            bytes = log.select(Field::Bytes, Some(response.bytes)),
            bytes_received = log.select(Field::BytesReceived, Some(response.bytes_received)),
            duration_us = log.select(Field::DurationUs, Some(micros(elapsed))),
            route = log.select(Field::Route, self.route.map(CachedSeries::route)),
            upstream = log.select(Field::Upstream, upstream.map(|upstream| &*upstream.name)),
            endpoint = log.select(Field::Endpoint, upstream.and_then(|upstream| upstream.endpoint.as_deref())),
            upstream_us = log.select(Field::UpstreamUs, upstream.map(|upstream| micros(upstream.elapsed))),
            attempts = log.select(Field::Attempts, upstream.map(|upstream| upstream.attempts)),
            truncated = log.select(Field::Truncated, response.is_truncated.then_some(true)),
            key_id = log.select(Field::KeyId, self.key_id).map(tracing::field::display),
            denial = log.select(Field::Denial, self.rejection),
            peer = log.select(Field::Peer, self.client_ip).map(tracing::field::display),
            proxy = log.select(Field::Proxy, self.proxy).map(tracing::field::display),
            user_agent = log.select(Field::UserAgent, self.user_agent),
            trace_id = log.select(Field::TraceId, self.trace_id).map(tracing::field::display),
            "request served",
        );
    }
}

impl LineFields for LoggedRequest<'_, '_> {
    fn has(&self, field: Field) -> bool {
        self.log.has(field)
    }

    fn value(&self, field: Field) -> Option<LogValue<'_>> {
        let (request, response) = (self.request, &self.request.response);
        let upstream = response.upstream.as_ref();
        match field {
            Field::RequestId => request.request_id.map(|id| LogValue::Text(id.as_str())),
            Field::Method => Some(LogValue::Text(request.method)),
            Field::Host => request.host.map(LogValue::Text),
            Field::Path => Some(LogValue::Text(request.path)),
            Field::Protocol => request.protocol.map(LogValue::Version),
            Field::Status => Some(LogValue::Number(self.status.into())),
            Field::Bytes => Some(LogValue::Number(response.bytes as u64)),
            Field::BytesReceived => Some(LogValue::Number(response.bytes_received)),
            Field::DurationUs => Some(LogValue::Number(micros(self.elapsed))),
            Field::Route => request.route.map(|series| LogValue::Text(series.route())),
            Field::Upstream => upstream.map(|upstream| LogValue::Text(&upstream.name)),
            Field::Endpoint => upstream.and_then(|upstream| upstream.endpoint.as_deref()).map(LogValue::Text),
            Field::UpstreamUs => upstream.map(|upstream| LogValue::Number(micros(upstream.elapsed))),
            Field::Attempts => upstream.map(|upstream| LogValue::Number(upstream.attempts.into())),
            Field::Truncated => response.is_truncated.then_some(LogValue::Flag(true)),
            Field::KeyId => request.key_id.map(LogValue::Key),
            Field::Denial => request.rejection.map(LogValue::Text),
            Field::Peer => request.client_ip.map(LogValue::Address),
            Field::Proxy => request.proxy.map(LogValue::Address),
            Field::UserAgent => request.user_agent.map(LogValue::Text),
            Field::TraceId => request.trace_id.map(LogValue::Trace),
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(feature = "server")]
#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Mutex;

    use prometheus::Registry;
    use tracing_subscriber::fmt::MakeWriter;

    use super::*;
    use crate::config::{AccessLogForm, LogFormat};
    use crate::telemetry::LogOutput;

    /// Collects lines.
    #[derive(Default, Clone)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(text);
            Ok(text.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Lines {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    fn response(is_truncated: bool) -> ResponseInfo {
        let upstream = UpstreamInfo {
            name: "orders".into(),
            endpoint: Some("10.0.0.1:80".into()),
            attempts: 2,
            elapsed: Duration::from_micros(70),
        };
        ResponseInfo { status: Some(200), bytes: 12, bytes_received: 34, is_truncated, upstream: Some(upstream) }
    }

    /// The line of an event of `tracing`, and the line that is written without it, both without their times.
    fn lines(request: &RequestLog<'_>, format: LogFormat) -> [String; 2] {
        let config = AccessLogConfig { fields: Field::ALL.to_vec(), ..AccessLogConfig::default() };
        let log = AccessLog::new(&config, None);
        let lines = Lines::default();
        let subscriber = tracing_subscriber::fmt().with_writer(lines.clone()).with_ansi(false);
        let write = || request.write(&log, 200, Duration::from_micros(99));
        match format {
            LogFormat::Json => {
                let subscriber = subscriber.json().flatten_event(true).with_current_span(false).with_span_list(false);
                tracing::subscriber::with_default(subscriber.finish(), write);
            }
            LogFormat::Text => tracing::subscriber::with_default(subscriber.finish(), write),
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        let output = Arc::new(LogOutput::file(file.path()).unwrap());
        let sink = AccessLogSink { output, form: Arc::new(AccessLogForm::Format(format)), is_process_log: true };
        sink.write(&LoggedRequest { log: &log, request, status: 200, elapsed: Duration::from_micros(99) });
        sink.output.flush();
        let event = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        [event, std::fs::read_to_string(file.path()).unwrap()].map(|line| {
            let end = line.find('Z').unwrap();
            let time = &line[end - 26..end];
            assert_eq!(time.len(), "2026-11-26T22:57:05.647605".len(), "{line}");
            line.replacen(time, "TIME", 1)
        })
    }

    #[test]
    fn line_in_the_log_of_the_process_equals_an_event_of_tracing() {
        let metrics = Metrics::register(&Registry::new()).unwrap();
        let series = CachedSeries::new("all".into(), &metrics);
        let request_id = RequestId::random();
        let complete = RequestLog {
            request_id: Some(&request_id),
            request_path: RequestPath::Fast,
            method: "GET",
            host: Some("api.example.com"),
            path: "/a=b",
            protocol: Some(Version::HTTP_11),
            user_agent: Some("agent \"1\""),
            trace_id: None,
            route: Some(&series),
            key_id: Some(KeyId::Issued(uuid::Uuid::from_u128(7))),
            rejection: None,
            client_ip: "192.0.2.1".parse().ok(),
            proxy: "2001:db8::1".parse().ok(),
            arrived: Instant::now(),
            response: response(true),
        };
        let rejected = RequestLog {
            request_id: None,
            host: None,
            protocol: None,
            user_agent: None,
            route: None,
            key_id: None,
            rejection: Some("credential_missing"),
            client_ip: None,
            proxy: None,
            response: ResponseInfo::new(401, 0),
            ..complete
        };
        for request in [complete, rejected] {
            for format in [LogFormat::Json, LogFormat::Text] {
                let [event, line] = lines(&request, format);
                assert_eq!(line, event);
            }
        }
    }
}
