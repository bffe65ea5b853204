//! A socket that was accepted on one runtime and is served on another one.

use std::io;

use tokio::net::{TcpStream, UnixStream};

/// A socket that can leave the runtime on which it was accepted.
pub(super) trait Movable: Sized {
    /// The socket between two runtimes.
    type Std;

    /// Leaves the runtime.
    ///
    /// # Errors
    /// If the runtime does not let it go.
    fn leave(self) -> io::Result<Self::Std>;

    /// Joins the current runtime.
    ///
    /// # Errors
    /// If the runtime cannot take it.
    fn join(socket: Self::Std) -> io::Result<Self>;
}

/// A socket that was accepted.
pub(super) enum Accepted<S: Movable> {
    /// It stays on its runtime.
    Here(S),
    /// It is on its way to another one.
    Moved(io::Result<S::Std>),
}

impl<S: Movable> Accepted<S> {
    pub(super) fn new(socket: S, is_moved: bool) -> Self {
        if is_moved { Self::Moved(socket.leave()) } else { Self::Here(socket) }
    }

    /// The socket on the current runtime.
    ///
    /// # Errors
    /// If it could not be moved.
    pub(super) fn here(self) -> io::Result<S> {
        match self {
            Self::Here(socket) => Ok(socket),
            Self::Moved(socket) => S::join(socket?),
        }
    }
}

impl Movable for TcpStream {
    type Std = std::net::TcpStream;

    fn leave(self) -> io::Result<Self::Std> {
        self.into_std()
    }

    fn join(socket: Self::Std) -> io::Result<Self> {
        Self::from_std(socket)
    }
}

impl Movable for UnixStream {
    type Std = std::os::unix::net::UnixStream;

    fn leave(self) -> io::Result<Self::Std> {
        self.into_std()
    }

    fn join(socket: Self::Std) -> io::Result<Self> {
        Self::from_std(socket)
    }
}
