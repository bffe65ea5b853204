//! A client's end of a connection, blocking: TCP or a Unix socket, with or without TLS.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use keygate_test_servers::WAIT_TIMEOUT;
use rustls::ClientConnection;

/// A connected socket.
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A connection.
pub(crate) struct ClientStream {
    socket: Socket,
    tls: Option<Box<ClientConnection>>,
}

impl Socket {
    /// Connects to a port on loopback.
    pub(crate) fn tcp(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self::Tcp(stream)
    }

    fn set_read_timeout(&self, timeout: Duration) {
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(Some(timeout)).unwrap(),
            Self::Unix(stream) => stream.set_read_timeout(Some(timeout)).unwrap(),
        }
    }

    fn close_sending(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl ClientStream {
    /// A connection on a socket, whose reads fail after [`WAIT_TIMEOUT`]. With TLS, the handshake is performed.
    pub(crate) fn new(mut socket: Socket, tls: Option<ClientConnection>) -> io::Result<Self> {
        socket.set_read_timeout(WAIT_TIMEOUT);
        let mut tls = tls.map(Box::new);
        if let Some(tls) = &mut tls {
            while tls.is_handshaking() {
                tls.complete_io(&mut socket)?;
            }
        }
        Ok(Self { socket, tls })
    }

    /// A connection in clear text to a port on loopback.
    pub(crate) fn tcp(port: u16) -> Self {
        Self::new(Socket::tcp(port), None).unwrap()
    }

    pub(crate) fn set_read_timeout(&self, timeout: Duration) {
        self.socket.set_read_timeout(timeout);
    }

    /// Closes the sending side.
    pub(crate) fn close_sending(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            self.flush().unwrap();
        }
        self.socket.close_sending().unwrap();
    }
}

impl Read for ClientStream {
    /// Unlike `rustls::Stream`, it reads what has arrived also if the last write has failed.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return self.socket.read(buffer) };
        loop {
            match tls.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                read => return read,
            }
            tls.read_tls(&mut self.socket)?;
            tls.process_new_packets().map_err(io::Error::other)?;
        }
    }
}

impl Write for ClientStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return self.socket.write(bytes) };
        let written = tls.writer().write(bytes)?;
        self.flush()?;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        let Some(tls) = &mut self.tls else { return Ok(()) };
        while tls.wants_write() {
            tls.write_tls(&mut self.socket)?;
        }
        Ok(())
    }
}
