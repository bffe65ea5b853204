//! PROXY protocol, versions 1 and 2: the header in which a proxy names the address of its client
//! (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>).

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::{Instant, timeout_at};

/// The first bytes of a header of version 2. No header of either version is shorter.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Maximum length of a header of version 1 with its line end (section 2.1).
const VERSION_1_MAX: usize = 107;
/// Maximum length of a header of version 2 after its first 16 bytes: addresses and extensions.
const VERSION_2_MAX: usize = 4096;

/// The version and the command of version 2 (section 2.2).
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
/// The protocols of version 2: address family and transport (section 2.2).
const UNSPECIFIED: u8 = 0x00;
const TCP_IPV4: u8 = 0x11;
const TCP_IPV6: u8 = 0x21;
const UNIX_STREAM: u8 = 0x31;

/// A PROXY header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProxyHeader {
    /// The client of the proxy, with an IPv4 address in IPv6 as an IPv4 address. `None` if the client is the peer of the connection itself
    /// (`LOCAL`, such as a health check) or has no known IP address (`UNKNOWN`, unspecified, a Unix socket).
    pub source: Option<SocketAddr>,
}

impl ProxyHeader {
    const UNKNOWN: Self = Self { source: None };

    fn new(source: impl Into<IpAddr>, port: u16) -> Self {
        Self { source: Some(SocketAddr::new(source.into().to_canonical(), port)) }
    }
}

/// Reads the PROXY header with which a connection begins, and not one byte more.
///
/// # Errors
/// [`ErrorKind::TimedOut`] if the header is not complete at the deadline, [`ErrorKind::InvalidData`] if the connection begins with
/// something else, [`ErrorKind::UnexpectedEof`] if it ends before, or another error of the stream. The connection must be closed.
pub async fn read_header<S: AsyncRead + Unpin>(stream: &mut S, deadline: Instant) -> io::Result<ProxyHeader> {
    let late = || io::Error::new(ErrorKind::TimedOut, "the PROXY header was not complete within the time limit");
    timeout_at(deadline, read(stream)).await.unwrap_or_else(|_| Err(late()))
}

async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<ProxyHeader> {
    let mut start = [0; SIGNATURE.len()];
    stream.read_exact(&mut start).await?;
    if start == SIGNATURE { read_version_2(stream).await } else { read_version_1(stream, &start).await }
}

/// Reads the rest of a header of version 1. Its length is not known before its end, so it is read by single bytes.
async fn read_version_1<S: AsyncRead + Unpin>(stream: &mut S, start: &[u8]) -> io::Result<ProxyHeader> {
    if !start.starts_with(b"PROXY ") {
        return Err(invalid("the connection does not begin with a PROXY header"));
    }
    let mut line = Vec::with_capacity(VERSION_1_MAX);
    line.extend_from_slice(start);
    while !line.ends_with(b"\r\n") {
        if line.len() == VERSION_1_MAX {
            return Err(invalid("the PROXY header has no line end"));
        }
        line.push(stream.read_u8().await?);
    }
    let line = str::from_utf8(&line[..line.len() - 2]).unwrap_or_default();
    parse_version_1(line).ok_or_else(|| invalid("the PROXY header of version 1 cannot be read"))
}

/// Parses a line without its end.
fn parse_version_1(line: &str) -> Option<ProxyHeader> {
    if !line.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return None;
    }
    let words: Vec<&str> = line.split(' ').collect();
    match words[..] {
        // The rest of the line is to be ignored.
        ["PROXY", "UNKNOWN", ..] => Some(ProxyHeader::UNKNOWN),
        ["PROXY", "TCP4", source, destination, source_port, destination_port] => {
            let (source, _): (Ipv4Addr, Ipv4Addr) = (source.parse().ok()?, destination.parse().ok()?);
            let (port, _) = (parse_port(source_port)?, parse_port(destination_port)?);
            Some(ProxyHeader::new(source, port))
        }
        ["PROXY", "TCP6", source, destination, source_port, destination_port] => {
            let (source, _): (Ipv6Addr, Ipv6Addr) = (source.parse().ok()?, destination.parse().ok()?);
            let (port, _) = (parse_port(source_port)?, parse_port(destination_port)?);
            Some(ProxyHeader::new(source, port))
        }
        _ => None,
    }
}

/// Parses a decimal port without sign and leading zeros.
fn parse_port(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if is_plain { text.parse().ok() } else { None }
}

