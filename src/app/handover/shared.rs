//! The sockets that a process passes on to its successor.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};

use super::channel::Channel;
use super::inherited::{tcp_name, unix_name};
use crate::app::listeners::Listeners;
use crate::listener::{KeptPath, ListeningSocket, UnixSocket};

/// Descriptors of all listening sockets of a process. While they exist, the sockets are open.
#[derive(Debug, Default)]
pub struct SharedSockets(Vec<SharedSocket>);

#[derive(Debug)]
struct SharedSocket {
    name: String,
    descriptor: OwnedFd,
    /// Of a Unix socket.
    path: Option<KeptPath>,
}

impl SharedSockets {
    /// Of bound sockets.
    ///
    /// # Errors
    /// If no descriptor is free.
    pub fn new(listeners: &Listeners) -> io::Result<Self> {
        let mut shared = Self::default();
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
        self.0.push(SharedSocket { name, descriptor: listener.try_clone()?.into(), path: None });
        Ok(())
    }

    fn add_unix(&mut self, socket: &UnixSocket) -> io::Result<()> {
        let (descriptor, path) = socket.share()?;
        self.0.push(SharedSocket { name: unix_name(socket.path()), descriptor, path: Some(path) });
        Ok(())
    }

    /// Passes them on.
    pub(super) fn send(&self, channel: &Channel) -> io::Result<()> {
        self.0.iter().try_for_each(|socket| channel.send(&socket.name, Some(socket.descriptor.as_fd())))
    }

    /// Keeps the paths of Unix sockets, which the successor uses from now on.
    pub(in crate::app) fn keep_paths(&self) {
        self.0.iter().filter_map(|socket| socket.path.as_ref()).for_each(KeptPath::keep);
    }
}
