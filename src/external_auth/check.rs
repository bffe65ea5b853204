//! The steps of the pipeline for the original request of a check.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Response};

use super::original::{Invalid, Original};
use crate::pipeline::{
    Connection, CurrentSnapshot, Exchange, FieldEdits, Rejection, RequestHead, ResponseForm, ResponseInfo,
};
use crate::verifier::Verdict;
use crate::wire::problem::X_REQUEST_ID;

/// Checks requests against the current snapshot.
#[derive(Clone)]
pub(super) struct Checker {
    snapshot: Arc<CurrentSnapshot<()>>,
}

/// The result of a check. It is counted and logged.
pub(super) enum Checked {
    /// The request may pass.
    Allowed(Allowed),
    /// The request is rejected.
    Denied(Denied),
}

/// A request that may pass.
pub(super) struct Allowed {
    /// The edits of the request for the upstream.
    pub(super) edits: FieldEdits,
    /// The names of query parameters that the upstream must not get.
    pub(super) parameters: Vec<String>,
    /// The request id and the rate-limit fields.
    pub(super) answer: HeaderMap,
    /// Who the caller is; `None` for an anonymous request.
    pub(super) verdict: Option<Verdict>,
}

/// A rejected request.
pub(super) struct Denied {
    /// The complete response for the client.
    pub(super) response: Response<Bytes>,
    /// The code of the rejection.
    pub(super) code: &'static str,
}

impl Checker {
    pub(super) fn new(snapshot: Arc<CurrentSnapshot<()>>) -> Self {
        Self { snapshot }
    }

    /// Checks a request. `fields` are those of the check, which include the client's credential.
    pub(super) async fn check(&self, original: Result<Original<'_>, Invalid>, fields: &HeaderMap) -> Checked {
        let original = match original {
            Ok(original) => original,
            Err(why) => return Checked::Denied(self.deny_invalid(why, fields)),
        };
        let mut connection = Connection::new(original.client_ip());
        let mut exchange = Exchange::begin(self.snapshot.load_full(), &original.head(fields), &connection);
        let authorized = exchange.authorize(fields, &mut connection).await;
        let edits = authorized.and_then(|()| exchange.identity_edits(fields, true).ok_or(Rejection::RouteNotFound));
        match edits {
            Ok(edits) => Checked::Allowed(allow(exchange, edits)),
            Err(rejection) => Checked::Denied(deny(exchange, &rejection)),
        }
    }

    /// Rejects a check that does not describe a request.
    fn deny_invalid(&self, why: Invalid, fields: &HeaderMap) -> Denied {
        let head = RequestHead { method: &Method::GET, authority: None, path: "", query: None, version: None, fields };
        let exchange = Exchange::begin(self.snapshot.load_full(), &head, &Connection::default());
        deny(exchange, &Rejection::RequestInvalid(why))
    }
}

fn allow(exchange: Exchange, edits: FieldEdits) -> Allowed {
    let mut answer = HeaderMap::new();
    answer.insert(X_REQUEST_ID, exchange.request_id().value().clone());
    exchange.insert_limit_fields(&mut answer);
    let verdict = exchange.verdict().cloned();
    let parameters = exchange.stripped_parameters().iter().map(ToString::to_string).collect();
    exchange.finish(ResponseInfo::new(200, 0));
    Allowed { edits, parameters, answer, verdict }
}

/// Always a problem document: a proxy turns it into the status of a gRPC call itself.
fn deny(mut exchange: Exchange, rejection: &Rejection) -> Denied {
    let response = exchange.reject(rejection, ResponseForm::Problem);
    exchange.finish(ResponseInfo::new(response.status().as_u16(), response.body().len()));
    Denied { response, code: rejection.code() }
}

impl Allowed {
    /// The names of fields of the request that the upstream must not get: the credential, and identity fields that the client sent.
    pub(super) fn removed<'f>(&'f self, fields: &'f HeaderMap) -> impl Iterator<Item = &'f str> {
        let names = fields.keys().map(http::HeaderName::as_str);
        names.filter(|name| self.edits.removes(name) && !self.edits.set().any(|(set, _)| set.as_str() == *name))
    }
}
