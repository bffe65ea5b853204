//! What the front door forwards of the bytes of a connection: the same steps without a connection, for fuzz targets and tests.

use bytes::{Buf, Bytes, BytesMut};

use super::body::{Body, Filtered};
use super::error::HeadError;
use super::head::Head;
use super::scan::HeadScan;
use crate::config::ListenerLimits;

/// A request as pingora reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardedRequest {
    /// The serialized head.
    pub head: Bytes,
    /// The body in its framing, as far as it was received.
    pub body: Vec<u8>,
    /// Whether the body was received to its end.
    pub is_complete: bool,
}

/// What is forwarded of the bytes of a connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forwarded {
    /// The requests in their order.
    pub requests: Vec<ForwardedRequest>,
    /// Why the connection is closed: the reason of a malformed head, or `body`. `None` if it waits for more.
    pub refusal: Option<&'static str>,
}

/// A connection whose bytes arrive in pieces.
struct Reader<'l> {
    limits: &'l ListenerLimits,
    received: BytesMut,
    scan: HeadScan,
    body: Body,
    requests: Vec<ForwardedRequest>,
}

/// Reads the bytes of a connection, which arrive in pieces.
pub fn forward<'b>(pieces: impl IntoIterator<Item = &'b [u8]>, limits: &ListenerLimits) -> Forwarded {
    let mut reader =
        Reader { limits, received: BytesMut::new(), scan: HeadScan::default(), body: Body::Done, requests: Vec::new() };
    let refusal = pieces.into_iter().find_map(|piece| reader.receive(piece).err());
    Forwarded { requests: reader.requests, refusal }
}

impl Reader<'_> {
    fn receive(&mut self, piece: &[u8]) -> Result<(), &'static str> {
        self.received.extend_from_slice(piece);
        while !self.received.is_empty() {
            if !self.body.is_done() {
                self.read_body()?;
            } else if !self.read_head()? {
                break;
            }
        }
        Ok(())
    }

    fn read_body(&mut self) -> Result<(), &'static str> {
        let Some(request) = self.requests.last_mut() else { return Ok(()) };
        let Filtered { kept, consumed, .. } = self.body.filter(&mut self.received).map_err(|_| "body")?;
        request.body.extend_from_slice(&self.received[..kept]);
        request.is_complete = self.body.is_done();
        self.received.advance(consumed);
        Ok(())
    }

    /// Whether the head is complete.
    fn read_head(&mut self) -> Result<bool, &'static str> {
        let span = self.scan.find(&self.received, self.limits).map_err(HeadError::reason)?;
        let Some(span) = span else { return Ok(false) };
        self.scan = HeadScan::default();
        let bytes = self.received.split_to(span.end);
        let Head { bytes: head, body } = Head::parse(&bytes[span.start..], self.limits).map_err(HeadError::reason)?;
        self.requests.push(ForwardedRequest { head, body: Vec::new(), is_complete: body.is_done() });
        self.body = body;
        Ok(true)
    }
}
