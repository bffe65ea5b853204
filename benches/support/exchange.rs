//! All that the gateway does for a request and its answer, beside moving bytes.

use std::hint::black_box;

use http::Method;
use keygate::config::UpstreamLimitFields;
use keygate::gateway::account::{Account, End, Metrics};
use keygate::gateway::decide::Admitted;
use keygate::gateway::limit::Charged;
use keygate::id::RequestId;
use keygate::verifier::{Denial, Verdict};
use keygate::wire::problem::problem;
use pingora::http::{RequestHeader, ResponseHeader};
use prometheus::Registry;

use super::parts::{Credential, PEER, Parts};
use super::request::{Request, forward, send_back, to_forward, to_send_back};

/// A client that sends the same request again and again.
pub(super) struct Exchange {
    parts: Parts,
    metrics: Metrics,
    request: Request,
    forwarded: RequestHeader,
    answer: ResponseHeader,
}

impl Exchange {
    /// With a credential of this kind.
    pub(super) fn new(kind: Credential) -> Self {
        let parts = Parts::new();
        let credential = parts.credential(kind);
        Self {
            metrics: Metrics::register(&Registry::new()).expect("the registry is new"),
            request: Request::new(Some(&credential)),
            forwarded: to_forward(&credential),
            answer: to_send_back(),
            parts,
        }
    }

    /// Goes through the steps of the gateway once; gives the status that the client sees.
    pub(super) fn run(&self) -> u16 {
        let mut account = self.metrics.open(RequestId::random());
        let decision = self.parts.decide(black_box(self.request.head()));
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

    fn pass(&self, admitted: &Admitted, charged: &Charged, account: &mut Account) -> u16 {
        let verdict = admitted.verdict.as_ref().expect("the route demands a credential");
        account.key_id = Some(Verdict::key_id(verdict));
        let mut forwarded = self.forwarded.clone();
        forward(&mut forwarded, verdict);
        let mut answer = self.answer.clone();
        send_back(&mut answer);
        charged.add_to(&mut answer, UpstreamLimitFields::Keep);
        black_box((forwarded, answer)).1.status.as_u16()
    }
}

fn refuse(denial: &Denial, charged: &Charged, account: &mut Account) -> u16 {
    account.denial = Some(denial.code());
    let mut refusal = problem(denial, &account.request_id);
    charged.describe(refusal.headers_mut());
    black_box(refusal).status().as_u16()
}
