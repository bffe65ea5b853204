//! All that the gateway does for a request and its answer, beside moving bytes.

use std::hint::black_box;
use std::time::Instant;

use http::{HeaderValue, Method};
use keygate::gateway::account::{Account, End, Metrics};
use keygate::gateway::decide::Admitted;
use keygate::gateway::forward::forwarded_for;
use keygate::gateway::limit::Charged;
use keygate::id::RequestId;
use keygate::verifier::{Denial, Verdict};
use keygate::wire::problem::problem;
use pingora::http::{RequestHeader, ResponseHeader};
use prometheus::Registry;

use super::parts::{Credential, PEER};
use super::request::{forward, send_back, to_forward, to_send_back};
use super::traffic::{Sight, Traffic};

/// A client that sends requests again and again.
pub(super) struct Exchange {
    traffic: Traffic,
    metrics: Metrics,
    forwarded: RequestHeader,
    answer: ResponseHeader,
    /// The client's address as the upstream is told of it, once the connection knows it.
    peer: Option<HeaderValue>,
}

impl Exchange {
    /// With one credential of this kind.
    pub(super) fn new(kind: Credential, sight: Sight) -> Self {
        let traffic = Traffic::new(kind, sight, 0);
        Self {
            metrics: Metrics::register(&Registry::new(), 1).expect("the registry is new"),
            forwarded: to_forward(traffic.credential()),
            answer: to_send_back(),
            peer: None,
            traffic,
        }
    }

    /// Goes through the steps of the gateway once; gives the status that the client sees.
    pub(super) fn run(&mut self) -> u16 {
        let mut account = self.metrics.open(RequestId::random(), Instant::now());
        if !self.traffic.keeps_connection() {
            self.peer = None;
        }
        let decision = self.traffic.decide();
        account.route = decision.route;
        let status = match decision.outcome {
            Ok(admitted) => self.pass(&admitted, &decision.charged, &mut account),
            Err(denial) => refuse(&denial, &decision.charged, &mut account),
        };
        let end =
            End { method: &Method::GET, path: "/v1/orders/4711", status: Some(status), bytes: 1024, peer: Some(PEER) };
        self.metrics.close(&account, &end);
        status
    }

    fn pass(&mut self, admitted: &Admitted, charged: &Charged, account: &mut Account) -> u16 {
        let verdict = admitted.verdict.as_ref().expect("the route demands a credential");
        account.key_id = Some(Verdict::key_id(verdict));
        let peer = self.peer.get_or_insert_with(|| forwarded_for(PEER)).clone();
        let mut forwarded = self.forwarded.clone();
        forward(&mut forwarded, verdict, peer, &account.request_id);
        let mut answer = self.answer.clone();
        send_back(&mut answer, charged, &account.request_id);
        black_box((forwarded, answer)).1.status.as_u16()
    }
}

fn refuse(denial: &Denial, charged: &Charged, account: &mut Account) -> u16 {
    account.denial = Some(denial.code());
    let mut refusal = problem(denial, &account.request_id);
    charged.describe(refusal.headers_mut());
    black_box(refusal).status().as_u16()
}
