//! A value that is loaded from files and keeps its last good state.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};

use tokio::time::{MissedTickBehavior, interval};

use super::error::{FileProblem, TlsError};

/// The largest file that is read, in bytes.
const FILE_MAX: u64 = 1024 * 1024;

/// How often files are read.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// How a value is loaded from files.
pub(crate) trait Source {
    /// What is loaded.
    type Value;

    /// The files, each with the setting that names it.
    fn files(&self) -> Vec<(String, &Path)>;

    /// Builds the value from the contents of the files, in the order of [`Source::files`].
    fn build(&self, contents: &[Vec<u8>]) -> Result<Self::Value, TlsError>;
}

/// The value of a source, and what its files contained when they were last read.
pub(crate) struct Watched<S: Source> {
    source: S,
    value: S::Value,
    digest: [u8; 32],
    /// The error of the last reading, until it is reported.
    unreported: Option<TlsError>,
}

/// What happened to the files since they were last read.
#[derive(Debug)]
pub(crate) enum Change {
    /// Nothing, or they have a new content that is not usable yet: both files of a pair are seldom replaced at the same moment.
    None,
    /// The value is a new one.
    Loaded,
    /// The files were not usable twice in a row. The value is the last good one. Reported once for each content.
    Failed(TlsError),
}

impl<S: Source> Watched<S> {
    /// Loads the value.
    pub(crate) fn load(source: S) -> Result<Self, TlsError> {
        let contents = read(&source);
        let digest = digest(&contents);
        let value = source.build(&contents?)?;
        Ok(Self { source, value, digest, unreported: None })
    }

    /// The last good value.
    pub(crate) fn value(&self) -> &S::Value {
        &self.value
    }

    /// How the value is loaded.
    pub(crate) fn source(&self) -> &S {
        &self.source
    }

    /// Reads the files, and loads the value if they have changed.
    pub(crate) fn poll(&mut self) -> Change {
        let contents = read(&self.source);
        let digest = digest(&contents);
        if digest == self.digest {
            return self.unreported.take().map_or(Change::None, Change::Failed);
        }
        self.digest = digest;
        match contents.and_then(|contents| self.source.build(&contents)) {
            Ok(value) => {
                (self.value, self.unreported) = (value, None);
                Change::Loaded
            }
            Err(error) => {
                self.unreported = Some(error);
                Change::None
            }
        }
    }
}

/// Calls `reload`, which reads files, every second until the future is dropped.
pub(crate) fn watch_files(reload: impl Fn() + Send + Sync + 'static) -> impl Future<Output = ()> + Send {
    let reload = Arc::new(reload);
    async move {
        let mut interval = interval(WATCH_INTERVAL);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            let reload = Arc::clone(&reload);
            // The files may be on a slow file system.
            if tokio::task::spawn_blocking(move || reload()).await.is_err() {
                tracing::error!("certificate files could not be read: the task has panicked");
            }
        }
    }
}

fn read<S: Source>(source: &S) -> Result<Vec<Vec<u8>>, TlsError> {
    let read = |(setting, path): (String, &Path)| read_file(path).map_err(|problem| problem.at(&setting, path));
    source.files().into_iter().map(read).collect()
}

fn read_file(path: &Path) -> Result<Vec<u8>, FileProblem> {
    let mut content = Vec::new();
    let file = File::open(path).map_err(FileProblem::Unreadable)?;
    file.take(FILE_MAX + 1).read_to_end(&mut content).map_err(FileProblem::Unreadable)?;
    if content.len() as u64 > FILE_MAX { Err(FileProblem::TooLarge) } else { Ok(content) }
}

/// Only a digest is kept, because the contents are secrets.
fn digest(contents: &Result<Vec<Vec<u8>>, TlsError>) -> [u8; 32] {
    let mut digest = Sha256::new();
    match contents {
        Ok(contents) => {
            for content in contents {
                digest.update((content.len() as u64).to_be_bytes());
                digest.update(content);
            }
        }
        Err(error) => digest.update(error.to_string()),
    }
    digest.finalize().into()
}
