use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use prometheus::Registry;
use secrecy::ExposeSecret;

use super::*;
use crate::cache::{CacheKey, Caches, ChangeSubscriber, KeyCache, RevokedParents};
use crate::clock::{ManualClock, Timestamp};
use crate::config::Config;
use crate::engine::{Engine, EngineParts};
use crate::id::TenantId;
use crate::key::{KeyChange, KeyDraft, RevokeKey};
use crate::request_context::RequestContext;
use crate::store::MemoryStore;
use crate::verifier::{Presented, Verdict};
use crate::wire::Rejection;

/// Records why it was ended.
#[derive(Default)]
struct Recorder(Mutex<Vec<EndReason>>);

impl EndStream for Recorder {
    fn end(&self, reason: EndReason) {
        self.0.lock().unwrap().push(reason);
    }
}

impl Recorder {
    fn reasons(&self) -> Vec<EndReason> {
        self.0.lock().unwrap().clone()
    }

    async fn ended(&self) -> EndReason {
        let ended = async {
            while self.reasons().is_empty() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), ended).await.expect("the stream is ended");
        self.reasons()[0]
    }
}

struct Fixture {
    engine: Engine,
    streams: Arc<LiveStreams>,
    clock: Arc<ManualClock>,
    registry: Registry,
}

impl Fixture {
    /// An engine whose changes reach at most `max` streams.
    fn new(max: usize) -> Self {
        let config = Config::new(
            "https://keys.example.com".into(),
            "a secret of at least 32 characters".to_owned().into(),
            "memory".into(),
        );
        let registry = Registry::new();
        let clock = Arc::new(ManualClock::new(Timestamp::from_timestamp(1_780_000_000, 0).unwrap()));
        let cache = Arc::new(KeyCache::new(1 << 20, Duration::from_secs(60)));
        let revoked_parents = Arc::new(RevokedParents::new(Duration::from_secs(3600), 100));
        let parts = EngineParts {
            config: &config,
            store: Arc::new(MemoryStore::default()),
            caches: Caches::alone(Some(cache), revoked_parents),
            signing_keys: Arc::default(),
            clock: Arc::<ManualClock>::clone(&clock),
            tracker: None,
            throttle: None,
        };
        let changes = Arc::clone(&parts.caches.changes);
        let engine = Engine::new(parts, &registry).unwrap();
        let metrics = LiveStreamMetrics::register(&registry).unwrap();
        let streams = Arc::new(LiveStreams::bounded(Arc::clone(&engine.verifier), metrics, max));
        changes.subscribe(Arc::<LiveStreams>::clone(&streams));
        Self { engine, streams, clock, registry }
    }

    async fn issue(&self, draft: KeyDraft) -> Verdict {
        let draft = KeyDraft { name: "n".into(), actor_id: "a".into(), ..draft };
        let issued = self.engine.lifecycle.issue(&context(), draft).await.unwrap();
        let secret = issued.secret.unwrap();
        let presented = Presented::new(TenantId::NIL, secret.expose_secret(), Instant::now());
        self.engine.verifier.verify(&presented).await.outcome.unwrap()
    }

    fn watch(&self, verdict: &Verdict, changes: u64) -> Result<(LiveStream, Arc<Recorder>), Rejection> {
        let recorder = Arc::new(Recorder::default());
        let end: Arc<dyn EndStream> = Arc::<Recorder>::clone(&recorder);
        let stream = self.streams.watch(StreamKind::EventStream, subject(verdict), end, changes)?;
        Ok((stream, recorder))
    }

    /// Watches a stream whose credential was verified after all changes.
    fn watch_now(&self, verdict: &Verdict) -> (LiveStream, Arc<Recorder>) {
        self.watch(verdict, self.streams.changes()).unwrap()
    }

    fn run(&self) {
        tokio::spawn(Arc::clone(&self.streams).run());
    }

    /// The number of streams that are counted.
    fn live(&self) -> String {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == "keygate_live_streams").unwrap();
        let live: f64 = family.get_metric().iter().map(|metric| metric.get_gauge().get_value()).sum();
        live.to_string()
    }
}

fn context() -> RequestContext {
    RequestContext::system(TenantId::NIL)
}

fn subject(verdict: &Verdict) -> StreamSubject {
    StreamSubject {
        verdict: verdict.clone(),
        client_ip: Some(IpAddr::from([192, 0, 2, 1])),
        scopes: Arc::from([Box::from("read")]),
        audiences: Vec::new(),
        tenant: TenantId::NIL,
        revoke_with_parent: true,
    }
}

fn reader() -> KeyDraft {
    KeyDraft { scopes: vec!["read".into()], ..KeyDraft::default() }
}

