//! Calls of a minute that share one row, because anyone can make many of them.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::row::time_text;
use crate::clock::Timestamp;
use crate::id::KeyId;
use crate::request_context::Principal;

/// What the calls of one row have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calls {
    /// Who made the calls, as far as it is known.
    pub principal: Principal,
    /// The address or, for IPv6, the first address of its network of 64 bits; `None` for all calls that were not counted apart.
    pub client_ip: Option<IpAddr>,
    /// The id of the first request.
    pub request_id: String,
    /// The number of calls.
    pub count: u64,
    /// The time of the first call.
    pub first: Timestamp,
    /// The time of the last call.
    pub last: Timestamp,
}

/// Refused calls of the admin API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The calls.
    pub calls: Calls,
    /// The number of calls by HTTP status.
    pub statuses: Vec<(u16, u64)>,
    /// The first few routes that were called, such as `POST /v2alpha1/admin/issuedApiKeys`.
    pub routes: Vec<String>,
}

/// Why a credential was not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VerificationFailure {
    /// The message of the response.
    pub reason: &'static str,
    /// `issued`, `imported`, `derived_jwt` or `derived_macaroon`.
    pub credential_type: &'static str,
    /// The key, if there is a record of it.
    pub key: Option<KeyId>,
}

/// Failed verifications of credentials by the admin API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedVerifications {
    /// The verifications.
    pub calls: Calls,
    /// Why they failed; `None` for all that were not counted apart.
    pub failure: Option<VerificationFailure>,
}

impl Calls {
    fn details(&self) -> Map<String, Value> {
        let times = [("first_time", self.first), ("last_time", self.last)];
        let times = times.map(|(name, time)| (name.to_owned(), Value::from(time_text(time))));
        times.into_iter().chain([("count".to_owned(), self.count.into())]).collect()
    }
}

impl Refusal {
    pub(super) fn details(&self) -> Value {
        let mut details = self.calls.details();
        let statuses: Map<String, Value> =
            self.statuses.iter().map(|(status, count)| (status.to_string(), (*count).into())).collect();
        details.insert("statuses".into(), statuses.into());
        details.insert("routes".into(), json!(self.routes));
        details.into()
    }
}

impl FailedVerifications {
    pub(super) fn details(&self) -> Value {
        let mut details = self.calls.details();
        if let Some(failure) = &self.failure {
            details.insert("reason".into(), failure.reason.into());
            details.insert("credential_type".into(), failure.credential_type.into());
        }
        details.into()
    }
}
