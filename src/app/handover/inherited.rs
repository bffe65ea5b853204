//! The sockets that a process gets from its predecessor, or from systemd (`sd_listen_fds(3)`).

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use listenfd::ListenFd;

use crate::app::error::AppError;
use crate::listener::UnixSocket;
use crate::store::LentLock;

/// The name of the lock of a database, before its path.
const LOCK: &str = "lock ";

/// The sockets that a process gets at its start, and the lock of its database.
#[derive(Debug, Default)]
pub struct Inherited {
    descriptors: Vec<(String, OwnedFd)>,
    /// Whether they are from systemd, which keeps the paths of Unix sockets.
    is_activated: bool,
}

/// The name of a TCP socket.
pub(super) fn tcp_name(address: SocketAddr) -> String {
    format!("tcp {address}")
}

/// The name of a Unix socket.
pub(super) fn unix_name(path: &Path) -> String {
    format!("unix {}", path.display())
}

/// The name of the lock of a database.
pub(super) fn lock_name(database: &Path) -> String {
    format!("{LOCK}{}", database.display())
}

impl Inherited {
    /// The sockets that systemd has bound, if it has started this process with some.
    ///
    /// # Errors
    /// [`AppError`] if one is neither a TCP socket nor a Unix socket that listens.
    pub fn activated() -> Result<Self, AppError> {
        let mut activated = ListenFd::from_env();
        let mut inherited = Self { descriptors: Vec::new(), is_activated: true };
        for index in 0..activated.len() {
            let unusable = |cause| AppError::io(format!("socket {index} of systemd cannot be used"), cause);
            // Each attempt leaves a socket of another kind in its place.
            if let Ok(Some(listener)) = activated.take_tcp_listener(index) {
                let address = listener.local_addr().map_err(unusable)?;
                inherited.descriptors.push((tcp_name(address), listener.into()));
            } else if let Some(listener) = activated.take_unix_listener(index).map_err(unusable)? {
                let address = listener.local_addr().map_err(unusable)?;
                let name = unix_name(address.as_pathname().unwrap_or(Path::new("")));
                inherited.descriptors.push((name, listener.into()));
            }
        }
        Ok(inherited)
    }

    /// Whether there are sockets, which another process may have as well.
    pub fn has_sockets(&self) -> bool {
        self.descriptors.iter().any(|(name, _)| !name.starts_with(LOCK))
    }

    pub(super) fn add(&mut self, name: String, descriptor: OwnedFd) {
        self.descriptors.push((name, descriptor));
    }

    /// The socket that is bound to an address.
    pub(in crate::app) fn tcp(&mut self, address: SocketAddr) -> Option<TcpListener> {
        self.take(&tcp_name(address)).map(Into::into)
    }

    /// The socket that is bound to a path.
    ///
    /// # Errors
    /// If nothing has the path any more.
    pub(in crate::app) fn unix(&mut self, path: &Path) -> std::io::Result<Option<UnixSocket>> {
        let Some(descriptor) = self.take(&unix_name(path)) else { return Ok(None) };
        let socket = UnixSocket::inherited(UnixListener::from(descriptor), path)?;
        if self.is_activated {
            socket.keep_path();
        }
        Ok(Some(socket))
    }

    /// The lock of a database.
    pub fn lock(&mut self) -> Option<LentLock> {
        let index = self.descriptors.iter().position(|(name, _)| name.starts_with(LOCK))?;
        let (name, descriptor) = self.descriptors.swap_remove(index);
        Some(LentLock { database: PathBuf::from(&name[LOCK.len()..]), file: File::from(descriptor) })
    }

    /// Warns about sockets that no listener has taken. They are closed.
    pub fn warn_of_unused(&self) {
        for (name, _) in &self.descriptors {
            tracing::warn!(
                socket = name,
                "no listener of the configuration has the address of an inherited socket; it is closed"
            );
        }
    }

    fn take(&mut self, name: &str) -> Option<OwnedFd> {
        let index = self.descriptors.iter().position(|(other, _)| other == name)?;
        Some(self.descriptors.swap_remove(index).1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_taken_by_their_addresses() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("auth.sock");
        let (tcp, unix) = (TcpListener::bind("127.0.0.1:0").unwrap(), UnixListener::bind(&path).unwrap());
        let address = tcp.local_addr().unwrap();
        let mut inherited = Inherited::default();
        inherited.add(tcp_name(address), tcp.into());
        inherited.add(unix_name(&path), unix.into());
        inherited.add(lock_name(Path::new("/data/keys.db")), tempfile::tempfile().unwrap().into());
        assert!(inherited.has_sockets());
        assert!(inherited.tcp("127.0.0.1:1".parse().unwrap()).is_none());
        assert_eq!(inherited.tcp(address).unwrap().local_addr().unwrap(), address);
        assert!(inherited.tcp(address).is_none());
        assert_eq!(inherited.unix(&path).unwrap().unwrap().path(), path);
        assert!(!inherited.has_sockets());
        assert_eq!(inherited.lock().unwrap().database, Path::new("/data/keys.db"));
        assert!(inherited.lock().is_none());
        assert!(inherited.descriptors.is_empty());
    }
}
