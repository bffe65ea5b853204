//! How long an upstream may take: the settings of the upstream and of the route, and how they apply to an exchange.
//!
//! pingora has one read timeout for the head and the body of a response, fixed for an attempt. It is the longest that may apply; shorter
//! limits are those of [`Ending`]. On a connection that serves several requests, a request that is not answered can only be reset and not
//! answered by `Ending`, so there pingora's timeout is that of the head, unless the request may be answered by a live stream.

use std::time::{Duration, Instant};

use http::HeaderMap;
use http::header::ACCEPT;
use pingora::upstreams::peer::HttpPeer;

use super::ending::Ending;
use crate::config::{RouteTimeoutsConfig, UpstreamConfig};
use crate::pipeline::ResponseForm;
use crate::pipeline::live_streams::{EndReason, StreamKind};

/// How much later pingora's timeout is than the longest of ours, so that ours ends the exchange.
const MARGIN: Duration = Duration::from_secs(2);

/// The timeouts of an upstream, or those of a route to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Timeouts {
    connect: Duration,
    first_byte: Duration,
    read: Duration,
    total: Option<Duration>,
    stream_idle: Duration,
}

/// The timeouts of an attempt to forward a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct AttemptTimeouts {
    timeouts: Timeouts,
    class: RequestClass,
    /// Whether the request shares its connection with others.
    is_multiplexed: bool,
    arrived: Instant,
    /// pingora's timeout.
    read_timeout: Duration,
}

/// What the response to a request may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RequestClass {
    Ordinary,
    /// An event stream, because the client accepts one.
    EventStream,
    /// A gRPC call.
    Grpc,
}
    /// The time to establish a connection.
    pub(super) fn connect(&self) -> Duration {
        self.connect
    }


impl From<&UpstreamConfig> for Timeouts {
    fn from(config: &UpstreamConfig) -> Self {
        Self {
            connect: config.connect_timeout.0,
            first_byte: config.first_byte_timeout.unwrap_or(config.read_timeout).0,
            read: config.read_timeout.0,
            total: config.total_timeout.map(|timeout| timeout.0),
            stream_idle: config.stream_idle_timeout.0,
        }
    }
}

impl Timeouts {
    /// Those of a route: each that it sets is used instead of that of the upstream.
    pub(super) fn on_route(self, route: &RouteTimeoutsConfig) -> Self {
        let or =
            |timeout: Option<crate::duration::ConfigDuration>, default| timeout.map_or(default, |timeout| timeout.0);
        Self {
            connect: or(route.connect, self.connect),
            first_byte: or(route.first_byte, self.first_byte),
            read: or(route.read, self.read),
            total: route.total.map(|timeout| timeout.0).or(self.total),
            stream_idle: or(route.stream_idle, self.stream_idle),
        }
    }
}

impl AttemptTimeouts {
    /// The timeouts of a request with these fields that has arrived at `arrived`.
    pub(super) fn new(timeouts: Timeouts, fields: &HeaderMap, is_multiplexed: bool, arrived: Instant) -> Self {
        let class = RequestClass::of(fields);
        let longest = timeouts.first_byte.max(timeouts.read).max(timeouts.stream_idle) + MARGIN;
        let read_timeout = match class {
            RequestClass::Grpc => timeouts.stream_idle,
            RequestClass::Ordinary if is_multiplexed => {
                timeouts.total.map_or(timeouts.first_byte, |total| total.min(timeouts.first_byte))
            }
            RequestClass::Ordinary | RequestClass::EventStream => longest,
        };
        Self { timeouts, class, is_multiplexed, arrived, read_timeout }
    }

    /// Whether the request is a gRPC call.
    pub(super) fn is_grpc(&self) -> bool {
        self.class == RequestClass::Grpc
    }

    /// Sets the timeouts of an attempt.
    pub(super) fn apply(&self, peer: &mut HttpPeer) {
        let options = &mut peer.options;
        options.connection_timeout = Some(self.timeouts.connect);
        options.total_connection_timeout = Some(self.timeouts.connect);
        options.read_timeout = Some(self.read_timeout);
        options.write_timeout = Some(self.timeouts.read);
    }

