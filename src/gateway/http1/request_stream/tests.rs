use std::pin::pin;

use pingora::protocols::Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;
use crate::duration::ConfigDuration;
use crate::gateway::deadline::Clock;

/// A client, and the request stream on the other end of its connection.
struct Fixture {
    client: DuplexStream,
    stream: RequestStream,
    shared: Arc<Shared>,
    clock: Arc<Clock>,
}

fn start(body: Body, received: &[u8]) -> Fixture {
    let limits = ListenerLimits {
        body_idle_timeout: ConfigDuration(Duration::from_secs(2)),
        response_stall_timeout: ConfigDuration(Duration::from_secs(3)),
        body_rate: 10,
        ..ListenerLimits::default()
    };
    let clock = Clock::new();
    let deadlines = Arc::new(Deadlines::new(&clock));
    let shared = Arc::new(Shared { deadlines, limits, progress: Arc::default(), slot: Slot::default() });
    let (client, server) = duplex(64);
    let head = Head { bytes: Bytes::from_static(b"POST / HTTP/1.1\r\n\r\n"), body };
    let connection: Stream = Box::new(server);
    let stream = RequestStream::new(connection, head, BytesMut::from(received), &shared);
    Fixture { client, stream, shared, clock }
}

async fn read_some(stream: &mut RequestStream) -> io::Result<Vec<u8>> {
    let mut bytes = [0; 256];
    let length = stream.read(&mut bytes).await?;
    Ok(bytes[..length].to_vec())
}

/// Polls a read once.
fn poll_read(stream: &mut RequestStream) -> Poll<io::Result<usize>> {
    let mut bytes = [0; 64];
    let mut read = pin!(stream.read(&mut bytes));
    read.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test]
async fn only_the_request_is_read_and_the_rest_is_returned() {
    let mut fixture = start(Body::chunked(), b"3;x\r\nab");
    fixture.client.write_all(b"c\r\n0\r\nTrailer: x\r\n\r\nGET /next").await.unwrap();
    let mut read = Vec::new();
    while !fixture.stream.body.is_done() {
        read.extend(read_some(&mut fixture.stream).await.unwrap());
    }
    assert_eq!(read, b"POST / HTTP/1.1\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
    fixture.client.write_all(b" HTTP/1.1").await.unwrap();
    assert!(poll_read(&mut fixture.stream).is_pending());
    drop(fixture.stream);
    let returned = fixture.shared.slot.take().unwrap();
    assert_eq!(&returned.received[..], b"GET /next HTTP/1.1");
    assert!(returned.is_body_read && !returned.is_answered && !returned.is_half_closed);
    assert!(fixture.shared.slot.take().is_none());
}

#[tokio::test]
async fn body_that_ends_early_or_is_malformed_is_an_error() {
    for (body, input, kind) in [
        (Body::of_length(9), &b"abc"[..], io::ErrorKind::UnexpectedEof),
        (Body::chunked(), b"zz\r\n", io::ErrorKind::InvalidData),
    ] {
        let mut fixture = start(body, b"");
        read_some(&mut fixture.stream).await.unwrap();
        fixture.client.write_all(input).await.unwrap();
        drop(fixture.client);
        let error = loop {
            if let Err(error) = read_some(&mut fixture.stream).await {
                break error;
            }
        };
        assert_eq!(error.kind(), kind);
        drop(fixture.stream);
        assert!(!fixture.shared.slot.take().unwrap().is_body_read);
    }
}

#[tokio::test]
async fn body_is_limited_in_idle_time_and_in_rate() {
    let mut fixture = start(Body::of_length(1000), b"");
    read_some(&mut fixture.stream).await.unwrap();
    assert!(poll_read(&mut fixture.stream).is_pending());
    fixture.clock.advance(Duration::from_millis(1_900));
    assert!(poll_read(&mut fixture.stream).is_pending());
    fixture.client.write_all(b"0123456789").await.unwrap();
    read_some(&mut fixture.stream).await.unwrap();
    // 1.9 s were used of 2 s and of the second that 10 bytes are worth.
    assert!(poll_read(&mut fixture.stream).is_pending());
    fixture.clock.advance(Duration::from_millis(2_900));
    assert!(poll_read(&mut fixture.stream).is_pending());
    fixture.clock.advance(Duration::from_millis(3_100));
    let Poll::Ready(Err(error)) = poll_read(&mut fixture.stream) else { panic!("the limit is exceeded") };
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn client_that_does_not_read_is_given_up() {
    let mut fixture = start(Body::Done, b"");
    let body = vec![b'a'; 10_000];
    {
        let mut write = pin!(fixture.stream.write_all(&body));
        let mut context = Context::from_waker(Waker::noop());
        assert!(write.as_mut().poll(&mut context).is_pending());
        fixture.clock.advance(Duration::from_millis(2_900));
        assert!(write.as_mut().poll(&mut context).is_pending());
        fixture.clock.advance(Duration::from_secs(3));
        assert!(is_ready_and(write.as_mut().poll(&mut context), |result| result.is_err()));
    }
}

#[tokio::test]
async fn switched_connection_is_a_tunnel_with_what_was_held() {
    let mut fixture = start(Body::Done, b"first");
    read_some(&mut fixture.stream).await.unwrap();
    assert!(poll_read(&mut fixture.stream).is_pending());
    fixture.stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n").await.unwrap();
    fixture.stream.flush().await.unwrap();
    assert_eq!(read_some(&mut fixture.stream).await.unwrap(), b"first");
    fixture.client.write_all(b"second").await.unwrap();
    assert_eq!(read_some(&mut fixture.stream).await.unwrap(), b"second");
    drop(fixture.client);
    assert_eq!(read_some(&mut fixture.stream).await.unwrap(), b"");
    drop(fixture.stream);
    assert!(!fixture.shared.slot.take().unwrap().is_body_read);
}

#[tokio::test]
async fn complete_response_ends_an_upload_that_goes_on() {
    let mut fixture = start(Body::of_length(1000), b"");
    read_some(&mut fixture.stream).await.unwrap();
    assert!(poll_read(&mut fixture.stream).is_pending());
    fixture.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
    fixture.shared.progress.set_last_part();
    fixture.stream.flush().await.unwrap();
    assert!(poll_read(&mut fixture.stream).is_pending(), "the final head is missing");
    fixture.stream.write_all(b"HTTP/1.1 413 Too Large\r\n\r\n").await.unwrap();
    fixture.stream.flush().await.unwrap();
    assert!(read_some(&mut fixture.stream).await.is_err());
}

#[tokio::test]
async fn half_closed_connection_is_kept_for_a_while() {
    let mut fixture = start(Body::Done, b"");
    read_some(&mut fixture.stream).await.unwrap();
    AsyncWriteExt::shutdown(&mut fixture.client).await.unwrap();
    assert!(poll_read(&mut fixture.stream).is_pending());
    fixture.clock.advance(HALF_CLOSED_LIMIT);
    assert!(is_ready_and(poll_read(&mut fixture.stream), |result| result.unwrap() == 0));
    drop(fixture.stream);
    assert!(fixture.shared.slot.take().unwrap().is_half_closed);
}

fn is_ready_and<T>(poll: Poll<T>, test: impl FnOnce(T) -> bool) -> bool {
    match poll {
        Poll::Ready(value) => test(value),
        Poll::Pending => false,
    }
}
