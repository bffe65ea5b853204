//! Kinds of live streams.

/// A kind of live stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamKind {
    /// A connection that was switched to the WebSocket protocol (RFC 6455).
    WebSocket,
    /// A response of the type `text/event-stream` (server-sent events).
    EventStream,
    /// A gRPC call.
    Grpc,
}

impl StreamKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::WebSocket, Self::EventStream, Self::Grpc];

    /// The name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
            Self::EventStream => "event_stream",
            Self::Grpc => "grpc",
        }
    }
}
