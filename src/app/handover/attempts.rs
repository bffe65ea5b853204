//! New connections to a socket that is about to be closed.

use std::io;
use std::net::TcpListener;

use socket2::{SockFilter, SockRef};

/// How long a socket is kept after [`drop_attempts`]: longer than a handshake takes that had begun.
pub(in crate::app) const HANDSHAKE: std::time::Duration = std::time::Duration::from_millis(50);

/// The place of the flags in a TCP header, and two of them.
const FLAGS: u32 = 13;
const SYN: u32 = 0x02;
const ACK: u32 = 0x10;

/// Instructions of classic BPF (`linux/filter.h`): load a byte, and with a constant, skip the next one unless equal, return a length.
const LOAD_BYTE: u16 = 0x30;
const AND: u16 = 0x54;
const IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;

/// Has the kernel drop the packets that begin a connection to this socket, in this process and in all others that have the socket. Connections
/// that are established or have begun are not affected. A client sends the packet again after a second; if the socket is closed by then, its
/// connection is refused, and it is not reset after it was established.
///
/// # Errors
/// If the kernel has no filters, or a sandbox does not let it have them.
pub(super) fn drop_attempts(listener: &TcpListener) -> io::Result<()> {
    SockRef::from(listener).attach_filter(&[
        SockFilter::new(LOAD_BYTE, 0, 0, FLAGS),
        SockFilter::new(AND, 0, 0, SYN | ACK),
        SockFilter::new(IF_EQUAL, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ])
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::net::{SocketAddr, TcpStream};
    use std::time::Duration;

    use super::*;

    /// Longer than a handshake on loopback, and shorter than the second after which a client tries again.
    const SHORT: Duration = Duration::from_millis(300);

    #[test]
    fn attempts_are_dropped_and_established_connections_go_on() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address.parse::<SocketAddr>().unwrap()) else {
                eprintln!("SKIPPED: this machine has no address as {address}");
                continue;
            };
            let address = listener.local_addr().unwrap();
            let mut accepted = TcpStream::connect(address).unwrap();
            let mut server = listener.accept().unwrap().0;
            let mut queued = TcpStream::connect(address).unwrap();
            drop_attempts(&listener).unwrap();
            let error = TcpStream::connect_timeout(&address, SHORT).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            let mut late = listener.accept().unwrap().0;
            for (client, server) in [(&mut accepted, &mut server), (&mut queued, &mut late)] {
                let mut byte = [0];
                client.write_all(b"a").unwrap();
                server.read_exact(&mut byte).unwrap();
                server.write_all(b"b").unwrap();
                client.read_exact(&mut byte).unwrap();
                assert_eq!(byte, *b"b");
            }
            listener.set_nonblocking(true).unwrap();
            assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
            drop(listener);
            assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        }
    }
}
