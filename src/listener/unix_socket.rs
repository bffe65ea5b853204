//! A Unix socket with a path.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The owner and its group may connect.
const MODE: u32 = 0o660;

/// A listening Unix socket. Its path is removed when it is dropped, unless another socket has taken its place or another process uses it.
#[derive(Debug)]
pub struct UnixSocket {
    /// `None` after it was taken.
    listener: Option<UnixListener>,
    path: PathBuf,
    inode: u64,
    is_kept: KeptPath,
}

/// Whether the path of a socket is kept when the socket is dropped. Clones are of the same socket.
#[derive(Debug, Clone, Default)]
pub struct KeptPath(Arc<AtomicBool>);

impl KeptPath {
    /// Has the path kept, because another process uses it.
    pub fn keep(&self) {
        self.0.store(true, Ordering::Release);
    }
}

impl UnixSocket {
    /// Binds a path. A socket that no process listens on is replaced. The socket has its mode before it gets its path.
    ///
    /// # Errors
    /// If a process listens on the path, if the path is not a socket, or if its folder cannot be written.
    pub fn bind(path: &Path) -> io::Result<Self> {
        check_replaceable(path)?;
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(format!(".{}", std::process::id()));
        let temporary = PathBuf::from(temporary);
        remove(&temporary)?;
        let listener = UnixListener::bind(&temporary)?;
        let moved = fs::set_permissions(&temporary, Self::permissions())
            .and_then(|()| fs::symlink_metadata(&temporary))
            .and_then(|metadata| fs::rename(&temporary, path).map(|()| metadata.ino()));
        match moved {
            Ok(inode) => {
                Ok(Self { listener: Some(listener), path: path.to_owned(), inode, is_kept: KeptPath::default() })
            }
            Err(error) => {
                remove(&temporary)?;
                Err(error)
            }
        }
    }

    /// A socket that another process has bound to a path.
    ///
    /// # Errors
    /// If nothing has the path.
    pub fn inherited(listener: UnixListener, path: &Path) -> io::Result<Self> {
        let inode = fs::symlink_metadata(path)?.ino();
        Ok(Self { listener: Some(listener), path: path.to_owned(), inode, is_kept: KeptPath::default() })
    }

    /// The permissions of the path: the owner and its group may connect.
    pub fn permissions() -> Permissions {
        Permissions::from_mode(MODE)
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the listener. The socket is closed with it; this only keeps the path.
    ///
    /// # Errors
    /// If it was taken.
    pub fn take_listener(&mut self) -> io::Result<UnixListener> {
        self.listener.take().ok_or_else(|| ErrorKind::NotConnected.into())
    }

    /// A descriptor for another process, and whether the path is kept for that process.
    ///
    /// # Errors
    /// If no file descriptor is free, or the listener was taken.
    pub fn share(&self) -> io::Result<(OwnedFd, KeptPath)> {
        let listener = self.listener.as_ref().ok_or_else(|| io::Error::from(ErrorKind::NotConnected))?;
        Ok((listener.try_clone()?.into(), self.is_kept.clone()))
    }

    /// Has the path kept.
    pub fn keep_path(&self) {
        self.is_kept.keep();
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        if self.is_kept.0.load(Ordering::Acquire) {
            return;
        }
        if fs::symlink_metadata(&self.path).is_ok_and(|metadata| metadata.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn check_replaceable(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            Err(io::Error::new(ErrorKind::AlreadyExists, "a file that is not a socket has this path"))
        }
        Ok(_) if UnixStream::connect(path).is_ok() => {
            Err(io::Error::new(ErrorKind::AddrInUse, "another process listens on it"))
        }
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn socket_has_its_mode_and_replaces_a_stale_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("auth.sock");
        drop(UnixListener::bind(&path).unwrap());
        let socket = UnixSocket::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        UnixStream::connect(&path).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn path_is_kept_for_another_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("auth.sock");
        let socket = UnixSocket::bind(&path).unwrap();
        let (descriptor, is_kept) = socket.share().unwrap();
        is_kept.keep();
        drop(socket);
        let mut inherited = UnixSocket::inherited(descriptor.into(), &path).unwrap();
        UnixStream::connect(&path).unwrap();
        drop(inherited.take_listener().unwrap());
        assert!(inherited.take_listener().is_err() && path.exists());
        assert_eq!(UnixStream::connect(&path).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        drop(inherited);
        assert!(!path.exists());
    }

    #[test]
    fn socket_in_use_and_other_files_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("auth.sock");
        let socket = UnixSocket::bind(&path).unwrap();
        assert_eq!(UnixSocket::bind(&path).unwrap_err().kind(), ErrorKind::AddrInUse);
        UnixStream::connect(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "data").unwrap();
        assert_eq!(UnixSocket::bind(&path).unwrap_err().kind(), ErrorKind::AlreadyExists);
        drop(socket);
        assert_eq!(fs::read_to_string(&path).unwrap(), "data");
    }
}
