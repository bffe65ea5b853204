//! Requests whose head cannot be read: the response, the counters and the access-log line.

use std::net::IpAddr;
use std::time::Instant;

use bytes::Bytes;
use http::Response;

use super::access_log::{RequestLog, ResponseInfo};
use super::request_metrics::RequestPath;
use super::snapshot::Snapshot;
use crate::id::RequestId;
use crate::wire::Rejection;
use crate::wire::problem::{ResponseForm, rejection_response};

/// A request whose head was refused.
#[derive(Debug, Clone, Copy)]
pub struct UnreadRequest {
    /// What is wrong, as a label of metrics.
    pub reason: &'static str,
    /// The client of the connection.
    pub client_ip: Option<IpAddr>,
    /// When the head began to arrive.
    pub arrived: Instant,
}

impl<U> Snapshot<U> {
    /// The response to a request whose head was refused. The request is counted and logged.
    pub fn reject_unread(&self, request: &UnreadRequest, rejection: &Rejection) -> Response<Bytes> {
        let request_id = RequestId::random();
        let response = rejection_response(rejection, &request_id, ResponseForm::Problem, &self.credentials);
        self.metrics.count_malformed(request.reason);
        let log = RequestLog {
            request_path: RequestPath::Fast,
            request_id: self.access_log.is_enabled().then_some(&request_id),
            method: "",
            host: None,
            path: "",
            protocol: None,
            user_agent: None,
            trace_id: None,
            route: None,
            key_id: None,
            rejection: Some(rejection.code()),
            client_ip: request.client_ip,
            proxy: None,
            arrived: request.arrived,
            response: ResponseInfo::new(response.status().as_u16(), response.body().len()),
        };
        log.record(&self.metrics, &self.access_log);
        response
    }
}