/// Reads the rest of a header of version 2, with its extensions.
async fn read_version_2<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<ProxyHeader> {
    let [command, protocol, high, low] = stream.read_u32().await?.to_be_bytes();
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > VERSION_2_MAX {
        return Err(invalid("the PROXY header is longer than 4 KiB"));
    }
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).await?;
    parse_version_2(command, protocol, &payload).ok_or_else(|| invalid("the PROXY header of version 2 cannot be read"))
}

/// Parses source address, destination address, source port and destination port.
fn parse_version_2(command: u8, protocol: u8, payload: &[u8]) -> Option<ProxyHeader> {
    match (command, protocol) {
        (LOCAL, _) | (PROXY, UNSPECIFIED | UNIX_STREAM) => Some(ProxyHeader::UNKNOWN),
        (PROXY, TCP_IPV4) => {
            let addresses: &[u8; 12] = payload.first_chunk()?;
            let source: [u8; 4] = *addresses.first_chunk()?;
            Some(ProxyHeader::new(source, u16::from_be_bytes([addresses[8], addresses[9]])))
        }
        (PROXY, TCP_IPV6) => {
            let addresses: &[u8; 36] = payload.first_chunk()?;
            let source: [u8; 16] = *addresses.first_chunk()?;
            Some(ProxyHeader::new(source, u16::from_be_bytes([addresses[32], addresses[33]])))
        }
        _ => None,
    }
}

