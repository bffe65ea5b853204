//! The state of a request that pingora forwards.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Response, Version};
use pingora::proxy::Session;
use pingora::upstreams::peer::HttpPeer;

use super::body_limit::BodyLimit;
use super::forwarding::{Forwarding, unreachable_upstream};
use super::timed_session::SessionPlace;
use super::upgrade_socket::ResponseGate;
use super::upstream::Upstream;
use crate::config::UpstreamProtocol;
use crate::pipeline::ResponseForm;
use crate::pipeline::headers::requests_upgrade;

/// The state of one request.
#[derive(Default)]
pub(super) struct Context {
    pub(super) request: Forwarding,
    pub(super) body_limit: BodyLimit,
    /// Whether an interim response was passed on.
    pub(super) is_continued: bool,
    /// Set if the request upgrades the connection to its upstream.
    pub(super) gate: Option<Arc<ResponseGate>>,
    /// Set while a request over HTTP/2 is forwarded.
    session_place: Option<SessionPlace>,
}

impl Context {
    /// Selects the endpoint of the first attempt. Returns the response to a request that is refused because of overload: pingora keeps the
    /// client's connection after a response, and closes it after an attempt that failed. [`Self::select_next`] reports any other error.
    pub(super) async fn select_first(&mut self, fields: &HeaderMap) -> Option<Response<Bytes>> {
        let error = Box::pin(self.select(fields)).await.err()?;
        self.request.is_shed().then(|| self.request.reject(&error, ResponseForm::of(fields)))
    }

    /// Selects the endpoint of the next attempt, unless that was done.
    ///
    /// # Errors
    /// If there is none.
    pub(super) async fn select_next(&mut self, fields: &HeaderMap) -> pingora::Result<Arc<Upstream>> {
        if self.request.rejection.is_some() {
            return Err(unreachable_upstream());
        }
        if !self.request.call.has_attempt() {
            self.select(fields).await?;
        }
        self.request.upstream()
    }

    async fn select(&mut self, fields: &HeaderMap) -> pingora::Result<()> {
        let upstream = self.request.upstream()?;
        let exchange = self.request.exchange.as_ref().ok_or_else(unreachable_upstream)?;
        let key = upstream.hash_key(exchange, fields);
        self.request.select(&upstream, &key).await
    }

    /// Sets the timeouts of an attempt, and prepares a connection for an upgrade.
    pub(super) fn begin_attempt(&mut self, session: &Session, upstream: &Upstream, peer: &mut HttpPeer) {
        let request = session.req_header();
        let is_upgrade = upstream.protocol != UpstreamProtocol::Http2
            && request.version == Version::HTTP_11
            && requests_upgrade(&request.headers);
        if let Some(timeouts) = self.request.begin_attempt(&request.headers) {
            timeouts.apply(peer);
        }
        self.gate = is_upgrade.then(|| ResponseGate::of_peer(peer));
    }

    /// Begins to send the request of an attempt.
    pub(super) fn begin_request(&mut self, session: &mut Session) -> pingora::Result<()> {
        let is_body_empty = session.is_body_empty();
        if let Some(gate) = self.gate.as_ref().filter(|_| is_body_empty) {
            gate.close();
        }
        let Some((supervision, exchange, progress)) = self.request.supervised() else { return Ok(()) };
        supervision.begin_request(is_body_empty, exchange, progress)?;
        if !supervision.is_grpc() {
            self.session_place = SessionPlace::take(&mut session.downstream_session, progress);
        }
        Ok(())
    }

    /// Puts pingora's session in its place again.
    pub(super) fn restore_session(&mut self, session: &mut Session) {
        if let Some(place) = self.session_place.take() {
            place.restore(&mut session.downstream_session);
        }
    }
}
