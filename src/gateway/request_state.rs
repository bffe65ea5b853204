//! What the connections of the gateway and its proxy tell each other about a request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use http::StatusCode;
use pingora::http::ResponseHeader;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::proxy::Session;

use super::deadline::{Clock, Deadlines};
use super::ending::Ending;
use super::upstream::RouteUpstream;
use crate::config::ListenerLimits;
use crate::connection::ConnectionInfo;
use crate::pipeline::live_streams::{EndReason, EndStream};
use crate::pipeline::{Connection, Exchange, ListenerTrust};

/// The facts about a connection, the trust settings of its listener, and the limits of its listener.
#[derive(Debug, Clone, Default)]
pub(super) struct Origin {
    pub(super) info: Arc<ConnectionInfo>,
    pub(super) trust: Arc<ListenerTrust>,
    pub(super) limits: ListenerLimits,
}

/// What is kept of a connection from one request to the next.
pub(super) struct ConnectionState {
    pub(super) connection: Connection,
    pub(super) progress: Arc<Progress>,
    /// The exchange of the next request, if it was begun before pingora got the request.
    pub(super) begun: Option<Box<Exchange<RouteUpstream>>>,
}

/// The frames of a live stream on an HTTP/1.1 connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// Of a WebSocket.
    WebSocket = 1,
    /// Of a chunked body.
    Chunks = 2,
}

/// How far a request is.
#[derive(Debug)]
pub(super) struct Progress {
    /// Whether and why the exchange is to be ended.
    pub(super) ending: Ending,
    /// The [`Framing`] of the response; 0 if it is not tracked.
    framing: AtomicU8,
    is_last_part: AtomicBool,
    /// Bytes of the request body that have arrived.
    body_bytes: AtomicU64,
    is_body_complete: AtomicBool,
    is_answered: AtomicBool,
    is_timed_out: AtomicBool,
}

/// A request on a connection that serves several at a time.
struct Multiplexed {
    origin: Origin,
    progress: Arc<Progress>,
}

impl Progress {
    /// Of the requests of a connection, one at a time.
    pub(super) fn of_connection(deadlines: &Arc<Deadlines>) -> Self {
        Self::new(Ending::of_connection(deadlines))
    }

    /// Of a request on a connection that serves several at a time.
    pub(super) fn of_stream(clock: &Arc<Clock>) -> Self {
        Self::new(Ending::of_stream(clock))
    }

    fn new(ending: Ending) -> Self {
        Self {
            ending,
            framing: AtomicU8::new(0),
            is_last_part: AtomicBool::new(false),
            body_bytes: AtomicU64::new(0),
            is_body_complete: AtomicBool::new(false),
            is_answered: AtomicBool::new(false),
            is_timed_out: AtomicBool::new(false),
        }
    }

    /// Notes that the part of the response that is written next is the last one.
    pub(super) fn set_last_part(&self) {
        self.is_last_part.store(true, Ordering::Relaxed);
    }

    /// Whether the last part of the response is being written.
    pub(super) fn is_last_part(&self) -> bool {
        self.is_last_part.load(Ordering::Relaxed)
    }

    /// Notes that a part of the request body has arrived.
    pub(super) fn add_body(&self, length: usize, is_complete: bool) {
        self.body_bytes.fetch_add(length as u64, Ordering::Relaxed);
        if is_complete {
            self.is_body_complete.store(true, Ordering::Relaxed);
        }
    }

    /// How many bytes of the body have arrived. `None` if no more is waited for.
    pub(super) fn awaited_body(&self) -> Option<u64> {
        let is_over = self.is_body_complete.load(Ordering::Relaxed) || self.is_answered.load(Ordering::Relaxed);
        (!is_over).then(|| self.body_bytes())
    }

    /// How many bytes of the body have arrived.
    pub(super) fn body_bytes(&self) -> u64 {
        self.body_bytes.load(Ordering::Relaxed)
    }

    /// Whether the whole body has arrived.
    pub(super) fn is_body_complete(&self) -> bool {
        self.is_body_complete.load(Ordering::Relaxed)
    }

    /// Notes that the response has begun.
    pub(super) fn set_answered(&self) {
        self.is_answered.store(true, Ordering::Relaxed);
    }

    /// Whether the response has begun.
    pub(super) fn is_answered(&self) -> bool {
        self.is_answered.load(Ordering::Relaxed)
    }

    /// Notes that the response is a live stream with these frames, before its head is written.
    pub(super) fn set_framing(&self, framing: Framing) {
        self.framing.store(framing as u8, Ordering::Relaxed);
    }

    /// The frames of the response, if it is a live stream that has frames.
    pub(super) fn framing(&self) -> Option<Framing> {
        match self.framing.load(Ordering::Relaxed) {
            1 => Some(Framing::WebSocket),
            2 => Some(Framing::Chunks),
            _ => None,
        }
    }

    /// Notes that the request is given up because its body arrives too slowly.
    pub(super) fn set_timed_out(&self) {
        self.is_timed_out.store(true, Ordering::Relaxed);
    }

    /// Whether the request was given up.
    pub(super) fn is_timed_out(&self) -> bool {
        self.is_timed_out.load(Ordering::Relaxed)
    }

    /// Forgets the previous request.
    pub(super) fn reset(&self) {
        for flag in [&self.is_last_part, &self.is_body_complete, &self.is_answered, &self.is_timed_out] {
            flag.store(false, Ordering::Relaxed);
        }
        self.body_bytes.store(0, Ordering::Relaxed);
        self.framing.store(0, Ordering::Relaxed);
        self.ending.reset();
    }
}

impl Default for Progress {
    /// Of a request whose limits never expire.
    fn default() -> Self {
        Self::of_stream(&Clock::new())
    }
}

impl EndStream for Progress {
    fn end(&self, reason: EndReason) {
        self.ending.end(reason);
    }
}

impl ConnectionState {
    pub(super) fn new(info: &ConnectionInfo, trust: &Arc<ListenerTrust>, progress: Arc<Progress>) -> Self {
        Self { connection: Connection::of(info, trust), progress, begun: None }
    }

    /// The state of a request on a connection that serves several at a time.
    pub(super) fn of_session(session: &Session) -> Self {
        let request = multiplexed(session);
        let (origin, progress) =
            request.map(|request| (request.origin.clone(), Arc::clone(&request.progress))).unwrap_or_default();
        Self::new(&origin.info, &origin.trust, progress)
    }
}

/// The limits of the connection of a request that shares it with others.
pub(super) fn multiplexed_limits(session: &Session) -> Option<&ListenerLimits> {
    multiplexed(session).map(|request| &request.origin.limits)
}

fn multiplexed(session: &Session) -> Option<&Multiplexed> {
    session.digest()?.proxy_digest.as_ref()?.user_data.as_ref()?.downcast_ref()
}

/// The origin and the progress of a request in the form in which pingora carries them to the session.
pub(super) fn request_digest(origin: Origin, progress: Arc<Progress>) -> Option<Arc<ProxyDigest>> {
    let head = ResponseHeader::build(StatusCode::OK, Some(0)).ok()?;
    Some(Arc::new(ProxyDigest::new(Box::new(head), Some(Box::new(Multiplexed { origin, progress })))))
}
