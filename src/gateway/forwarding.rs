//! A request in progress: what is kept of it from its head to the end of its response, and the steps that all paths to an upstream share.

use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use parking_lot::Mutex;
use pingora::{Error, ErrorType};

use super::failure::{fault, rejection};
use super::request_state::{ConnectionState, Progress};
use super::supervision::Supervision;
use super::timeouts::AttemptTimeouts;
use super::upstream::{RouteUpstream, Upstream, UpstreamCall};
use crate::id::RequestId;
use crate::pipeline::live_streams::EndReason;
use crate::pipeline::{CurrentSnapshot, Exchange, Rejection, RequestHead, RequestPath, ResponseForm, ResponseInfo};
use crate::wire::credential_locations::CredentialLocations;
use crate::wire::fields::Fields;
use crate::wire::problem::rejection_response;

/// A request in progress.
#[derive(Default)]
pub(super) struct Forwarding {
    pub(super) exchange: Option<Box<Exchange<RouteUpstream>>>,
    /// The attempts at the upstream.
    pub(super) call: UpstreamCall,
    /// Why the upstream got no further attempt.
    pub(super) rejection: Option<Rejection>,
    /// The timeouts, and what was sent.
    pub(super) supervision: Supervision,
    /// Why the response was broken off.
    pub(super) end_reason: Option<EndReason>,
    /// Whether the response broke off.
    pub(super) is_truncated: bool,
    /// Behind a lock, because pingora gives out its context by shared reference when it collects the state of the connection.
    pub(super) connection: Mutex<Option<Box<ConnectionState>>>,
}

impl Forwarding {
    /// A request on a connection with this state.
    pub(super) fn on(connection: Box<ConnectionState>) -> Self {
        let mut request = Self::default();
        *request.connection.get_mut() = Some(connection);
        request
    }

    /// Begins the exchange, unless it was begun before pingora got the request. `path` is the way that the request takes.
    pub(super) fn begin<F: Fields>(
        &mut self,
        snapshot: &CurrentSnapshot<RouteUpstream>,
        head: &RequestHead<'_, F>,
        path: RequestPath,
    ) -> Option<(&mut Exchange<RouteUpstream>, &mut ConnectionState)> {
        let state = self.connection.get_mut().as_mut()?;
        let begin = || Box::new(Exchange::begin(snapshot.load_full(), head, &state.connection));
        let exchange = state.begun.take().unwrap_or_else(begin);
        let exchange = self.exchange.insert(exchange);
        exchange.set_request_path(path);
        Some((exchange, state))
    }

    /// The response that Keygate makes itself to a request with this outcome of its authorization. `None` for one that is forwarded.
    pub(super) fn own_response<F: Fields>(
        &mut self,
        authorized: Result<(), Rejection>,
        fields: &F,
    ) -> Option<Response<Bytes>> {
        let exchange = self.exchange.as_mut()?;
        let outcome = authorized.and_then(|()| exchange.check_body_size(fields));
        match outcome {
            Ok(()) => exchange.own_response(&self.connection.get_mut().as_ref()?.connection),
            Err(rejection) => Some(exchange.reject(&rejection, ResponseForm::of(fields))),
        }
    }

    /// The upstream of the route.
    ///
    /// # Errors
    /// If there is none.
    pub(super) fn upstream(&self) -> pingora::Result<Arc<Upstream>> {
        let route = self.exchange.as_deref().and_then(Exchange::route);
        route.and_then(|route| route.upstream.clone()).ok_or_else(unreachable_upstream)
    }

    /// Selects the endpoint of the next attempt. `key` is what a consistent hash is made from.
    ///
    /// # Errors
    /// If no endpoint is left, or no turn came in time; [`Self::reject`] makes the response.
    pub(super) async fn select(&mut self, upstream: &Arc<Upstream>, key: &[u8]) -> pingora::Result<()> {
        let is_spared = self.exchange.as_deref().is_some_and(Exchange::is_key_cached);
        self.call.select(upstream, key, is_spared).await.map_err(|rejection| {
            self.rejection = Some(rejection);
            unreachable_upstream()
        })
    }

