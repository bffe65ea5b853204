//! The modes of the files of a database. They contain names, actors and metadata of all keys.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::secret_file::{create_private, make_private};

/// What SQLite appends to the name of a database for its other files. It creates them with the mode of the database.
const SUFFIXES: [&str; 4] = ["", "-wal", "-shm", "-journal"];

/// Creates the file of a database, and gives its files mode 0600. A failure is only logged: SQLite reports what it cannot open, and a user
/// who is not the owner cannot change the mode.
pub(super) fn make_files_private(path: &Path) {
    if let Err(error) = create_private(path) {
        tracing::debug!(%error, path = %path.display(), "the file of the database could not be created");
    }
    for file in SUFFIXES.map(|suffix| with_suffix(path, suffix)) {
        if let Err(error) = make_private(&file) {
            tracing::warn!(%error, path = %file.display(), "the mode of a database file could not be set to 0600; other users may read it");
        }
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}
