//! The lock of a file. Each process caches keys, so that a key which is revoked through one process would be accepted by another one on the
//! same file until its cache entry expires: only one process uses a file.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::store::access::Access;
use crate::store::schema::SchemaError;

/// What is appended to the name of a database for its lock.
const SUFFIX: &str = ".lock";
/// The mode of the lock: as of the other files of a database.
const MODE: u32 = 0o600;
/// How long a command waits for the lock, for example while another migration has it.
const WAIT: Duration = Duration::from_secs(3);
/// The time between two attempts.
const RETRY: Duration = Duration::from_millis(50);

/// An advisory lock (`flock(2)`) on a file beside the database, which contains the id of the process. The kernel releases it when the process
/// ends, also after a crash. The file stays: without it, two processes could lock two files of this name.
#[derive(Debug)]
pub(super) struct FileLock {
    file: File,
}

impl FileLock {
    /// Locks an existing database.
    ///
    /// # Errors
    /// [`SchemaError::InUse`] if another process has the lock, [`SchemaError::NotLocked`] if the file cannot be locked.
    pub(super) fn acquire(database: &Path) -> Result<Self, SchemaError> {
        let not_locked = |cause: io::Error| SchemaError::NotLocked {
            database: database.display().to_string(),
            cause: cause.to_string(),
        };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(MODE);
        let mut file = lock_path(database).and_then(|path| options.open(path)).map_err(not_locked)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let (database, process) = (database.display().to_string(), owner(&mut file));
                return Err(SchemaError::InUse { database, process });
            }
            Err(TryLockError::Error(cause)) => return Err(not_locked(cause)),
        }
        let lock = Self { file };
        lock.name_owner().map_err(not_locked)?;
        Ok(lock)
    }

    /// The lock for a use of a database; `None` without a lock. A lock that another process lends belongs to both, until the last
    /// descriptor is closed.
    ///
    /// # Errors
    /// As of [`Self::acquire`].
    pub(super) fn for_access(database: &Path, access: Access) -> Result<Option<Self>, SchemaError> {
        match access {
            Access::Exclusive => Self::acquire(database).map(Some),
            Access::Lent(file) => Ok(Some(Self { file })),
            Access::ReadOnly => Ok(None),
            Access::Beside => match Self::acquire(database) {
                Err(SchemaError::InUse { .. }) => Ok(None),
                result => result.map(Some),
            },
        }
    }

    /// A descriptor to be lent to another process.
    ///
    /// # Errors
    /// If no descriptor is free.
    pub(super) fn lend(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// The same for a command: waits for some time while another process has the lock.
    pub(super) async fn acquire_in_time(database: &Path) -> Result<Self, SchemaError> {
        let deadline = tokio::time::Instant::now() + WAIT;
        loop {
            match Self::acquire(database) {
                Err(SchemaError::InUse { .. }) if tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(RETRY).await;
                }
                result => return result,
            }
        }
    }

    /// Writes the id of this process into the file.
    pub(super) fn name_owner(&self) -> io::Result<()> {
        let mut file = &self.file;
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(std::process::id().to_string().as_bytes())
    }
}

/// The lock of an open store, which all its clones share: it is released when the store is closed, or when the last clone is dropped.
#[derive(Debug, Clone)]
pub(super) struct HeldLock(Arc<Mutex<Option<FileLock>>>);

impl HeldLock {
    pub(super) fn new(lock: Option<FileLock>) -> Self {
        Self(Arc::new(Mutex::new(lock)))
    }

    pub(super) fn is_held(&self) -> bool {
        self.lock().is_some()
    }

    /// A descriptor to be lent to another process; `None` without a lock.
    ///
    /// # Errors
    /// If no descriptor is free.
    pub(super) fn lend(&self) -> io::Result<Option<File>> {
        self.lock().as_ref().map(FileLock::lend).transpose()
    }

    /// Writes the id of this process into the file.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(super) fn name_owner(&self) -> io::Result<()> {
        self.lock().as_ref().map_or(Ok(()), FileLock::name_owner)
    }

    pub(super) fn release(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<FileLock>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The id of the process that has the lock, if the file contains one.
fn owner(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// The path of the lock. The links to a database lead to the same lock.
fn lock_path(database: &Path) -> io::Result<PathBuf> {
    let mut path = database.canonicalize()?.into_os_string();
    path.push(SUFFIX);
    Ok(path.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lock_is_exclusive_and_names_its_owner_also_by_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let (database, link) = (folder.path().join("keys.db"), folder.path().join("link.db"));
        assert!(matches!(FileLock::acquire(&database), Err(SchemaError::NotLocked { .. })));
        File::create(&database).unwrap();
        std::os::unix::fs::symlink(&database, &link).unwrap();
        let lock = FileLock::acquire(&link).unwrap();
        let error = FileLock::acquire(&database).unwrap_err();
        let named = matches!(&error, SchemaError::InUse { process: Some(id), .. } if *id == std::process::id());
        assert!(named && error.to_string().contains("keys.db"), "{error}");
        let waiting = FileLock::acquire_in_time(&database);
        drop(lock);
        waiting.await.unwrap();
    }

    #[test]
    fn lock_is_free_once_the_store_is_closed_although_clones_are_left() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("keys.db");
        File::create(&database).unwrap();
        let held = HeldLock::new(Some(FileLock::acquire(&database).unwrap()));
        let clone = held.clone();
        assert!(clone.is_held() && FileLock::acquire(&database).is_err());
        held.release();
        assert!(!clone.is_held() && clone.lend().unwrap().is_none());
        FileLock::acquire(&database).unwrap();
    }
}