fn invalid(message: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, message)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use tokio::io::{AsyncWriteExt, duplex};

    use super::*;

    /// What follows the header in all tests.
    const REQUEST: &[u8] = b"\r\nGET / HTTP/1.1\r\n\r\n";

    fn deadline() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    /// Reads a header that arrives in pieces, and what is left in the stream.
    async fn read(pieces: &[&[u8]]) -> (io::Result<ProxyHeader>, Vec<u8>) {
        let (mut proxy, mut stream) = duplex(1);
        let send = async move {
            for piece in pieces {
                // The reader may have closed the stream already.
                let _ = proxy.write_all(piece).await;
                tokio::task::yield_now().await;
            }
        };
        let receive = async move {
            let header = read_header(&mut stream, deadline()).await;
            let mut rest = Vec::new();
            if header.is_ok() {
                stream.read_to_end(&mut rest).await.unwrap();
            }
            (header, rest)
        };
        tokio::join!(send, receive).1
    }

    fn version_2(command: u8, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, protocol], &length, payload].concat()
    }

    fn ipv4_addresses() -> Vec<u8> {
        vec![192, 0, 2, 1, 10, 0, 0, 1, 0x10, 0x00, 0x01, 0xbb]
    }

    fn ipv6_addresses(source: &str) -> Vec<u8> {
        let source: Ipv6Addr = source.parse().unwrap();
        [&source.octets()[..], &Ipv6Addr::LOCALHOST.octets(), &[0x10, 0x00, 0x01, 0xbb]].concat()
    }

    fn accepted() -> Vec<(Vec<u8>, Option<&'static str>)> {
        let with_extensions = [ipv4_addresses(), vec![0x04, 0, 3, 1, 2, 3], vec![0x20, 0, 1, 0]].concat();
        vec![
            (b"PROXY TCP4 192.0.2.1 10.0.0.1 4096 443\r\n".to_vec(), Some("192.0.2.1:4096")),
            (b"PROXY TCP6 2001:db8::1 ::1 0 65535\r\n".to_vec(), Some("[2001:db8::1]:0")),
            (b"PROXY TCP6 ::ffff:192.0.2.1 ::1 4096 443\r\n".to_vec(), Some("192.0.2.1:4096")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n".to_vec(), None),
            (version_2(PROXY, TCP_IPV4, &ipv4_addresses()), Some("192.0.2.1:4096")),
            (version_2(PROXY, TCP_IPV4, &with_extensions), Some("192.0.2.1:4096")),
            (version_2(PROXY, TCP_IPV6, &ipv6_addresses("2001:db8::1")), Some("[2001:db8::1]:4096")),
            (version_2(PROXY, TCP_IPV6, &ipv6_addresses("::ffff:192.0.2.1")), Some("192.0.2.1:4096")),
            (version_2(PROXY, UNSPECIFIED, &[]), None),
            (version_2(PROXY, UNIX_STREAM, &[0; 216]), None),
            (version_2(LOCAL, UNSPECIFIED, &[]), None),
            (version_2(LOCAL, TCP_IPV4, &ipv4_addresses()), None),
            (version_2(LOCAL, UNSPECIFIED, &[0; VERSION_2_MAX]), None),
        ]
    }

    #[tokio::test]
    async fn header_is_read_and_no_byte_after_it() {
        for (header, source) in accepted() {
            let source = source.map(|source| source.parse().unwrap());
            let single: Vec<&[u8]> = header.chunks(1).chain([REQUEST]).collect();
            let whole = [&header[..], REQUEST].concat();
            for pieces in [single, vec![&header, REQUEST], vec![&whole]] {
                let (read, rest) = read(&pieces).await;
                assert_eq!(read.unwrap(), ProxyHeader { source }, "{}", header.escape_ascii());
                assert_eq!(rest, REQUEST, "{}", header.escape_ascii());
            }
        }
    }

    #[tokio::test]
    async fn invalid_headers_are_refused() {
        let mut headers: Vec<Vec<u8>> = [
            "GET / HTTP/1.1\r\n\r\n",
            "PROXY  TCP4 192.0.2.1 10.0.0.1 4096 443\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 4096 443 \r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 4096 443\n\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 4096\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 65536 443\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 +80 443\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 080 443\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 4096 \r\n",
            "PROXY TCP4 192.0.2.01 10.0.0.1 4096 443\r\n",
            "PROXY TCP4 ::1 10.0.0.1 4096 443\r\n",
            "PROXY TCP4 192.0.2.1 localhost 4096 443\r\n",
            "PROXY TCP6 192.0.2.1 ::1 4096 443\r\n",
            "PROXY TCP6 fe80::1%eth0 ::1 4096 443\r\n",
            "PROXY UNKNOWNS\r\n",
            "PROXY UNKNOWN \u{1}\r\n",
            "PROXY UDP4 192.0.2.1 10.0.0.1 4096 443\r\n",
            "proxy TCP4 192.0.2.1 10.0.0.1 4096 443\r\n",
            "PROXY x\r\nGET / HTTP/1.1\r\n",
        ]
        .map(|text| text.as_bytes().to_vec())
        .into();
        headers.push([b"PROXY UNKNOWN ", &[b'x'; VERSION_1_MAX - 15][..], b"\r\n"].concat());
        headers.push(version_2(0x11, TCP_IPV4, &ipv4_addresses()));
        headers.push(version_2(0x22, TCP_IPV4, &ipv4_addresses()));
        headers.push(version_2(PROXY, 0x12, &ipv4_addresses()));
        headers.push(version_2(PROXY, 0x41, &ipv4_addresses()));
        headers.push(version_2(PROXY, TCP_IPV4, &ipv4_addresses()[..11]));
        headers.push(version_2(PROXY, TCP_IPV6, &ipv6_addresses("::1")[..35]));
        headers.push(version_2(PROXY, TCP_IPV4, &[0; VERSION_2_MAX + 1]));
        for header in headers {
            let error = read(&[&header, REQUEST]).await.0.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidData, "{}", header.escape_ascii());
        }
    }

    #[tokio::test]
    async fn header_that_ends_early_is_refused() {
        for (header, _) in accepted() {
            let short = &header[..header.len() - 1];
            assert_eq!(
                read(&[short]).await.0.unwrap_err().kind(),
                ErrorKind::UnexpectedEof,
                "{}",
                short.escape_ascii()
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn header_that_is_not_complete_at_the_deadline_is_refused() {
        for (header, _) in accepted() {
            let (mut proxy, mut stream) = duplex(8192);
            proxy.write_all(&header[..header.len() - 1]).await.unwrap();
            let started = Instant::now();
            let error = read_header(&mut stream, started + Duration::from_secs(5)).await.unwrap_err();
            assert_eq!((error.kind(), started.elapsed()), (ErrorKind::TimedOut, Duration::from_secs(5)));
        }
    }

    proptest! {
        #[test]
        fn bytes_after_an_accepted_header_do_not_change_it(
            start in prop_oneof![Just(&b"PROXY TCP4 "[..]), Just(&b"PROXY TCP6 "[..]), Just(&SIGNATURE[..])],
            rest in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let bytes = [start, &rest].concat();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(async {
                let mut stream = &bytes[..];
                let Ok(header) = read_header(&mut stream, deadline()).await else { return };
                let used = bytes.len() - stream.len();
                assert_eq!(read_header(&mut &bytes[..used], deadline()).await.unwrap(), header);
                assert_eq!(
                    read_header(&mut &bytes[..used - 1], deadline()).await.unwrap_err().kind(),
                    ErrorKind::UnexpectedEof
                );
            });
        }
    }
}
