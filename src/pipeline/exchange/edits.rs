//! The edits of an authorized request's fields, and of the rate-limit fields of its response.

use http::HeaderMap;

use super::{Exchange, stripped_credentials};
use crate::config::UpstreamLimitFields;
use crate::pipeline::credential_strip::strip_credentials;
use crate::pipeline::headers::{FieldEdits, IdentityHeaders, edit_identity, strip_identity};
use crate::wire::fields::Fields;

impl<U> Exchange<U> {
    /// The edits for a service that gets the request from another server or in this process: the credential and the client's
    /// `X-Keygate-*` fields are removed, and with `identity` the selected identity fields are set. `fields` are those of the head that the
    /// exchange began with. `None` unless the request is authorized.
    pub fn identity_edits<F: Fields>(&self, fields: &F, identity: bool) -> Option<FieldEdits> {
        let route = self.authorized_route()?;
        let identity = if identity { self.identity() } else { None };
        let credentials = stripped_credentials(route);
        let mut edits = edit_identity(identity, credentials);
        if let Some(locations) = credentials {
            strip_credentials(&mut edits, fields, locations);
        }
        Some(edits)
    }

    /// The names of the query parameters that a service behind another server, or in this process, must not get: those of the
    /// credential. Empty unless the request is authorized.
    pub fn stripped_parameters(&self) -> &[Box<str>] {
        self.authorized_route()
            .and_then(stripped_credentials)
            .map(|locations| locations.parameters())
            .unwrap_or_default()
    }

    /// Applies to a map what [`Exchange::identity_edits`] without an identity and [`Exchange::add_trace_edits`] are. Nothing unless the
    /// request is authorized.
    #[doc(hidden)]
    pub fn strip_fields(&self, fields: &mut HeaderMap) {
        let Some(route) = self.authorized_route() else { return };
        let credentials = stripped_credentials(route);
        if self.trace.is_none() && credentials.is_none_or(|locations| locations.are_fields()) {
            return strip_identity(fields, credentials.map(AsRef::as_ref));
        }
        if let Some(mut edits) = self.identity_edits(fields, false) {
            self.add_trace_edits(&mut edits);
            edits.apply(fields);
        }
    }

    pub(in crate::pipeline) fn identity(&self) -> Option<IdentityHeaders> {
        self.verdict.as_ref().map(|verdict| self.snapshot.headers.identity(verdict, &self.snapshot.tenant))
    }

    /// The edits that add the rate-limit fields to a response, for a front that does not forward it.
    pub fn limit_edits<F: Fields>(&self, fields: &F) -> FieldEdits {
        let mut edits = FieldEdits::default();
        self.edit_limit_fields(&mut edits, fields);
        edits
    }

    /// Applies [`Exchange::limit_edits`] to a response.
    #[doc(hidden)]
    pub fn edit_limits(&self, fields: &mut HeaderMap) {
        if self.has_limit_edits() {
            self.limit_edits(fields).apply(fields);
        }
    }

    /// Whether the rate-limit fields of a response may change.
    fn has_limit_edits(&self) -> bool {
        !self.limits.is_empty() || self.snapshot.upstream_limit_fields == UpstreamLimitFields::Remove
    }

    pub(in crate::pipeline) fn edit_limit_fields<F: Fields>(&self, edits: &mut FieldEdits, fields: &F) {
        if !self.has_limit_edits() {
            return;
        }
        self.limits.fields().edit(edits, fields, self.snapshot.upstream_limit_fields);
    }

    /// Adds to the edits for a service in this process the fields of the trace.
    #[doc(hidden)]
    pub fn add_trace_edits(&self, edits: &mut FieldEdits) {
        if let Some(trace) = &self.trace {
            trace.edit_inner_fields(edits);
        }
    }
}
