//! The keys that sign derived JWTs, loaded from their sources and kept fresh (contract, credentials section 6).

mod address;
mod fetch;
mod metrics;
mod source;

pub use metrics::Metrics;

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::Mutex;

use crate::credential::{JwkError, SigningKeys};
use fetch::Fetcher;
use source::{Source, Stamp};

/// The longest JWK set that is read, in bytes.
const BODY_MAX: usize = 1 << 20;

/// How sources are read.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Whether keys may be fetched from this host and its private networks.
    pub allow_internal: bool,
    /// How often every source is read again.
    pub refresh_every: Duration,
    /// How often files are looked at for changes.
    pub look_at_files_every: Duration,
}

/// Where the keys come from, and what each source held last.
pub struct SigningKeyRefresher {
    sources: Vec<Source>,
    fetcher: Fetcher,
    options: Options,
    metrics: Metrics,
    current: Arc<ArcSwap<SigningKeys>>,
    /// What each source held when it was last good. One refresh at a time holds it.
    held: Mutex<Vec<Held>>,
}

/// What a source held.
struct Held {
    keys: SigningKeys,
    /// How the file looked just before it was last read, whatever came of it.
    stamp: Option<Stamp>,
}

/// A source that cannot be used. Names it by its place in the list, counted from 0, never by its URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("signing key source {index}: {failure}")]
pub struct SigningKeySourceError {
    /// The place in the list.
    pub index: usize,
    /// What is wrong.
    pub failure: Failure,
}

/// What is wrong with a source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Of no known kind.
    #[error("begins with none of base64://, file://, https:// and http://")]
    Scheme,
    /// Not base64.
    #[error("is not base64")]
    Base64,
    /// A path that does not begin at the root.
    #[error("has a path that does not begin with a slash; write file:///path")]
    RelativePath,
    /// No URL.
    #[error("is no URL")]
    Url,
    /// The file is not there or not readable.
    #[error("is a file that cannot be read")]
    File,
    /// Binary data.
    #[error("holds no text")]
    NotText,
    /// Longer than 1 MiB.
    #[error("holds more than 1 MiB")]
    TooLarge,
    /// On this host or in a private network.
    #[error("has an internal address; credentials.derived_tokens.jwt.signing_keys.allow_internal permits that")]
    Internal,
    /// Any answer but 200, redirects included.
    #[error("answers with status {0}")]
    Status(u16),
    /// No answer within ten seconds.
    #[error("does not answer in time")]
    Timeout,
    /// No connection, no trust in the certificate, or no whole answer.
    #[error("cannot be reached")]
    Unreachable,
    /// The system lacks what TLS needs.
    #[error("cannot be fetched: there is no TLS, check the system's certificates")]
    NoClient,
    /// No usable JWK set.
    #[error(transparent)]
    Jwk(#[from] JwkError),
}

impl Default for Options {
    /// Nothing internal; everything every 15 minutes, files looked at every 5 seconds.
    fn default() -> Self {
        Self {
            allow_internal: false,
            refresh_every: Duration::from_secs(15 * 60),
            look_at_files_every: Duration::from_secs(5),
        }
    }
}

impl SigningKeyRefresher {
    /// Reads every source: `base64://`, `file:///path`, `https://` or `http://`. Without sources the set is empty.
    ///
    /// # Errors
    /// [`SigningKeySourceError`] for the first source that cannot be used.
    pub async fn load(urls: &[String], options: Options, metrics: Metrics) -> Result<Self, SigningKeySourceError> {
        let failed = |index| move |failure| SigningKeySourceError { index, failure };
        let sources = urls.iter().enumerate().map(|(index, url)| Source::parse(url).map_err(failed(index)));
        let sources = sources.collect::<Result<Vec<_>, _>>()?;
        let fetcher = Fetcher::new(options.allow_internal).map_err(failed(0))?;
        let begun = Instant::now();
        let mut held = Vec::new();
        for (index, source) in sources.iter().enumerate() {
            if source.is_unprotected() {
                tracing::warn!(
                    index,
                    "signing keys are fetched over http: others on the way can read and replace them"
                );
            }
            let stamp = source.stamp().await;
            let keys = source.read(&fetcher).await.map_err(failed(index));
            let keys = keys.inspect_err(|_| metrics.observe(false, begun.elapsed()))?;
            held.push(Held { keys, stamp });
        }
        metrics.observe(true, begun.elapsed());
        let current = Arc::default();
        let set = Self { sources, fetcher, options, metrics, current, held: Mutex::default() };
        set.publish(&held);
        *set.held.lock().await = held;
        Ok(set)
    }

    /// The keys as they are now, and as they will be.
    pub fn keys(&self) -> Arc<ArcSwap<SigningKeys>> {
        Arc::clone(&self.current)
    }

    /// Reads every source again. One that cannot be read, or holds no usable keys, keeps the keys it had, which is
    /// logged and counted.
    pub async fn refresh(&self) {
        let mut held = self.held.lock().await;
        let all: Vec<_> = (0..self.sources.len()).collect();
        self.reread(&mut held, &all).await;
    }

    /// Reads those files again that look different from when they were last read.
    pub async fn refresh_files(&self) {
        let mut held = self.held.lock().await;
        let mut changed = Vec::new();
        for (index, (source, held)) in self.sources.iter().zip(held.iter()).enumerate() {
            let stamp = source.stamp().await;
            if stamp.is_some() && stamp != held.stamp {
                changed.push(index);
            }
        }
        if !changed.is_empty() {
            self.reread(&mut held, &changed).await;
        }
    }

    /// Keeps the keys fresh, for as long as it is polled.
    pub async fn follow(&self) {
        let pause = self.options.look_at_files_every.min(self.options.refresh_every);
        let mut refreshed = Instant::now();
        loop {
            tokio::time::sleep(pause).await;
            if refreshed.elapsed() >= self.options.refresh_every {
                self.refresh().await;
                refreshed = Instant::now();
            } else {
                self.refresh_files().await;
            }
        }
    }

    async fn reread(&self, held: &mut [Held], indexes: &[usize]) {
        let begun = Instant::now();
        let mut succeeded = true;
        for &index in indexes {
            let source = &self.sources[index];
            // Looked at before it is read: what changes in between is seen as a change the next time.
            held[index].stamp = source.stamp().await;
            match source.read(&self.fetcher).await {
                Ok(keys) => held[index].keys = keys,
                Err(failure) => {
                    succeeded = false;
                    let error = SigningKeySourceError { index, failure };
                    tracing::warn!(%error, "signing keys could not be read again; those from before stay");
                }
            }
        }
        self.metrics.observe(succeeded, begun.elapsed());
        self.publish(held);
    }

    /// Puts the keys of all sources together, in their order.
    fn publish(&self, held: &[Held]) {
        let mut keys = SigningKeys::default();
        for held in held {
            keys.extend(held.keys.clone());
        }
        if keys.len() < held.iter().map(|held| held.keys.len()).sum() {
            tracing::warn!("signing keys share a kid; the first of each counts, the others are not used");
        }
        self.metrics.set_keys(keys.len());
        self.current.store(Arc::new(keys));
    }
}

#[cfg(test)]
mod tests;
