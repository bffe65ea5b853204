//! A row of the table: a request and its outcome.

use super::credentials::{Credentials, Kind, State};
use super::http::Request;

/// A request and its outcome on every front.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// What is special about the request, besides its credential.
    pub(crate) note: &'static str,
    pub(crate) method: &'static str,
    pub(crate) host: &'static str,
    pub(crate) target: &'static str,
    pub(crate) credential: Option<(Kind, State)>,
    /// Fields of the request; `{}` in a value stands for the credential.
    pub(crate) fields: Vec<(&'static str, &'static str)>,
    pub(crate) body: &'static str,
    /// How many times the request is sent before, and must be forwarded.
    pub(crate) preceding: usize,
    pub(crate) outcome: Outcome,
    /// `RateLimit-Policy` of the response. `RateLimit` is there if this is.
    pub(crate) policy: Option<&'static str>,
}

/// The outcome of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The upstream receives the identity of the credential, and not the credential.
    Identified,
    /// The upstream receives neither identity nor credential.
    Anonymous,
    /// The upstream receives the client's `Authorization`, and no identity.
    Untouched,
    /// The request is rejected.
    Rejected(Rejection),
}

/// What a rejection consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rejection {
    pub(crate) code: &'static str,
    pub(crate) has_retry_after: bool,
    /// The scopes in the challenge.
    pub(crate) scope: Option<&'static str>,
    /// The limit in `violated-policies`.
    pub(crate) violated: Option<&'static str>,
}

impl Row {
    /// A GET request without a credential.
    pub(crate) fn get(target: &'static str) -> Self {
        Self {
            note: "",
            method: "GET",
            host: "api.test",
            target,
            credential: None,
            fields: Vec::new(),
            body: "",
            preceding: 0,
            outcome: Outcome::Anonymous,
            policy: None,
        }
    }

    /// With another method.
    pub(crate) fn method(self, method: &'static str) -> Self {
        Self { method, ..self }
    }

    /// With another host.
    pub(crate) fn host(self, host: &'static str) -> Self {
        Self { host, ..self }
    }

    /// With a body.
    pub(crate) fn body(self, body: &'static str) -> Self {
        Self { body, ..self }
    }

    /// With a credential in `Authorization: Bearer`.
    pub(crate) fn bearer(self, kind: Kind, state: State) -> Self {
        self.credential(kind, state).field("Authorization", "Bearer {}")
    }

    /// With a credential, which the fields place.
    pub(crate) fn credential(self, kind: Kind, state: State) -> Self {
        Self { credential: Some((kind, state)), ..self }
    }

    /// With another field.
    pub(crate) fn field(mut self, name: &'static str, value: &'static str) -> Self {
        self.fields.push((name, value));
        self
    }

    /// With a description.
    pub(crate) fn note(self, note: &'static str) -> Self {
        Self { note, ..self }
    }

    /// After other requests like it.
    pub(crate) fn after(self, preceding: usize) -> Self {
        Self { preceding, ..self }
    }

    /// Its response has the fields of a limit.
    pub(crate) fn policy(self, policy: &'static str) -> Self {
        Self { policy: Some(policy), ..self }
    }

    /// The request is forwarded with the identity of its credential.
    pub(crate) fn identified(self) -> Self {
        Self { outcome: Outcome::Identified, ..self }
    }

    /// The request is forwarded as it is.
    pub(crate) fn untouched(self) -> Self {
        Self { outcome: Outcome::Untouched, ..self }
    }

    /// The request is rejected.
    pub(crate) fn rejected(self, code: &'static str) -> Self {
        let rejection = Rejection { code, has_retry_after: false, scope: None, violated: None };
        Self { outcome: Outcome::Rejected(rejection), ..self }
    }

    /// The request is rejected because it lacks a scope of those that the route requires.
    pub(crate) fn lacks(self, scope: &'static str) -> Self {
        let rejection =
            Rejection { code: "scope_insufficient", has_retry_after: false, scope: Some(scope), violated: None };
        Self { outcome: Outcome::Rejected(rejection), ..self }
    }

    /// The request is rejected because a limit is exceeded.
    pub(crate) fn exceeds(self, limit: &'static str, has_retry_after: bool) -> Self {
        let rejection = Rejection { code: "quota_exceeded", has_retry_after, scope: None, violated: Some(limit) };
        Self { outcome: Outcome::Rejected(rejection), ..self }
    }

    /// The request without its credential, in one line.
    pub(crate) fn request_text(&self) -> String {
        let Self { method, host, target, note, .. } = self;
        let host = if *host == "api.test" { String::new() } else { format!(" of {host}") };
        let note = if note.is_empty() { String::new() } else { format!(", {note}") };
        format!("`{method} {target}`{host}{note}")
    }

    /// The credential in a few words.
    pub(crate) fn credential_text(&self) -> String {
        self.credential.map_or_else(|| "none".to_owned(), |(kind, state)| format!("{kind}, {}", state.describe(kind)))
    }

    /// The identification of the row in reports.
    pub(crate) fn title(&self) -> String {
        format!("{}; {}", self.request_text(), self.credential_text())
    }

    /// The request with its credential, a marker in the query and a request id.
    pub(crate) fn request(&self, credentials: &Credentials, marker: &str, request_id: &str) -> Request {
        let credential = self.credential.map_or("", |credential| &credentials[&credential].text);
        let mut fields: Vec<_> =
            self.fields.iter().map(|(name, value)| (*name, value.replace("{}", credential))).collect();
        fields.push(("X-Request-Id", request_id.to_owned()));
        let separator = if self.target.contains('?') { '&' } else { '?' };
        let target = format!("{}{separator}{marker}", self.target.replace("{}", credential));
        Request { method: self.method, host: self.host, target, fields, body: self.body }
    }
}
