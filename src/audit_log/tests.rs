use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;
use tokio::sync::watch;

use super::*;
use crate::audit::{AuditEvent, AuditKeys, AuditRow, ChainHead, Heads, Problem, Recorder, read_line};
use crate::clock::{Clock, ManualClock, SystemClock};
use crate::id::TenantId;
use crate::store::{AuditQuery, AuditStore, MemoryStore, Unsealed};

/// What makes the keys of the audit trail.
fn keys() -> AuditKeys {
    let secret = "a secret of at least 32 characters".to_owned();
    AuditKeys::new(&crate::credential::Keyring::new(&secret.into(), &[]))
}

/// A trail and a process that writes it.
struct Fixture {
    store: Arc<MemoryStore>,
    clock: Arc<ManualClock>,
    recorder: Arc<Recorder>,
}

impl Fixture {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::new(SystemClock.now()));
        Self { store: Arc::default(), recorder: recorder(&clock), clock }
    }

    /// Writes rows, one a second.
    async fn write(&self, count: usize) {
        for _ in 0..count {
            self.clock.advance(Duration::from_secs(1));
            let row = self.recorder.import_failed(&system(), 0, "INTERNAL", "reason");
            self.store.record(&[row]).await.unwrap();
        }
    }

    /// Seals all rows, into a new chain.
    async fn seal(&self) {
        let head = ChainHead::start();
        let selection =
            Unsealed { writer: self.recorder.writer(), orphaned: crate::clock::Timestamp::UNIX_EPOCH, limit: 1000 };
        self.store.seal(&selection, &mut |rows| head.seal(&keys(), rows).1).await.unwrap();
    }

    async fn rows(&self, events: Vec<AuditEvent>) -> Vec<AuditRow> {
        let query = AuditQuery { events, ascending: true, ..AuditQuery::new(TenantId::NIL, 1000) };
        self.store.audit_page(&query).await.unwrap()
    }

    async fn checkpoint(&self, now: bool) -> bool {
        checkpoint::write(&*self.store, &self.recorder, TenantId::NIL, now).await.unwrap()
    }

    async fn problems(&self, heads: Heads) -> Vec<Problem> {
        verify(&*self.store, &keys(), TenantId::NIL, heads).await.unwrap().problems
    }

    /// Runs the background work until it is stopped after `work`.
    async fn run(&self, settings: Settings, work: impl AsyncFnOnce()) {
        let metrics = Metrics::register(&Registry::new()).unwrap();
        let store: Arc<dyn AuditStore> = Arc::<MemoryStore>::clone(&self.store);
        let worker = Worker::new(settings, store, Arc::clone(&self.recorder), Arc::default(), metrics);
        let (stop, stopped) = watch::channel(false);
        let running = tokio::spawn(worker.run(stopped));
        work().await;
        stop.send(true).unwrap();
        running.await.unwrap();
    }
}

fn recorder(clock: &Arc<ManualClock>) -> Arc<Recorder> {
    let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(clock);
    Arc::new(Recorder::new(keys(), clock))
}

fn system() -> crate::request_context::RequestContext {
    crate::request_context::RequestContext::system(TenantId::NIL)
}

fn settings() -> Settings {
    Settings { tenant: TenantId::NIL, output: None, retention: Duration::ZERO }
}

/// Waits until a condition holds.
async fn until(condition: impl AsyncFn() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while !condition().await {
        assert!(tokio::time::Instant::now() < deadline, "the condition does not come true");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn rows_are_sealed_while_the_process_runs_and_tied_when_it_stops() {
    let fixture = Fixture::new();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.jsonl");
    let settings = Settings { output: Some(Output::File(file.clone())), ..settings() };
    fixture
        .run(settings, async || {
            fixture.write(3).await;
            until(async || fixture.rows(Vec::new()).await.iter().all(|row| row.seal.is_some())).await;
            fixture.write(1).await;
        })
        .await;
    let rows = fixture.rows(Vec::new()).await;
    assert!(rows.len() == 4 && rows.iter().all(|row| row.seal.is_some()), "{rows:?}");
    let checkpoints = fixture.rows(vec![AuditEvent::Checkpoint]).await;
    let total = rows.len() + checkpoints.len();
    let last = checkpoints.iter().filter_map(|row| row.seal.as_ref()).map(|seal| seal.seq).max().unwrap();
    assert_eq!(usize::try_from(last).unwrap(), total, "the last row is a checkpoint");
    let lines = std::fs::read_to_string(&file).unwrap();
    assert_eq!(lines.lines().count(), total);
    let mut heads = Heads::default();
    lines.lines().for_each(|line| read_line(&mut heads, line).unwrap());
    assert_eq!(fixture.problems(heads).await, []);
}

#[tokio::test]
async fn the_next_process_seals_what_a_crashed_one_left() {
    let mut fixture = Fixture::new();
    fixture.write(2).await;
    fixture.recorder = recorder(&fixture.clock);
    fixture.clock.advance(Duration::from_secs(11));
    fixture.run(settings(), async || {}).await;
    let rows = fixture.rows(Vec::new()).await;
    assert!(rows.iter().all(|row| row.seal.is_some() && row.writer != fixture.recorder.writer()), "{rows:?}");
    assert_eq!(fixture.problems(Heads::default()).await, []);
}

#[tokio::test]
async fn one_process_writes_a_checkpoint_a_minute_and_only_after_other_rows() {
    let fixture = Fixture::new();
    assert!(!fixture.checkpoint(true).await, "there are no rows");
    fixture.write(1).await;
    fixture.seal().await;
    assert!(fixture.checkpoint(false).await);
    fixture.seal().await;
    fixture.write(1).await;
    fixture.seal().await;
    assert!(!fixture.checkpoint(false).await, "another process has just written one");
    fixture.clock.advance(Duration::from_secs(60));
    assert!(fixture.checkpoint(false).await);
}

#[tokio::test]
async fn the_end_of_a_chain_cannot_be_removed_after_a_checkpoint() {
    let fixture = Fixture::new();
    fixture.write(3).await;
    fixture.seal().await;
    let chain = fixture.rows(Vec::new()).await[0].seal.clone().unwrap().chain;
    fixture.checkpoint(true).await;
    fixture.seal().await;
    assert_eq!(fixture.problems(Heads::default()).await, []);
    let kept = fixture.store.chain_rows(&chain, 0, 1000).await.unwrap();
    fixture.store.truncate_chain(&chain, 2);
    let removed = Problem::Removed { chain, from: 3, to: 3, after: Some(kept[1].describe()) };
    assert_eq!(fixture.problems(Heads::default()).await, [removed]);
}

#[tokio::test]
async fn what_retention_leaves_can_be_verified() {
    let fixture = Fixture::new();
    fixture.write(1200).await;
    fixture.seal().await;
    fixture.write(1000).await;
    fixture.seal().await;
    let all = fixture.rows(Vec::new()).await;
    let before = all[999].time;
    retention::prune(&*fixture.store, &fixture.recorder, before).await.unwrap();
    assert_eq!(fixture.rows(Vec::new()).await.first(), Some(&all[999]));
    let verification = verify(&*fixture.store, &keys(), TenantId::NIL, Heads::default()).await.unwrap();
    assert_eq!((verification.removed, verification.problems), (999, Vec::new()));
}
