//! Callers that send requests at the same time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use reqwest::{Client, Method};
use tokio::task::JoinSet;

use crate::support::keygate::Keygate;
use crate::support::wait::wait_for;

/// How often each status was received; 0 counts requests without a response.
pub(super) type Statuses = BTreeMap<u16, usize>;

/// Callers that send requests until they are stopped, each to a path of its own.
pub(super) struct Load {
    callers: JoinSet<Answers>,
    is_stopped: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
}

/// What callers received.
#[derive(Debug, Default)]
pub(super) struct Answers {
    pub(super) statuses: Statuses,
    /// The paths of the requests that were not answered with 200.
    pub(super) failed: Vec<String>,
}

impl Load {
    /// Starts callers, each with a connection of its own.
    pub(super) fn start(keygate: &Keygate, method: &Method, callers: usize) -> Self {
        let (is_stopped, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut tasks = JoinSet::new();
        for caller in 0..callers {
            let (gateway, method) = (keygate.gateway.clone(), method.clone());
            let (is_stopped, answered) = (Arc::clone(&is_stopped), Arc::clone(&answered));
            tasks.spawn(async move {
                let (client, mut answers) = (Client::new(), Answers::default());
                for number in 0.. {
                    if is_stopped.load(Ordering::SeqCst) {
                        break;
                    }
                    let path = format!("/{caller}/{number}");
                    answers.add(send(&client, &method, &format!("{gateway}{path}")).await, path);
                    answered.fetch_add(1, Ordering::SeqCst);
                }
                answers
            });
        }
        Self { callers: tasks, is_stopped, answered }
    }

    /// Waits until a number of further requests were answered.
    pub(super) async fn goes_on(&self, requests: usize) {
        let wanted = self.answered.load(Ordering::SeqCst) + requests;
        wait_for(async || match self.answered.load(Ordering::SeqCst) {
            answered if answered >= wanted => Ok(()),
            answered => Err(format!("{answered} of {wanted} requests are answered")),
        })
        .await;
    }

    /// Stops the callers and returns the statuses that they received.
    pub(super) async fn stop(self) -> Statuses {
        self.stop_with_answers().await.statuses
    }

    /// Stops the callers and returns what they received.
    pub(super) async fn stop_with_answers(self) -> Answers {
        self.is_stopped.store(true, Ordering::SeqCst);
        let mut all = Answers::default();
        for answers in self.callers.join_all().await {
            add(&mut all.statuses, answers.statuses);
            all.failed.extend(answers.failed);
        }
        all
    }
}

impl Answers {
    fn add(&mut self, status: u16, path: String) {
        *self.statuses.entry(status).or_insert(0) += 1;
        if status != 200 {
            self.failed.push(path);
        }
    }
}

/// Sends a request; returns its status, 0 without a response.
pub(super) async fn send(client: &Client, method: &Method, url: &str) -> u16 {
    let mut request = client.request(method.clone(), url);
    if method == Method::POST {
        request = request.body("an order");
    }
    match request.send().await {
        Ok(response) => {
            let status = response.status().as_u16();
            if response.bytes().await.is_ok() { status } else { 0 }
        }
        Err(_) => 0,
    }
}

/// 16 callers send a number of requests each.
pub(super) async fn burst(keygate: &Keygate, method: &Method, each: usize) -> Statuses {
    let mut callers = JoinSet::new();
    for caller in 0..16 {
        let (url, method) = (format!("{}/{caller}", keygate.gateway), method.clone());
        callers.spawn(async move {
            let (client, mut statuses) = (Client::new(), Statuses::new());
            for _ in 0..each {
                *statuses.entry(send(&client, &method, &url).await).or_insert(0) += 1;
            }
            statuses
        });
    }
    sum(callers.join_all().await)
}

fn sum(all: Vec<Statuses>) -> Statuses {
    let mut statuses = Statuses::new();
    for more in all {
        add(&mut statuses, more);
    }
    statuses
}

fn add(statuses: &mut Statuses, more: Statuses) {
    for (status, count) in more {
        *statuses.entry(status).or_insert(0) += count;
    }
}
