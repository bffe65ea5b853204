//! The step of an exchange that responds in place of an upstream.

use std::cell::OnceCell;

use bytes::Bytes;
use http::Response;

use super::connection::Connection;
use super::exchange::Exchange;
use super::head::RequestHead;
use super::route_response::OwnResponse;
use super::template::Values;
use crate::wire::fields::Fields;
use crate::wire::problem::X_REQUEST_ID;

impl<U> Exchange<U> {
    /// The response that the route makes itself (`redirect` or `respond`); `None` if the request is to be forwarded, and unless it is
    /// authorized.
    ///
    /// A front that forwards requests calls this after [`authorize`](Self::authorize), writes the response if there is one, and then
    /// [`finish`](Self::finish)es. A front that only authorizes for another server, such as external authorization or the Tower layer,
    /// does not call it: what happens to an authorized request is up to the other server.
    pub fn own_response(&self, connection: &Connection) -> Option<Response<Bytes>> {
        let response = self.authorized_route()?.response.as_ref()?;
        Some(self.complete(response.make(&self.values(connection))))
    }

    /// The response to a CORS preflight; `None` for other requests, and on routes without a CORS policy. `head` is the one that the
    /// exchange began with.
    ///
    /// A front that forwards requests calls this before [`authorize`](Self::authorize), writes the response if there is one, and then
    /// [`finish`](Self::finish)es. Other fronts do not call it: a proxy that asks Keygate has a CORS policy of its own.
    pub fn preflight_response<F: Fields>(&mut self, head: &RequestHead<'_, F>) -> Option<Response<Bytes>> {
        let response = self.match_preflight(head)?.preflight(head.fields);
        Some(self.complete(response))
    }

    /// Completes a response of Keygate's own with what every response has: the length of the body, the request id and the rate-limit
    /// fields, as far as limits were charged.
    ///
    pub(super) fn complete(&self, own: OwnResponse) -> Response<Bytes> {
        let mut response = own.into_response();
        response.headers_mut().insert(X_REQUEST_ID, self.request_id().value().clone());
        self.insert_limit_fields(response.headers_mut());
        self.insert_cors_fields(response.headers_mut());
        response
    }

    /// What the variables of templates stand for.
    pub(super) fn values<'e>(&'e self, connection: &'e Connection) -> Values<'e> {
        Values {
            verdict: self.verdict(),
            request_id: self.request_id(),
            client_ip: self.client_ip(),
            target: self.target(),
            san: connection.certificate.as_deref().map_or(&[], |certificate| &certificate.san),
            metadata: OnceCell::new(),
        }
    }
}
