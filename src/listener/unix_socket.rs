//! A Unix socket with a path.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// The owner and its group may connect.
const MODE: u32 = 0o660;

/// A listening Unix socket. Its path is removed when it is dropped, unless another socket has taken its place.
#[derive(Debug)]
pub struct UnixSocket {
    listener: UnixListener,
    path: PathBuf,
    inode: u64,
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
            Ok(inode) => Ok(Self { listener, path: path.to_owned(), inode }),
            Err(error) => {
                remove(&temporary)?;
                Err(error)
            }
        }
    }

    /// The permissions of the path: the owner and its group may connect.
    pub fn permissions() -> Permissions {
        Permissions::from_mode(MODE)
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The listener; it shares the socket.
    ///
    /// # Errors
    /// If no file descriptor is free.
    pub fn listener(&self) -> io::Result<UnixListener> {
        self.listener.try_clone()
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
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
