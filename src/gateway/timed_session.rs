//! The session of a request over HTTP/2 with the time limits of the exchange.
//!
//! pingora has one read timeout for the head and the body of a response, so that the head needs a limit of our own. When it is exceeded, pingora
//! must get an error while it waits, or the client would get no response. Over HTTP/1.1, the stream of the request reports it. Over HTTP/2,
//! pingora's session reads from the `h2` crate, which has no place for such an error. So a session of ours stands in for pingora's while the
//! request is forwarded. It does the same, reports the limit, and notes how long the client does not read.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::Stream;
use http::HeaderMap;
use parking_lot::Mutex;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::Digest;
use pingora::protocols::http::custom::CustomMessageWrite;
use pingora::protocols::http::custom::server::Session;
use pingora::protocols::http::v2::server::HttpSession;
use pingora::protocols::http::{HttpTask, ServerSession};
use pingora::protocols::l4::socket::SocketAddr;
use pingora::{Error, ErrorType};

use super::request_state::Progress;

type Messages = Box<dyn Stream<Item = pingora::Result<Bytes>> + Unpin + Send + Sync>;

/// Where a session is while another one stands in for it.
pub(super) struct SessionPlace(Arc<Mutex<Option<HttpSession>>>);

/// Stands in for a session, and puts it back when it is dropped.
struct TimedSession {
    /// `Some` until the drop.
    session: Option<HttpSession>,
    place: Arc<Mutex<Option<HttpSession>>>,
    progress: Arc<Progress>,
}

impl SessionPlace {
    /// Puts a session of ours in the place of one of HTTP/2; `None` for another one.
    pub(super) fn take(session: &mut ServerSession, progress: &Arc<Progress>) -> Option<Self> {
        if !session.is_http2() {
            return None;
        }
        let place = Arc::default();
        // The unit type is pingora's session that does nothing.
        match std::mem::replace(session, ServerSession::new_custom(Box::new(()))) {
            ServerSession::H2(own) => {
                let (place, progress) = (Arc::clone(&place), Arc::clone(progress));
                *session = ServerSession::new_custom(Box::new(TimedSession { session: Some(own), place, progress }));
            }
            other => *session = other,
        }
        Some(Self(place))
    }

    /// Puts the session in its place again.
    pub(super) fn restore(self, session: &mut ServerSession) {
        *session = ServerSession::new_custom(Box::new(()));
        if let Some(own) = self.0.lock().take() {
            *session = ServerSession::new_http2(own);
        }
    }
}

impl TimedSession {
    fn session(&self) -> &HttpSession {
        self.session.as_ref().expect("it is taken by the drop only")
    }

    fn session_mut(&mut self) -> &mut HttpSession {
        self.session.as_mut().expect("it is taken by the drop only")
    }
}

impl Drop for TimedSession {
    fn drop(&mut self) {
        *self.place.lock() = self.session.take();
    }
}

#[async_trait]
impl Session for TimedSession {
    async fn read_body_or_idle(&mut self, no_body_expected: bool) -> pingora::Result<Option<Bytes>> {
        let progress = Arc::clone(&self.progress);
        let mut read = pin!(self.session_mut().read_body_or_idle(no_body_expected));
        poll_fn(|context| match read.as_mut().poll(context) {
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending if progress.is_answered() => Poll::Pending,
            Poll::Pending => progress
                .ending
                .poll_late(context)
                .map(|late| Err(Error::because(ErrorType::ReadError, "while waiting for the response", late))),
        })
        .await
    }

    fn req_header(&self) -> &RequestHeader {
        self.session().req_header()
    }

    fn req_header_mut(&mut self) -> &mut RequestHeader {
        self.session_mut().req_header_mut()
    }

    async fn read_body_bytes(&mut self) -> pingora::Result<Option<Bytes>> {
        self.session_mut().read_body_bytes().await
    }

    async fn drain_request_body(&mut self) -> pingora::Result<()> {
        self.session_mut().drain_request_body().await
    }

    async fn write_response_header(&mut self, head: Box<ResponseHeader>, end: bool) -> pingora::Result<()> {
        self.session_mut().write_response_header(head, end)
    }

    async fn write_response_header_ref(&mut self, head: &ResponseHeader, end: bool) -> pingora::Result<()> {
        self.session_mut().write_response_header_ref(head, end)
    }

    async fn write_body(&mut self, data: Bytes, end: bool) -> pingora::Result<()> {
        self.session_mut().write_body(data, end).await
    }

    async fn write_trailers(&mut self, trailers: HeaderMap) -> pingora::Result<()> {
        self.session_mut().write_trailers(trailers)
    }

    async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> pingora::Result<bool> {
        self.progress.ending.begin_write();
        let result = self.session_mut().response_duplex_vec(tasks).await;
        self.progress.ending.end_write();
        result
    }

    fn set_read_timeout(&mut self, _: Option<Duration>) {}

    fn get_read_timeout(&self) -> Option<Duration> {
        None
    }

    fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        self.session_mut().set_write_timeout(timeout);
    }

    fn get_write_timeout(&self) -> Option<Duration> {
        self.session().get_write_timeout()
    }

    fn set_total_drain_timeout(&mut self, timeout: Option<Duration>) {
        self.session_mut().set_total_drain_timeout(timeout);
    }

    fn get_total_drain_timeout(&self) -> Option<Duration> {
        self.session().get_total_drain_timeout()
    }

    fn request_summary(&self) -> String {
        self.session().request_summary()
    }

    fn response_written(&self) -> Option<&ResponseHeader> {
        self.session().response_written()
    }

    async fn shutdown(&mut self, _: u32, _: &str) {
        self.session_mut().shutdown();
    }

    fn is_body_done(&mut self) -> bool {
        self.session().is_body_done()
    }

    async fn finish(&mut self) -> pingora::Result<()> {
        self.session_mut().finish()
    }

    fn is_body_empty(&mut self) -> bool {
        self.session().is_body_empty()
    }

    fn body_bytes_sent(&self) -> usize {
        self.session().body_bytes_sent()
    }

    fn body_bytes_read(&self) -> usize {
        self.session().body_bytes_read()
    }

    fn digest(&self) -> Option<&Digest> {
        self.session().digest()
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        self.session_mut().digest_mut()
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        self.session().client_addr()
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        self.session().server_addr()
    }

    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        self.session().pseudo_raw_h1_request_header()
    }

    fn enable_retry_buffering(&mut self) {
        self.session_mut().enable_retry_buffering();
    }

    fn retry_buffer_truncated(&self) -> bool {
        self.session().retry_buffer_truncated()
    }

    fn get_retry_buffer(&self) -> Option<Bytes> {
        self.session().get_retry_buffer()
    }

    // HTTP/2 has no messages besides requests and responses.

    async fn finish_custom(&mut self) -> pingora::Result<()> {
        Ok(())
    }

    fn take_custom_message_reader(&mut self) -> Option<Messages> {
        None
    }

    fn restore_custom_message_reader(&mut self, _: Messages) -> pingora::Result<()> {
        Ok(())
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        None
    }

    fn restore_custom_message_writer(&mut self, _: Box<dyn CustomMessageWrite>) -> pingora::Result<()> {
        Ok(())
    }
}
