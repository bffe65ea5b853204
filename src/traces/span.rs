//! The recorded parts of a trace, as data.

use std::borrow::Cow;

use super::context::{SpanId, TraceContext};

/// The maximum length of a text in an attribute, in bytes. Longer texts are cut.
const TEXT_MAX: usize = 1024;

/// The spans of one request.
#[derive(Debug)]
pub struct Trace {
    /// The trace that the spans belong to.
    pub context: TraceContext,
    /// The value of `tracestate`; empty if there is none.
    pub state: Box<str>,
    /// The spans.
    pub spans: Vec<Span>,
}

/// An operation with a begin and an end.
#[derive(Debug)]
pub struct Span {
    /// Its id.
    pub id: SpanId,
    /// The span that it is a part of; `None` if it is the first one of the trace.
    pub parent: Option<SpanId>,
    /// Whether that span is one of another process.
    pub is_parent_remote: bool,
    /// Its role.
    pub kind: SpanKind,
    /// Its name, from a small set.
    pub name: Cow<'static, str>,
    /// When it began, in nanoseconds since 1970.
    pub start: u64,
    /// When it ended, in nanoseconds since 1970.
    pub end: u64,
    /// Its attributes.
    pub attributes: Vec<Attribute>,
    /// What happened in it.
    pub events: Vec<Event>,
    /// Whether the operation failed.
    pub is_error: bool,
}

/// Something that happened at a point in time.
#[derive(Debug)]
pub struct Event {
    /// Its name, from a small set.
    pub name: &'static str,
    /// When it happened, in nanoseconds since 1970.
    pub time: u64,
    /// Its attributes.
    pub attributes: Vec<Attribute>,
}

/// The name and the value of an attribute.
pub type Attribute = (&'static str, Value);

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Text of at most 1024 bytes.
    Text(Cow<'static, str>),
    /// A whole number.
    Int(i64),
    /// Yes or no.
    Bool(bool),
}

/// The role of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    /// A request that was received.
    Server,
    /// A request that was sent.
    Client,
    /// Work in this process.
    Internal,
}

impl Value {
    /// Text that was received, cut at the maximum length.
    pub fn text(text: &str) -> Self {
        let mut end = text.len().min(TEXT_MAX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        Self::Text(text[..end].to_owned().into())
    }

    /// A number; the largest possible one if it is larger.
    pub fn count(number: impl TryInto<i64>) -> Self {
        Self::Int(number.try_into().unwrap_or(i64::MAX))
    }
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(text.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_cut_between_characters() {
        let Value::Text(text) = Value::text(&"é".repeat(600)) else { panic!("it is text") };
        assert_eq!(text, "é".repeat(512));
        let Value::Text(text) = Value::text(&format!("x{}", "é".repeat(600))) else { panic!("it is text") };
        assert_eq!(text, format!("x{}", "é".repeat(511)));
    }
}
