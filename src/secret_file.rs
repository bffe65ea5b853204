//! The modes of files that contain secrets: only their owner may read them.

use std::fs::{OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
#[cfg(feature = "server")]
use std::path::PathBuf;

/// The bits of a mode by which others than the owner can read a file.
#[cfg(feature = "server")]
const READABLE_BY_OTHERS: u32 = 0o044;
/// The bits of a mode by which others than the owner have any access.
const ACCESSIBLE_TO_OTHERS: u32 = 0o077;
/// The mode of a file with secrets.
const PRIVATE: u32 = 0o600;

/// A file with secrets that others than its owner can read.
#[cfg(feature = "server")]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} has mode {mode:04o}, so that other users can read the secrets in it; run `chmod 600` on it", path.display())]
pub struct SharedSecret {
    /// The file.
    pub path: PathBuf,
    /// The permission bits of its mode.
    pub mode: u32,
}

/// Returns the mode of a file if others than its owner can read it. A file without readable metadata is not reported: opening it fails as well.
#[cfg(feature = "server")]
pub(crate) fn shared_secret(path: &Path) -> Option<SharedSecret> {
    let mode = std::fs::metadata(path).ok()?.mode() & 0o7777;
    (mode & READABLE_BY_OTHERS != 0).then(|| SharedSecret { path: path.to_owned(), mode })
}

/// Creates an empty file with mode 0600 if there is none.
///
/// # Errors
/// If it cannot be created.
pub(crate) fn create_private(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        result => result.map(drop),
    }
}

/// Gives an existing file mode 0600, if others than its owner have access. A missing file is no error.
///
/// # Errors
/// If the mode cannot be changed: only the owner of a file can do that.
pub(crate) fn make_private(path: &Path) -> io::Result<()> {
    let metadata = match std::fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        metadata => metadata?,
    };
    if metadata.mode() & ACCESSIBLE_TO_OTHERS == 0 {
        return Ok(());
    }
    std::fs::set_permissions(path, Permissions::from_mode(PRIVATE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn file_is_made_private_and_created_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        make_private(&path).unwrap();
        assert!(!path.exists());
        create_private(&path).unwrap();
        assert_eq!(mode(&path), 0o600);
        std::fs::write(&path, "kept").unwrap();
        for (before, after) in [(0o644, 0o600), (0o610, 0o600), (0o400, 0o400), (0o700, 0o700)] {
            std::fs::set_permissions(&path, Permissions::from_mode(before)).unwrap();
            create_private(&path).unwrap();
            make_private(&path).unwrap();
            assert_eq!(mode(&path), after, "{before:o}");
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "kept");
    }

    #[test]
    fn file_that_others_can_read_is_reported_with_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        assert_eq!(shared_secret(&path), None);
        create_private(&path).unwrap();
        for (mode, is_shared) in [(0o600, false), (0o622, false), (0o640, true), (0o604, true), (0o644, true)] {
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let shared = shared_secret(&path);
            assert_eq!(shared.as_ref().map(|shared| shared.mode), is_shared.then_some(mode));
            assert!(shared.is_none_or(|shared| shared.to_string().contains(&format!("has mode {mode:04o}, "))));
        }
    }
}