#[tokio::test]
async fn streams_of_a_revoked_key_are_ended_and_no_others() {
    let fixture = Fixture::new(10);
    fixture.run();
    let (revoked, other) = (fixture.issue(reader()).await, fixture.issue(reader()).await);
    let (_first, first) = fixture.watch_now(&revoked);
    let (_second, second) = fixture.watch_now(&revoked);
    let (_third, third) = fixture.watch_now(&other);
    fixture.engine.lifecycle.revoke(&context(), revoked.key_id(), RevokeKey::default()).await.unwrap();
    assert_eq!((first.ended().await, second.ended().await), (EndReason::Revoked, EndReason::Revoked));
    assert_eq!(third.reasons(), []);
    fixture.engine.lifecycle.delete(&context(), other.key_id()).await.unwrap();
    assert_eq!(third.ended().await, EndReason::Invalid);
}

#[tokio::test]
async fn stream_goes_on_if_its_key_is_changed_and_may_still_be_used() {
    let fixture = Fixture::new(10);
    fixture.run();
    let verdict = fixture.issue(reader()).await;
    let (_stream, recorder) = fixture.watch_now(&verdict);
    let renamed = KeyChange { name: Some("other".into()), ..KeyChange::default() };
    fixture.engine.lifecycle.update(&context(), verdict.key_id(), renamed).await.unwrap();
    let narrowed = KeyChange { scopes: Some(vec!["write".into()]), ..KeyChange::default() };
    fixture.engine.lifecycle.update(&context(), verdict.key_id(), narrowed).await.unwrap();
    assert_eq!(recorder.ended().await, EndReason::Invalid, "the route requires the scope");
    let verdict = fixture.issue(reader()).await;
    let (_stream, recorder) = fixture.watch_now(&verdict);
    let networks = crate::cidr::CidrSet::parse(&["10.0.0.0/8".to_owned()]).unwrap();
    let restricted = KeyChange { networks: Some(networks), ..KeyChange::default() };
    fixture.engine.lifecycle.update(&context(), verdict.key_id(), restricted).await.unwrap();
    assert_eq!(recorder.ended().await, EndReason::Invalid, "the client has another address");
}

#[tokio::test]
async fn change_between_verification_and_stream_is_not_missed() {
    let fixture = Fixture::new(10);
    fixture.run();
    let verdict = fixture.issue(reader()).await;
    let changes = fixture.streams.changes();
    fixture.engine.lifecycle.revoke(&context(), verdict.key_id(), RevokeKey::default()).await.unwrap();
    let (_stream, recorder) = fixture.watch(&verdict, changes).unwrap();
    assert_eq!(recorder.ended().await, EndReason::Revoked);
}

#[tokio::test]
async fn missed_changes_have_all_streams_verified() {
    let fixture = Fixture::new(10);
    fixture.run();
    let (revoked, valid) = (fixture.issue(reader()).await, fixture.issue(reader()).await);
    fixture.engine.lifecycle.revoke(&context(), revoked.key_id(), RevokeKey::default()).await.unwrap();
    let (_first, first) = fixture.watch_now(&revoked);
    let (_second, second) = fixture.watch_now(&valid);
    assert_eq!(first.reasons(), []);
    fixture.streams.any_key_changed();
    assert_eq!((first.ended().await, second.reasons()), (EndReason::Revoked, vec![]));
}

#[tokio::test]
async fn stream_ends_with_the_expiry_of_its_key() {
    let fixture = Fixture::new(10);
    let draft = KeyDraft { ttl: Some(Duration::from_secs(100)), ..reader() };
    let verdict = fixture.issue(draft).await;
    let (_stream, recorder) = fixture.watch_now(&verdict);
    fixture.run();
    fixture.clock.advance(Duration::from_secs(100));
    tokio::task::yield_now().await;
    assert_eq!(recorder.reasons(), [], "the key is valid at the instant of its expiry");
    fixture.clock.advance(Duration::from_millis(1));
    assert_eq!(recorder.ended().await, EndReason::Expired);
}

#[tokio::test]
async fn removed_stream_is_not_ended_and_leaves_nothing() {
    let fixture = Fixture::new(1);
    let verdict = fixture.issue(reader()).await;
    let (stream, recorder) = fixture.watch_now(&verdict);
    assert_eq!(fixture.live(), "1");
    assert_eq!(fixture.watch(&verdict, 0).err(), Some(Rejection::StreamsExceeded));
    let key: CacheKey = (verdict.tenant(), verdict.key_id());
    fixture.streams.key_changed(key);
    drop(stream);
    assert_eq!(fixture.live(), "0");
    fixture.engine.lifecycle.revoke(&context(), verdict.key_id(), RevokeKey::default()).await.unwrap();
    let (_other, other) = fixture.watch_now(&verdict);
    fixture.run();
    fixture.streams.key_changed(key);
    assert_eq!((other.ended().await, recorder.reasons()), (EndReason::Revoked, vec![]));
}