    /// Begins an attempt.
    pub(super) fn begin(&self, ending: &Ending) {
        // The limit of an earlier attempt.
        ending.unlimit_silence();
        if !self.is_multiplexed {
            self.limit_total(ending);
        }
    }

    /// Begins to wait for the head of the response: the whole request was received.
    pub(super) fn await_response(&self, ending: &Ending) {
        if !self.is_grpc() && self.timeouts.first_byte < self.read_timeout {
            ending.limit_silence(self.timeouts.first_byte, EndReason::FirstByteTimeout);
        }
    }

    /// Begins the response.
    pub(super) fn begin_response(&self, ending: &Ending, stream: Option<StreamKind>) {
        let (limit, reason) = self.silence(stream.is_some());
        if limit < self.read_timeout {
            ending.limit_silence(limit, reason);
        } else {
            ending.unlimit_silence();
        }
        if stream.is_some() {
            ending.limit_total(None);
        } else {
            self.limit_total(ending);
        }
    }

    /// Why an exchange ends whose response was broken off by pingora's timeout.
    pub(super) fn silence_reason(&self, is_stream: bool) -> EndReason {
        self.silence(is_stream).1
    }

    fn silence(&self, is_stream: bool) -> (Duration, EndReason) {
        if is_stream {
            (self.timeouts.stream_idle, EndReason::StreamIdleTimeout)
        } else {
            (self.timeouts.read, EndReason::ReadTimeout)
        }
    }

    fn limit_total(&self, ending: &Ending) {
        if let Some(total) = self.timeouts.total.filter(|_| !self.is_grpc()) {
            ending.limit_total(Some(total.saturating_sub(self.arrived.elapsed())));
        }
    }
}

impl RequestClass {
    fn of(fields: &HeaderMap) -> Self {
        if ResponseForm::of(fields) == ResponseForm::Grpc {
            return Self::Grpc;
        }
        let accepts =
            |value: &http::HeaderValue| memchr::memmem::find(value.as_bytes(), b"text/event-stream").is_some();
        if fields.get_all(ACCEPT).iter().any(accepts) { Self::EventStream } else { Self::Ordinary }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::{CONTENT_TYPE, HeaderName};

    use super::*;
    use crate::duration::ConfigDuration;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn read_timeout(timeouts: Timeouts, field: Option<(HeaderName, &'static str)>, is_multiplexed: bool) -> Duration {
        let fields = field.map(|(name, value)| (name, HeaderValue::from_static(value))).into_iter().collect();
        AttemptTimeouts::new(timeouts, &fields, is_multiplexed, Instant::now()).read_timeout
    }

    #[test]
    fn route_replaces_the_timeouts_that_it_sets() {
        let upstream = Timeouts::from(&UpstreamConfig::default());
        assert_eq!(upstream.on_route(&RouteTimeoutsConfig::default()), upstream);
        let route = RouteTimeoutsConfig {
            read: Some(ConfigDuration(seconds(2))),
            total: Some(ConfigDuration(seconds(9))),
            ..RouteTimeoutsConfig::default()
        };
        assert_eq!(upstream.on_route(&route), Timeouts { read: seconds(2), total: Some(seconds(9)), ..upstream });
    }

    #[test]
    fn pingora_waits_as_long_as_the_response_may_take() {
        let timeouts = Timeouts {
            connect: seconds(1),
            first_byte: seconds(10),
            read: seconds(20),
            total: None,
            stream_idle: seconds(90),
        };
        let events = Some((ACCEPT, "application/json, text/event-stream"));
        let grpc = Some((CONTENT_TYPE, "application/grpc+proto"));
        for is_multiplexed in [false, true] {
            assert_eq!(read_timeout(timeouts, events.clone(), is_multiplexed), seconds(90) + MARGIN);
            assert_eq!(read_timeout(timeouts, grpc.clone(), is_multiplexed), seconds(90));
        }
        assert_eq!(read_timeout(timeouts, None, false), seconds(90) + MARGIN);
        assert_eq!(read_timeout(timeouts, None, true), seconds(10));
        assert_eq!(read_timeout(Timeouts { total: Some(seconds(3)), ..timeouts }, None, true), seconds(3));
    }
}
