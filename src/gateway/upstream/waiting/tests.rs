use std::sync::{Arc, Mutex};

use tokio::task::JoinSet;
use tokio::time::sleep;

use super::*;
use crate::duration::ConfigDuration;

const MS: Duration = Duration::from_millis(1);

fn waiting(max: u32, timeout: Duration, target: Option<Duration>) -> Arc<Waiting> {
    Arc::new(Waiting::new(&PoolConfig {
        max_waiting: max,
        wait_timeout: ConfigDuration(timeout),
        wait_target: target.map(ConfigDuration),
        ..PoolConfig::default()
    }))
}

#[tokio::test]
async fn requests_get_their_turn_in_order() {
    let waiting = waiting(10, MS * 10_000, None);
    let (free, order) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
    let mut tasks = JoinSet::new();
    for number in 0..3 {
        let (waiting_too, free, order) = (Arc::clone(&waiting), Arc::clone(&free), Arc::clone(&order));
        tasks.spawn(async move {
            let take = || free.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |free| free.checked_sub(1)).ok();
            assert!(waiting_too.wait_for(false, take).await.is_ok());
            order.lock().unwrap().push(number);
        });
        while waiting.count() <= number {
            tokio::task::yield_now().await;
        }
    }
    for _ in 0..3 {
        free.fetch_add(1, Ordering::SeqCst);
        waiting.notify();
    }
    while tasks.join_next().await.transpose().unwrap().is_some() {}
    assert_eq!(*order.lock().unwrap(), [0, 1, 2]);
    assert_eq!(waiting.count(), 0);
}

#[tokio::test]
async fn queue_is_bounded_in_length_and_time() {
    let none = waiting(0, MS * 10_000, None);
    assert_eq!(none.wait_for(false, || Some(())).await, Err(ShedReason::MaxWaiting));
    let short = waiting(1, MS, None);
    assert_eq!(short.wait_for(false, || None::<()>).await, Err(ShedReason::WaitTimeout));
    assert_eq!(short.count(), 0);
}

/// A server with one slot behind a queue with a target of 20 ms, in simulated time.
struct Simulation {
    waiting: Arc<Waiting>,
    is_free: Arc<AtomicUsize>,
    outcomes: Arc<Mutex<Vec<Outcome>>>,
    requests: JoinSet<()>,
}

#[derive(Debug, Clone, Copy)]
struct Outcome {
    arrived: Instant,
    waited: Duration,
    is_spared: bool,
    result: Result<(), ShedReason>,
}

const SERVICE: Duration = Duration::from_millis(10);
const TARGET: Duration = Duration::from_millis(20);
const TIMEOUT: Duration = Duration::from_secs(1);

impl Simulation {
    fn new() -> Self {
        let waiting = waiting(1_000, TIMEOUT, Some(TARGET));
        let (is_free, outcomes) = (Arc::new(AtomicUsize::new(1)), Arc::default());
        Self { waiting, is_free, outcomes, requests: JoinSet::new() }
    }

    fn request(&mut self, is_spared: bool) {
        let (waiting, free) = (Arc::clone(&self.waiting), Arc::clone(&self.is_free));
        let outcomes = Arc::clone(&self.outcomes);
        self.requests.spawn(async move {
            let arrived = Instant::now();
            let take = || free.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |free| free.checked_sub(1)).ok();
            let result = waiting.wait_for(is_spared, take).await.map(|_| ());
            outcomes.lock().unwrap().push(Outcome { arrived, waited: arrived.elapsed(), is_spared, result });
            if result.is_ok() {
                sleep(SERVICE).await;
                free.fetch_add(1, Ordering::SeqCst);
                waiting.notify();
            }
        });
    }

    /// Requests arrive for a time, one after each `interval`; each fourth one is spared.
    async fn load(&mut self, time: Duration, interval: Duration) {
        let begin = Instant::now();
        for number in 0.. {
            if begin.elapsed() >= time {
                break;
            }
            self.request(number % 4 == 0);
            sleep(interval).await;
        }
    }

    /// The outcomes so far, when all requests have ended.
    async fn end(&mut self) -> Vec<Outcome> {
        while self.requests.join_next().await.transpose().unwrap().is_some() {}
        std::mem::take(&mut self.outcomes.lock().unwrap())
    }
}

fn served(outcomes: &[Outcome]) -> usize {
    outcomes.iter().filter(|outcome| outcome.result.is_ok()).count()
}

#[tokio::test(start_paused = true)]
async fn queue_that_does_not_drain_refuses_at_the_target_and_serves_no_less() {
    let mut simulation = Simulation::new();
    let begin = Instant::now();
    // Four times what the server can do.
    simulation.load(MS * 4_000, SERVICE / 4).await;
    let outcomes = simulation.end().await;
    let late: Vec<_> = outcomes.iter().filter(|outcome| outcome.arrived - begin > MS * 400).collect();
    for outcome in &late {
        let longest = if outcome.is_spared { TARGET * 2 } else { TARGET };
        assert!(outcome.waited <= longest + MS * 2, "{outcome:?}");
    }
    let refused: Vec<_> = late.iter().filter_map(|outcome| outcome.result.err()).collect();
    assert!(refused.iter().all(|reason| *reason == ShedReason::WaitTarget), "{refused:?}");
    assert!(refused.len() > late.len() / 2, "{} of {}", refused.len(), late.len());
    let (served, possible) = (served(&outcomes), 4_000 / 10);
    assert!(served * 100 >= possible * 95, "{served} of {possible}");
}

#[tokio::test(start_paused = true)]
async fn burst_that_drains_is_served_to_its_last_request() {
    let mut simulation = Simulation::new();
    // 20 requests of 10 ms, the interval of the target is 200 ms.
    for _ in 0..20 {
        simulation.request(false);
    }
    let outcomes = simulation.end().await;
    assert_eq!(served(&outcomes), 20, "{outcomes:?}");
    // A moderate load afterwards, too.
    simulation.load(MS * 1_000, SERVICE * 2).await;
    let outcomes = simulation.end().await;
    assert_eq!(served(&outcomes), outcomes.len());
}

#[tokio::test(start_paused = true)]
async fn requests_wait_as_long_as_before_once_the_queue_was_empty() {
    let mut simulation = Simulation::new();
    simulation.load(MS * 2_000, SERVICE / 4).await;
    assert!(served(&simulation.end().await) < 800);
    for _ in 0..20 {
        simulation.request(false);
    }
    let outcomes = simulation.end().await;
    assert_eq!(served(&outcomes), 20, "{outcomes:?}");
}

#[tokio::test(start_paused = true)]
async fn queue_of_a_server_that_stands_still_is_shortened_after_the_first_timeout() {
    let mut simulation = Simulation::new();
    simulation.is_free.store(0, Ordering::SeqCst);
    simulation.load(MS * 3_000, MS * 10).await;
    let outcomes = simulation.end().await;
    let (first, last) = (outcomes[0], outcomes[outcomes.len() - 1]);
    assert_eq!((first.result, first.waited >= TIMEOUT), (Err(ShedReason::WaitTimeout), true));
    assert_eq!((last.result, last.waited <= TARGET * 2 + MS), (Err(ShedReason::WaitTarget), true));
}
