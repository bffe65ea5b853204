//! Ends streams with their keys.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use chrono::TimeDelta;
use tokio::task::JoinSet;

use super::guard::LiveStream;
use super::kind::StreamKind;
use super::metrics::LiveStreamMetrics;
use super::reason::EndReason;
use super::registry::Registry;
use super::stream::{EndStream, StreamSubject, WatchedStream};
use crate::cache::{CacheKey, ChangeSubscriber};
use crate::clock::Timestamp;
use crate::verifier::{Denial, Verdict, Verifier};
use crate::wire::Rejection;

/// How many streams are verified at the same time.
const CONCURRENT: usize = 16;
/// How long a check waits whose key could not be looked up.
const RETRY: TimeDelta = TimeDelta::milliseconds(500);
/// How long a check waits at most at a time, because the wall clock may be set.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// How long after its expiry a credential is judged: it is valid at the instant of its expiry.
const AFTER_EXPIRY: TimeDelta = TimeDelta::milliseconds(1);

/// The live streams of a node. [`LiveStreams::run`] verifies their credentials again.
pub struct LiveStreams {
    registry: Arc<Registry>,
    verifier: ArcSwap<Verifier>,
    metrics: LiveStreamMetrics,
}

impl LiveStreams {
    /// At most this number of streams end with their keys. More are not served. About 500 bytes each.
    pub const MAX: usize = 1_000_000;

    /// No streams, whose credentials `verifier` will verify.
    pub fn new(verifier: Arc<Verifier>, metrics: LiveStreamMetrics) -> Self {
        Self::bounded(verifier, metrics, Self::MAX)
    }

    /// The same, for at most `max` streams.
    pub(super) fn bounded(verifier: Arc<Verifier>, metrics: LiveStreamMetrics, max: usize) -> Self {
        Self { registry: Arc::new(Registry::new(max)), verifier: ArcSwap::new(verifier), metrics }
    }

    /// Verifies by another verifier of the same keys from now on.
    #[cfg(feature = "server")]
    pub(crate) fn set_verifier(&self, verifier: Arc<Verifier>) {
        self.verifier.store(verifier);
    }

    /// The number of changes of keys so far. A request reads it before its credential is verified.
    pub(in crate::pipeline) fn changes(&self) -> u64 {
        self.registry.changes()
    }

    /// Counts a stream that no key ends.
    pub(in crate::pipeline) fn count(&self, kind: StreamKind) -> LiveStream {
        let live = self.metrics.live(kind);
        live.inc();
        LiveStream { metrics: self.metrics.clone(), live, watched: None }
    }

    /// Adds a stream that ends when its credential is no longer valid. The credential was verified when there had been `changes` changes.
    ///
    /// # Errors
    /// [`Rejection::StreamsExceeded`].
    pub(in crate::pipeline) fn watch(
        &self,
        kind: StreamKind,
        subject: StreamSubject,
        end: Arc<dyn EndStream>,
        changes: u64,
    ) -> Result<LiveStream, Rejection> {
        let check = after_expiry(&subject.verdict);
        let id = self.registry.add(WatchedStream { subject, end }, changes, check);
        let id = id.ok_or(Rejection::StreamsExceeded)?;
        let watched = Some((Arc::clone(&self.registry), id));
        let mut stream = self.count(kind);
        stream.watched = watched;
        Ok(stream)
    }

    /// Verifies streams when their keys change or expire, and ends those whose credential is no longer valid. Runs until it is dropped.
    pub async fn run(self: Arc<Self>) {
        loop {
            let now = self.verifier.load().now();
            let due = self.registry.take_due(now, CONCURRENT);
            if due.is_empty() {
                self.wait(now).await;
                continue;
            }
            let mut checks: JoinSet<()> = JoinSet::new();
            for (id, stream) in due {
                let this = Arc::clone(&self);
                checks.spawn(async move { this.check(id, &stream).await });
            }
            while checks.join_next().await.is_some() {}
        }
    }

    async fn wait(&self, now: Timestamp) {
        let wait = self.registry.next_check().map(|next| (next - now).to_std().unwrap_or_default().min(WAIT_MAX));
        match wait {
            Some(wait) => drop(tokio::time::timeout(wait, self.registry.notified()).await),
            None => self.registry.notified().await,
        }
    }

    /// Verifies a stream again later, because its key cannot be looked up. Until then only its expiry as far as it is known counts.
    fn postpone(&self, id: u64, subject: &StreamSubject) {
        let now = self.verifier.load().now();
        if subject.verdict.expire_time().is_some_and(|expiry| now > expiry) {
            self.registry.end(id, EndReason::Expired);
        } else {
            self.registry.schedule_earlier(id, Some(now + RETRY));
        }
    }

    async fn check(&self, id: u64, stream: &WatchedStream) {
        let subject = &stream.subject;
        match subject.recheck(&self.verifier.load_full()).await {
            Ok(verdict) if verdict.scopes().contains_all(&subject.scopes) => {
                // Later than now, so that a clock that was set back causes no busy loop.
                let later = self.verifier.load().now() + AFTER_EXPIRY;
                self.registry.schedule_earlier(id, after_expiry(&verdict).map(|check| check.max(later)));
            }
            Ok(_) => self.registry.end(id, EndReason::Invalid),
            Err(Denial::Unavailable { .. }) => self.postpone(id, subject),
            Err(denial) => self.registry.end(id, EndReason::from(&denial)),
        }
    }
}

impl ChangeSubscriber for LiveStreams {
    fn key_changed(&self, key: CacheKey) {
        self.registry.changed(Some(&key));
    }

    fn any_key_changed(&self) {
        self.registry.changed(None);
    }
}

/// When a credential has expired.
fn after_expiry(verdict: &Verdict) -> Option<Timestamp> {
    verdict.expire_time()?.checked_add_signed(AFTER_EXPIRY)
}
