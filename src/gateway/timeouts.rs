//! How long an upstream may take: the settings of the upstream and of the route, and how they apply to an exchange.
//!
//! pingora has one read timeout for the head and the body of a response, fixed for an attempt. It is the longest that may apply; shorter
//! limits are those of [`Ending`].

use std::time::{Duration, Instant};

use pingora::upstreams::peer::HttpPeer;

use super::ending::Ending;
use crate::config::{RouteTimeoutsConfig, UpstreamConfig};
use crate::pipeline::ResponseForm;
use crate::pipeline::live_streams::{EndReason, StreamKind};
use crate::wire::fields::Fields;

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
    is_grpc: bool,
    arrived: Instant,
    /// pingora's timeout.
    read_timeout: Duration,
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
    /// The time to establish a connection.
    pub(super) fn connect(&self) -> Duration {
        self.connect
    }

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
    pub(super) fn new<F: Fields>(timeouts: Timeouts, fields: &F, arrived: Instant) -> Self {
        let is_grpc = ResponseForm::of(fields) == ResponseForm::Grpc;
        let longest = timeouts.first_byte.max(timeouts.read).max(timeouts.stream_idle) + MARGIN;
        Self { timeouts, is_grpc, arrived, read_timeout: if is_grpc { timeouts.stream_idle } else { longest } }
    }

    /// Whether the request is a gRPC call.
    pub(super) fn is_grpc(&self) -> bool {
        self.is_grpc
    }

    /// How long a part of the request may wait until the upstream reads it.
    pub(super) fn write(&self) -> Duration {
        self.timeouts.read
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
        self.limit_total(ending);
    }

    /// Begins to wait for the head of the response: the whole request was received.
    pub(super) fn await_response(&self, ending: &Ending) {
        if !self.is_grpc && self.timeouts.first_byte < self.read_timeout {
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
        if let Some(total) = self.timeouts.total.filter(|_| !self.is_grpc) {
            ending.limit_total(self.arrived.checked_add(total));
        }
    }
}

#[cfg(test)]
mod tests {
    use http::header::CONTENT_TYPE;
    use http::{HeaderMap, HeaderValue};

    use super::*;
    use crate::duration::ConfigDuration;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
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
            total: Some(seconds(3)),
            stream_idle: seconds(90),
        };
        let read_timeout = |fields: &HeaderMap| AttemptTimeouts::new(timeouts, fields, Instant::now()).read_timeout;
        assert_eq!(read_timeout(&HeaderMap::new()), seconds(90) + MARGIN);
        let grpc = (CONTENT_TYPE, HeaderValue::from_static("application/grpc+proto"));
        assert_eq!(read_timeout(&HeaderMap::from_iter([grpc])), seconds(90));
    }
}
