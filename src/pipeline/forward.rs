//! The steps of an exchange that prepare a request for its upstream and the upstream's response for the client.

use http::header::{CONTENT_LENGTH, CONTENT_LOCATION, LOCATION};
use http::{HeaderValue, StatusCode};

use super::client_certificate::certificate_headers;
use super::connection::Connection;
use super::credential_strip::strip_credentials;
use super::exchange::{Exchange, RequestEdits, stripped_credentials};
use super::headers::{FieldEdits, ForwardContext, edit_request, edit_response, host_value};
use super::location::AddressMap;
use crate::config::AddedHeader;
use crate::wire::Rejection;
use crate::wire::fields::Fields;
use crate::wire::forwarded::Scheme;

/// How a front has reached the endpoint of an upstream.
#[derive(Debug, Clone, Copy)]
pub struct UpstreamAddress<'a> {
    /// Whether by TLS.
    pub is_tls: bool,
    /// The host and the port as in a `Host` field.
    pub authority: &'a HeaderValue,
}

impl<U> Exchange<U> {
    /// The maximum size of the request body in bytes; `None` if it is not limited.
    pub fn max_body(&self) -> Option<u64> {
        self.route()?.max_body
    }

    /// Checks the announced size of the request body against [`max_body`](Self::max_body). A front counts a body whose size is not
    /// announced.
    ///
    /// # Errors
    /// [`Rejection::BodyTooLarge`].
    pub fn check_body_size<F: Fields>(&self, fields: &F) -> Result<(), Rejection> {
        let Some(max) = self.max_body() else { return Ok(()) };
        let length = fields.field_values(&CONTENT_LENGTH).next();
        let length = length.and_then(|length| std::str::from_utf8(length).ok()?.parse::<u64>().ok());
        if length.is_some_and(|length| length > max) { Err(Rejection::BodyTooLarge) } else { Ok(()) }
    }

    /// The edits of the request head for an upstream. `upstream_host` is the `Host` of the endpoint; the route may ask for another one.
    /// `fields` are those of the head that the exchange began with. `None` unless the request is authorized.
    pub fn request_edits<F: Fields>(
        &self,
        fields: &F,
        connection: &mut Connection,
        upstream_host: HeaderValue,
    ) -> Option<RequestEdits<'_>> {
        let (Some(route), Some(target)) = (self.authorized_route(), self.target()) else {
            return None;
        };
        let selected = self.snapshot().headers;
        let credentials = stripped_credentials(route);
        let context = ForwardContext {
            identity: self.identity(),
            credentials,
            forwarded_for: selected.when(AddedHeader::XForwardedFor, || connection.forwarded_for(fields)).flatten(),
            proto: selected.when(AddedHeader::XForwardedProto, || connection.scheme(fields).as_str()),
            host: selected.when(AddedHeader::XForwardedHost, || {
                connection.forwarded_host(fields).unwrap_or_else(|| target.host())
            }),
            request_id: selected.when(AddedHeader::XRequestId, || self.request_id().value()),
            certificate: certificate_headers(selected, connection.certificate.as_deref()),
            upstream_host: route.host.select(target.host()).map_or(upstream_host, host_value),
            allow_underscores: self.snapshot().allow_underscores,
        };
        let mut edits = edit_request(fields, context);
        if let Some(locations) = credentials {
            strip_credentials(&mut edits, fields, locations);
        }
        if let Some(trace) = self.trace() {
            trace.edit_upstream_fields(&mut edits);
        }
        if let Some(rules) = &route.request_rules {
            rules.apply(&mut edits, &self.values(connection));
        }
        Some(RequestEdits { target: target.path_and_query(), fields: edits })
    }

    /// The edits of the upstream's response head: hop-by-hop fields are removed, the request id and the rate-limit fields are set.
    pub fn response_edits<F: Fields>(&self, status: StatusCode, fields: &F) -> FieldEdits {
        let mut edits = edit_response(fields, status, self.request_id().value());
        self.edit_limit_fields(&mut edits, fields);
        if let Some(cors) = self.cors() {
            cors.edit(&mut edits, fields);
        }
        edits
    }

    /// Adds to the edits of the upstream's response head what only the routes of a gateway have: references to the upstream's own address
    /// in `Location` and `Content-Location` are mapped to the client's, and the header rules of the route are applied. `request_fields`
    /// are those of the head that the exchange began with.
    pub fn add_route_edits<F: Fields, R: Fields>(
        &self,
        edits: &mut FieldEdits,
        (status, fields): (StatusCode, &R),
        request_fields: &F,
        connection: &Connection,
        upstream: UpstreamAddress<'_>,
    ) {
        let Some(route) = self.authorized_route() else { return };
        for name in [LOCATION, CONTENT_LOCATION] {
            let Some(value) = fields.field_values(&name).next() else { continue };
            let mapped = self.map_reference(value, request_fields, connection, upstream);
            if let Some(mapped) = mapped.and_then(|mapped| HeaderValue::try_from(mapped).ok()) {
                edits.replace(&name, Some(mapped));
            }
        }
        let is_final = !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS;
        if let Some(rules) = &route.response_rules
            && is_final
        {
            rules.apply(edits, &self.values(connection));
        }
    }

    /// The client's form of a reference that the upstream has sent; `None` if it stays.
    fn map_reference<F: Fields>(
        &self,
        reference: &[u8],
        request_fields: &F,
        connection: &Connection,
        upstream: UpstreamAddress<'_>,
    ) -> Option<Vec<u8>> {
        let (route, target) = (self.authorized_route()?, self.target()?);
        let authority = upstream.authority.to_str().unwrap_or_default();
        let host = connection.forwarded_host(request_fields).unwrap_or_else(|| target.host());
        let map = AddressMap {
            scheme: if upstream.is_tls { Scheme::Https } else { Scheme::Http },
            authorities: [authority, route.host.select(target.host()).unwrap_or_default()],
            client: (connection.scheme(request_fields), host),
            rewrite: route.rewrite.as_ref(),
        };
        map.mapped(std::str::from_utf8(reference).ok()?).map(String::into_bytes)
    }
}
