//! The sockets that a process passes on to its successor.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};

use super::attempts::drop_attempts;
use super::channel::Channel;
use super::inherited::{tcp_name, unix_name};
use crate::app::listeners::Listeners;
use crate::listener::{KeptPath, ListeningSocket, UnixSocket};

/// Descriptors of all listening sockets of a process. While they exist, the sockets are open.
#[derive(Debug, Default)]
pub struct SharedSockets {
    sockets: Vec<SharedSocket>,
    /// The TCP sockets that are closed first at a stop, if no other process has them.
    closed_first: Vec<TcpListener>,
}

#[derive(Debug)]
struct SharedSocket {
    name: String,
    descriptor: OwnedFd,
    /// Of a Unix socket.
    path: Option<KeptPath>,
}

impl SharedSockets {
    /// Of bound sockets. `is_own` is whether this process has bound them: otherwise they may be those of systemd as well.
    ///
    /// # Errors
    /// If no descriptor is free.
    pub fn new(listeners: &Listeners, is_own: bool) -> io::Result<Self> {
        let mut shared = Self::default();
        if is_own {
            shared.closed_first = closed_first(listeners).map(TcpListener::try_clone).collect::<io::Result<_>>()?;
        }
        for socket in listeners.gateway.iter().chain([&listeners.admin]) {
            match socket {
                ListeningSocket::Tcp(listener) => shared.add_tcp(listener)?,
                ListeningSocket::Unix(socket) => shared.add_unix(socket)?,
            }
        }
        let auth = &listeners.external_auth;
        for listener in [listeners.public.as_ref(), Some(&listeners.metrics), auth.tcp.as_ref()].into_iter().flatten() {
            shared.add_tcp(listener)?;
        }
        auth.unix.as_ref().map_or(Ok(()), |socket| shared.add_unix(socket))?;
        Ok(shared)
    }

    fn add_tcp(&mut self, listener: &TcpListener) -> io::Result<()> {
        let name = tcp_name(listener.local_addr()?);
        self.sockets.push(SharedSocket { name, descriptor: listener.try_clone()?.into(), path: None });
        Ok(())
    }

    fn add_unix(&mut self, socket: &UnixSocket) -> io::Result<()> {
        let (descriptor, path) = socket.share()?;
        self.sockets.push(SharedSocket { name: unix_name(socket.path()), descriptor, path: Some(path) });
        Ok(())
    }

    /// Passes them on.
    pub(super) fn send(&self, channel: &Channel) -> io::Result<()> {
        self.sockets.iter().try_for_each(|socket| channel.send(&socket.name, Some(socket.descriptor.as_fd())))
    }

    /// Has the kernel drop the packets that begin a connection to the sockets that are closed first. Whether there are such sockets; those that
    /// this does not work on are closed all the same. Not if another process goes on with the sockets.
    pub(in crate::app) fn drop_attempts(&self) -> bool {
        let failed = self.closed_first.iter().find_map(|listener| drop_attempts(listener).err());
        if let Some(error) = failed {
            tracing::debug!(%error, "a connection that is established while its socket is closed may be reset");
        }
        !self.closed_first.is_empty()
    }

    /// Keeps the paths of Unix sockets, which the successor uses from now on.
    pub(in crate::app) fn keep_paths(&self) {
        self.sockets.iter().filter_map(|socket| socket.path.as_ref()).for_each(KeptPath::keep);
    }
}

/// The TCP sockets of the gateway and of external authorization. The others accept connections until the gateway has stopped.
fn closed_first(listeners: &Listeners) -> impl Iterator<Item = &TcpListener> {
    let gateway = listeners.gateway.iter().filter_map(|socket| match socket {
        ListeningSocket::Tcp(listener) => Some(listener),
        ListeningSocket::Unix(_) => None,
    });
    gateway.chain(&listeners.external_auth.tcp)
}
