//! Requests with credentials that must be accepted, on every node, until they are withdrawn.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use reqwest::Client;
use tokio::task::JoinSet;

use crate::support::keygate::Keygate;
use crate::support::wait::wait_for;

const CALLERS: u64 = 4;

/// What all callers share, and what they have observed.
struct State {
    http: Client,
    gateways: Vec<String>,
    good: Mutex<Vec<String>>,
    calls: AtomicU64,
    is_done: AtomicBool,
    refused: Mutex<Vec<String>>,
}

/// Callers that send requests until the end of the test.
pub(super) struct Load {
    state: Arc<State>,
    callers: JoinSet<()>,
}

impl State {
    /// Sends one request with a credential to a node. It must be accepted, unless the credential was withdrawn meanwhile.
    async fn send(&self, node: usize, credential: &str) {
        let response = self.http.get(&self.gateways[node]).bearer_auth(credential).send().await.unwrap();
        let status = response.status().as_u16();
        let body = response.text().await.unwrap();
        let is_good = self.good.lock().unwrap().iter().any(|good| good == credential);
        if status != 200 && is_good {
            self.refused.lock().unwrap().push(format!("node {node} answers {status} to {credential}: {body}"));
        }
    }

    async fn run(self: Arc<Self>) {
        while !self.is_done.load(Ordering::Relaxed) {
            let call = self.calls.fetch_add(1, Ordering::Relaxed);
            let node = usize::try_from(call).unwrap() % self.gateways.len();
            let credential = {
                let good = self.good.lock().unwrap();
                good[usize::try_from(call).unwrap() / self.gateways.len() % good.len()].clone()
            };
            self.send(node, &credential).await;
        }
    }
}

impl Load {
    /// Starts the callers.
    pub(super) fn start(nodes: &[Keygate], good: Vec<String>) -> Self {
        let state = Arc::new(State {
            http: Client::new(),
            gateways: nodes.iter().map(|node| node.gateway.clone()).collect(),
            good: Mutex::new(good),
            calls: AtomicU64::new(0),
            is_done: AtomicBool::new(false),
            refused: Mutex::default(),
        });
        let callers = (0..CALLERS).map(|_| Arc::clone(&state).run()).collect();
        Self { state, callers }
    }

    /// Adds a credential that must be accepted from now on.
    pub(super) fn add(&self, credential: String) {
        self.state.good.lock().unwrap().push(credential);
    }

    /// Withdraws a credential: it may be refused from now on.
    pub(super) fn withdraw(&self, credential: &str) {
        self.state.good.lock().unwrap().retain(|good| good != credential);
    }

    /// Waits until each credential was sent to each node several times.
    pub(super) async fn cover(&self) {
        let credentials = self.state.good.lock().unwrap().len();
        let before = self.state.calls.load(Ordering::Relaxed);
        let wanted = (credentials * self.state.gateways.len() * 5) as u64 + CALLERS;
        wait_for(async || match self.state.calls.load(Ordering::Relaxed) - before {
            calls if calls >= wanted => Ok(()),
            calls => Err(format!("{calls} of {wanted} calls")),
        })
        .await;
    }

    /// Ends the load; panics if a credential was refused.
    pub(super) async fn finish(self) {
        self.cover().await;
        self.state.is_done.store(true, Ordering::Relaxed);
        self.callers.join_all().await;
        let refused = self.state.refused.lock().unwrap();
        println!("{} calls", self.state.calls.load(Ordering::Relaxed));
        assert!(refused.is_empty(), "{} refused, first: {:?}", refused.len(), refused.first());
    }
}
