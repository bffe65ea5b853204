//! The refresher: the last good keys of each source, and when they are loaded again.

use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use tokio::sync::Mutex;

use super::error::SigningKeySourceError;
use super::fetch::Fetcher;
use super::metrics::Metrics;
use super::options::Options;
use super::source::{FileStamp, Source};
use crate::credential::SigningKeys;

/// Loads signing keys from their sources and refreshes them.
pub struct SigningKeyRefresher {
    sources: Vec<Source>,
    fetcher: Fetcher,
    options: Options,
    pub(super) metrics: Metrics,
    current: Arc<ArcSwap<SigningKeys>>,
    /// The last good keys of each source. Locked during a refresh.
    loaded: Mutex<Vec<LoadedSource>>,
}

/// The last good keys of a source.
struct LoadedSource {
    keys: SigningKeys,
    /// The file's metadata from just before it was last read, successfully or not.
    stamp: Option<FileStamp>,
}

impl SigningKeyRefresher {
    /// Loads every source: `base64://`, `file:///path`, `https://` or `http://`. Without sources there are no keys.
    ///
    /// # Errors
    /// [`SigningKeySourceError`] for the first unusable source.
    pub async fn load(urls: &[String], options: Options, metrics: Metrics) -> Result<Self, SigningKeySourceError> {
        let failed = |index| move |failure| SigningKeySourceError { index, failure };
        let sources = urls.iter().enumerate().map(|(index, url)| Source::parse(url).map_err(failed(index)));
        let sources = sources.collect::<Result<Vec<_>, _>>()?;
        let fetcher = Fetcher::new(options.allow_internal).map_err(failed(0))?;
        let started = Instant::now();
        let mut loaded = Vec::new();
        for (index, source) in sources.iter().enumerate() {
            if source.is_plain_http() {
                tracing::warn!(
                    index,
                    "signing keys are fetched over plain HTTP: on-path attackers can read and replace them"
                );
            }
            let stamp = source.stamp().await;
            let keys = source.read(&fetcher).await.map_err(failed(index));
            let keys = keys.inspect_err(|_| metrics.observe(false, started.elapsed()))?;
            loaded.push(LoadedSource { keys, stamp });
        }
        metrics.observe(true, started.elapsed());
        let current = Arc::default();
        let refresher = Self { sources, fetcher, options, metrics, current, loaded: Mutex::default() };
        refresher.publish(&loaded);
        *refresher.loaded.lock().await = loaded;
        Ok(refresher)
    }

    /// The current keys. Refreshes replace them.
    pub fn keys(&self) -> Arc<ArcSwap<SigningKeys>> {
        Arc::clone(&self.current)
    }

    /// Loads every source again. A source that fails keeps its last good keys; the failure is logged and counted.
    pub async fn refresh(&self) {
        let mut loaded = self.loaded.lock().await;
        let all: Vec<_> = (0..self.sources.len()).collect();
        self.reload(&mut loaded, &all).await;
    }

    /// Loads the changed files again.
    pub async fn refresh_files(&self) {
        let mut loaded = self.loaded.lock().await;
        let mut changed = Vec::new();
        for (index, (source, last)) in self.sources.iter().zip(loaded.iter()).enumerate() {
            let stamp = source.stamp().await;
            if stamp.is_some() && stamp != last.stamp {
                changed.push(index);
            }
        }
        if !changed.is_empty() {
            self.reload(&mut loaded, &changed).await;
        }
    }

    /// Refreshes the keys periodically, for as long as it is polled.
    pub async fn run(&self) {
        let pause = self.options.check_files_every.min(self.options.refresh_every);
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

    async fn reload(&self, loaded: &mut [LoadedSource], indexes: &[usize]) {
        let started = Instant::now();
        let mut succeeded = true;
        for &index in indexes {
            let source = &self.sources[index];
            // Taken before the read, so that a change during the read is detected next time.
            loaded[index].stamp = source.stamp().await;
            match source.read(&self.fetcher).await {
                Ok(keys) => loaded[index].keys = keys,
                Err(failure) => {
                    succeeded = false;
                    let error = SigningKeySourceError { index, failure };
                    tracing::warn!(%error, "signing keys could not be refreshed; the last good ones are kept");
                }
            }
        }
        self.metrics.observe(succeeded, started.elapsed());
        self.publish(loaded);
    }

    /// Publishes the keys of all sources, in the order of the sources.
    fn publish(&self, loaded: &[LoadedSource]) {
        let mut keys = SigningKeys::default();
        for source in loaded {
            keys.extend(source.keys.clone());
        }
        if keys.len() < loaded.iter().map(|source| source.keys.len()).sum() {
            tracing::warn!("several signing keys have the same kid; only the first of them is used");
        }
        self.metrics.set_keys(keys.len());
        self.current.store(Arc::new(keys));
    }
}