    /// Begins an attempt to forward a request with these fields, and returns its timeouts.
    pub(super) fn begin_attempt<F: Fields>(&mut self, fields: &F) -> Option<AttemptTimeouts> {
        let (supervision, exchange, progress) = self.supervised()?;
        let route = exchange.route()?;
        let timeouts = route.upstream.as_ref()?.timeouts.on_route(&route.timeouts);
        Some(supervision.begin_attempt(timeouts, fields, exchange, progress))
    }

    /// What an exchange that is forwarded is limited by.
    pub(super) fn supervised(&mut self) -> Option<(&mut Supervision, &mut Exchange<RouteUpstream>, &Arc<Progress>)> {
        let progress = &self.connection.get_mut().as_ref()?.progress;
        Some((&mut self.supervision, self.exchange.as_mut()?, progress))
    }

    pub(super) fn progress(&mut self) -> Option<&Progress> {
        Some(&*self.connection.get_mut().as_ref()?.progress)
    }

    /// Whether the upstream got no attempt because of overload. The connection of the client can be used for another request then: a new one
    /// would cost more than the refusal.
    pub(super) fn is_shed(&self) -> bool {
        matches!(self.rejection, Some(Rejection::UpstreamOverloaded(_)))
    }

    /// Logs an error if the upstream is its cause. The path is without the query, which may contain secrets.
    pub(super) fn log_fault(&self, error: &Error, method: &str, path: &str) {
        if self.is_shed() {
            return;
        }
        let Some(fault) = fault(error) else { return };
        tracing::error!(
            request_id = self.exchange.as_ref().map(|exchange| exchange.request_id().as_str()),
            method,
            path,
            route = self.exchange.as_deref().and_then(Exchange::route).map(|route| &*route.name),
            trace_id = self.exchange.as_deref().and_then(Exchange::trace_id).map(tracing::field::display),
            "the request could not be proxied: {fault}"
        );
    }

    /// The response to a request that could not be forwarded because of an error.
    pub(super) fn reject(&mut self, error: &Error, form: ResponseForm) -> Response<Bytes> {
        let rejection = self.rejection.take().unwrap_or_else(|| rejection(error));
        match &mut self.exchange {
            Some(exchange) => exchange.reject(&rejection, form),
            None => rejection_response(&rejection, &RequestId::random(), form, CredentialLocations::standard()),
        }
    }

    /// Counts and logs the request. `sent` has the final status and the number of body bytes, `bytes_received` is the number of bytes of
    /// the request body.
    #[inline(never)] // See `poll_caught` of the connection.
    pub(super) fn finish(&mut self, sent: (Option<u16>, usize), bytes_received: u64) {
        let ((status, bytes), is_truncated, upstream) = (sent, self.is_truncated, self.call.info());
        let response = ResponseInfo { status, bytes, bytes_received, is_truncated, upstream };
        let Some(exchange) = &mut self.exchange else { return };
        match self.end_reason {
            Some(reason) => exchange.record_end(reason, response),
            None => exchange.record(response),
        }
        self.exchange = None;
    }
}

impl Drop for Forwarding {
    /// Logs a request that was aborted: because its body arrived too slowly, or because it was ended from outside.
    fn drop(&mut self) {
        let Some(progress) = self.progress() else { return };
        let (is_timed_out, end_reason) = (progress.is_timed_out(), progress.ending.reason());
        if !is_timed_out && end_reason.is_none() {
            return;
        }
        let bytes_received = progress.body_bytes();
        self.is_truncated |= end_reason.is_some_and(|reason| !reason.is_denial());
        if end_reason == Some(EndReason::ReadTimeout) && self.supervision.is_request_complete {
            self.call.fell_silent();
        }
        let (mut status, bytes) = (self.supervision.status, self.supervision.sent);
        if let Some(exchange) = &mut self.exchange
            && end_reason.is_none()
        {
            status = Some(exchange.reject(&Rejection::RequestTimeout, ResponseForm::Problem).status().as_u16());
        }
        self.end_reason = end_reason;
        self.finish((status, bytes), bytes_received);
    }
}

/// The error of a request whose route has no upstream, or whose upstream has no endpoint.
#[expect(clippy::unnecessary_box_returns, reason = "pingora takes its errors boxed")]
pub(super) fn unreachable_upstream() -> Box<Error> {
    Error::new_up(ErrorType::ConnectError)
}
