//! The end of a request: it is counted and logged once, however it ends; and what ends a live stream.

use std::sync::Arc;

use super::Exchange;
use crate::config::OnRevoke;
use crate::id::KeyId;
use crate::pipeline::access_log::{RequestLog, ResponseInfo};
use crate::pipeline::error_type::CLIENT_CLOSED_REQUEST;
use crate::pipeline::head::Target;
use crate::pipeline::live_streams::{EndReason, EndStream, StreamKind, StreamSubject};
use crate::pipeline::request_metrics::CountedRequest;
use crate::pipeline::spans::Finished;
use crate::pipeline::trace::RequestTrace;
use crate::verifier::Verdict;
use crate::wire::Rejection;

impl<U> Exchange<U> {
    /// Notes that the exchange is a live stream, once. `end` ends it when its credential is no longer valid, unless the route keeps streams.
    ///
    /// # Errors
    /// [`Rejection::StreamsExceeded`] if there are too many streams.
    #[doc(hidden)]
    pub fn begin_stream(
        &mut self,
        kind: StreamKind,
        end: impl FnOnce() -> Arc<dyn EndStream>,
    ) -> Result<(), Rejection> {
        let Some(streams) = self.snapshot.live_streams.as_ref().filter(|_| self.stream.is_none()) else {
            return Ok(());
        };
        let stream = match (self.route.as_ref(), self.verdict.as_ref()) {
            (Some(route), Some(verdict)) if route.on_revoke == OnRevoke::Close => {
                let subject = StreamSubject {
                    verdict: verdict.clone(),
                    client_ip: self.client_ip,
                    scopes: Arc::clone(&route.scopes),
                    audiences: route.audiences.clone(),
                    tenant: self.snapshot.tenant_id,
                    revoke_with_parent: self.snapshot.revoke_with_parent,
                };
                streams.watch(kind, subject, end(), self.changes)?
            }
            _ => streams.count(kind),
        };
        self.stream = Some(Box::new(stream));
        Ok(())
    }

    /// Counts and logs a request that was ended before its response was complete.
    #[doc(hidden)]
    pub fn record_end(&mut self, reason: EndReason, response: ResponseInfo) {
        self.rejection = Some(reason.code());
        if let Some(stream) = &self.stream {
            stream.count_end(reason);
        }
        self.record(response);
    }

    /// Counts and logs the request.
    pub fn finish(mut self, response: ResponseInfo) {
        self.record(response);
    }

    /// Counts and logs the request, once.
    #[doc(hidden)]
    pub fn record(&mut self, response: ResponseInfo) {
        let Some(in_flight) = self.in_flight.take() else { return };
        let trace = self.trace.take();
        let is_logged = self.snapshot.access_log.is_enabled();
        if is_logged || trace.is_some() {
            self.record_and_describe(response, is_logged, trace);
        } else {
            let counted = CountedRequest {
                path: self.request_path,
                method: self.method.as_str(),
                status: response.status.unwrap_or(CLIENT_CLOSED_REQUEST),
                rejection: self.rejection,
                elapsed: self.arrived.elapsed(),
                upstream: response.upstream.as_ref().map(|upstream| upstream.elapsed),
            };
            self.snapshot.metrics.count(self.route.as_ref().map(|route| &route.series), &counted);
            self.count_usage(&response);
        }
        drop(in_flight);
    }

    /// Counts the request in the usage of its key.
    #[inline]
    fn count_usage(&self, response: &ResponseInfo) {
        if let (Some(usage), Some(key)) = (self.snapshot.usage.as_deref(), self.key_id()) {
            usage.count(&key, self.rejection, response.bytes_received, response.bytes as u64);
        }
    }

    /// The key of the credential, also of one that is rejected.
    #[inline]
    fn key_id(&self) -> Option<KeyId> {
        self.verdict.as_ref().map(Verdict::key_id).or_else(|| self.refused_key.as_deref().copied())
    }

    /// Counts the request, writes its line and ends its trace.
    #[inline(never)]
    fn record_and_describe(&self, response: ResponseInfo, is_logged: bool, trace: Option<Box<RequestTrace>>) {
        let access_log = &self.snapshot.access_log;
        let log = RequestLog {
            // Without a log line, a request that has no id needs none.
            request_id: is_logged.then(|| self.request_id()),
            request_path: self.request_path,
            method: self.method.as_str(),
            host: self.target.as_ref().map(Target::host),
            protocol: self.version,
            user_agent: self.user_agent.as_deref(),
            trace_id: self.trace_id,
            path: self.received_path(),
            route: self.route().map(|route| &route.series),
            key_id: self.key_id(),
            rejection: self.rejection,
            client_ip: self.client_ip,
            proxy: self.proxy,
            arrived: self.arrived,
            response,
        };
        log.record(&self.snapshot.metrics, access_log);
        self.count_usage(&log.response);
        if let Some(trace) = trace {
            let credential = self.verdict.as_ref().map(Verdict::kind);
            Finished { log: &log, request_id: self.request_id(), credential }.end(*trace);
        }
    }
}

impl<U> Drop for Exchange<U> {
    /// Counts and logs a request that was abandoned.
    fn drop(&mut self) {
        self.record(ResponseInfo::default());
    }
}
