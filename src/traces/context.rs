//! The W3C trace context: `traceparent` and `tracestate` (W3C Trace Context, level 2).

use std::fmt;

/// The only version of `traceparent` that is written.
const VERSION: &str = "00";
/// The length of a `traceparent` of that version in bytes.
const LENGTH: usize = 55;
/// The flag of a trace that is recorded.
const SAMPLED: u8 = 0x01;
/// The flag of a trace id whose last 7 bytes are random.
const RANDOM: u8 = 0x02;

/// The maximum number of members of `tracestate`.
const STATE_MEMBERS_MAX: usize = 32;
/// The maximum size of a `tracestate` that is continued, in bytes over all its fields.
const STATE_MAX: usize = 512;
/// The maximum length of a key and of a value in `tracestate`.
const STATE_TEXT_MAX: usize = 256;

/// The id of a trace: 16 bytes, not all 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(pub [u8; 16]);

/// The id of a span: 8 bytes, not all 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId(pub [u8; 8]);

/// What one participant of a trace tells the next one: the trace, the span that calls, and whether the trace is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace.
    pub trace_id: TraceId,
    /// The calling span.
    pub span_id: SpanId,
    /// The flags of the trace. Other flags than those of level 2 are 0.
    flags: u8,
}

impl TraceId {
    /// A random id.
    pub fn random() -> Self {
        loop {
            let id: [u8; 16] = rand::random();
            if id != [0; 16] {
                return Self(id);
            }
        }
    }

    /// The last 56 bits, which are random if the id is.
    pub(super) fn randomness(self) -> u64 {
        self.0[9..].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}

impl SpanId {
    /// A random id.
    pub fn random() -> Self {
        loop {
            let id: [u8; 8] = rand::random();
            if id != [0; 8] {
                return Self(id);
            }
        }
    }
}

impl TraceContext {
    /// The context of the first span of a trace.
    pub fn root(trace_id: TraceId, is_sampled: bool) -> Self {
        let flags = if is_sampled { SAMPLED } else { 0 };
        Self { trace_id, span_id: SpanId::random(), flags }
    }

    /// Reads the value of a `traceparent` field. `None` if it is not valid; the sender's trace is not continued then.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (known, rest) = value.split_at_checked(LENGTH)?;
        let [version, trace_id, span_id, flags] = split(known)?;
        let version: [u8; 1] = hex(version)?;
        // A later version may have more after another dash. The value ff is no version.
        let is_complete = match version {
            [0] => rest.is_empty(),
            [0xff] => false,
            _ => rest.is_empty() || rest[0] == b'-',
        };
        let (trace_id, span_id) = (TraceId(hex(trace_id)?), SpanId(hex(span_id)?));
        let [flags] = hex::<1>(flags)?;
        let is_valid = is_complete && trace_id.0 != [0; 16] && span_id.0 != [0; 8];
        is_valid.then_some(Self { trace_id, span_id, flags: flags & (SAMPLED | RANDOM) })
    }

    /// The same trace with another calling span.
    #[must_use]
    pub fn with_span(self, span_id: SpanId) -> Self {
        Self { span_id, ..self }
    }

    /// Whether the trace is recorded.
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The flags, as in `traceparent`.
    pub fn flags(&self) -> u8 {
        self.flags
    }
}

impl fmt::Display for TraceContext {
    /// The value of `traceparent`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{VERSION}-{}-{}-{:02x}", self.trace_id, self.span_id, self.flags)
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

fn write_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut text = [0; 32];
    let text = &mut text[..bytes.len() * 2];
    // The text has the length that is needed.
    let _ = hex::encode_to_slice(bytes, text);
    f.write_str(std::str::from_utf8(text).unwrap_or_default())
}

/// The four parts of a `traceparent` of version 00.
fn split(value: &[u8]) -> Option<[&[u8]; 4]> {
    let has_dashes = [2, 35, 52].iter().all(|at| value[*at] == b'-');
    has_dashes.then(|| [&value[..2], &value[3..35], &value[36..52], &value[53..]])
}

/// The bytes of hexadecimal digits in lower case.
fn hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    if digits.iter().any(u8::is_ascii_uppercase) {
        return None;
    }
    let mut bytes = [0; N];
    hex::decode_to_slice(digits, &mut bytes).ok()?;
    Some(bytes)
}

/// Whether the values of all `tracestate` fields of a request are one valid list that is small enough to be continued.
pub fn is_valid_state<'v>(values: impl Iterator<Item = &'v [u8]>) -> bool {
    let (mut size, mut keys) = (0, Vec::new());
    for value in values {
        size += value.len();
        if size > STATE_MAX {
            return false;
        }
        for member in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty()) {
            let Some(at) = member.iter().position(|byte| *byte == b'=') else { return false };
            let (key, value) = (&member[..at], &member[at + 1..]);
            if !is_state_key(key) || !is_state_value(value) || keys.contains(&key) || keys.len() == STATE_MEMBERS_MAX {
                return false;
            }
            keys.push(key);
        }
    }
    true
}

fn is_state_key(key: &[u8]) -> bool {
    let is_legal = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/@".contains(byte);
    let begins_legally = key.first().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    begins_legally && key.len() <= STATE_TEXT_MAX && key.iter().all(is_legal)
}

fn is_state_value(value: &[u8]) -> bool {
    let is_legal = |byte: &u8| (b' '..=b'~').contains(byte) && *byte != b',' && *byte != b'=';
    !value.is_empty() && value.len() <= STATE_TEXT_MAX && value.iter().all(is_legal)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn valid_parent_is_read_and_written() {
        let context = TraceContext::parse(PARENT.as_bytes()).unwrap();
        assert_eq!(context.trace_id.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(context.span_id.to_string(), "00f067aa0ba902b7");
        assert!(context.is_sampled());
        assert_eq!(context.to_string(), PARENT);
        let unsampled = PARENT.replace("-01", "-00");
        assert!(!TraceContext::parse(unsampled.as_bytes()).unwrap().is_sampled());
    }

    #[test]
    fn unknown_flags_are_removed() {
        for (flags, written) in [("03", "03"), ("ff", "03"), ("04", "00")] {
            let context = TraceContext::parse(PARENT.replace("-01", &format!("-{flags}")).as_bytes()).unwrap();
            assert!(context.to_string().ends_with(written), "{context}");
        }
    }

    #[test]
    fn later_version_is_read_as_far_as_it_is_known() {
        let later = PARENT.replacen("00", "cc", 1);
        for value in [later.clone(), format!("{later}-what-comes-later")] {
            assert_eq!(TraceContext::parse(value.as_bytes()).unwrap().to_string(), PARENT);
        }
        assert_eq!(TraceContext::parse(format!("{later}.x").as_bytes()), None);
    }

    #[test]
    fn malformed_parent_is_rejected() {
        for value in [
            "",
            "00",
            &PARENT[..54],
            &format!("{PARENT}-"),
            &format!("{PARENT}0"),
            &format!(" {PARENT}"),
            &PARENT.to_ascii_uppercase(),
            &PARENT.replacen("00", "ff", 1),
            &PARENT.replacen("00", "0g", 1),
            &PARENT.replace('-', "_"),
            &PARENT.replace("-01", "-0x"),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473\u{e9}-00f067aa0ba902b7-0",
        ] {
            assert_eq!(TraceContext::parse(value.as_bytes()), None, "{value}");
        }
    }

    fn is_valid(values: &[&str]) -> bool {
        is_valid_state(values.iter().map(|value| value.as_bytes()))
    }

    #[test]
    fn state_is_a_list_of_distinct_keys() {
        let many = |count: usize| (0..count).map(|number| format!("k{number}=v")).collect::<Vec<_>>().join(",");
        for (values, expected) in [
            (&[][..], true),
            (&[""], true),
            (&["rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"], true),
            (&["a=1", "b=2 , c=3,,"], true),
            (&["tenant@system=x y"], true),
            (&["0a=1"], true),
            (&[&many(32)], true),
            (&[&many(33)], false),
            (&["a=1,a=2"], false),
            (&["a=1", "a=2"], false),
            (&["a"], false),
            (&["a="], false),
            (&["=1"], false),
            (&["A=1"], false),
            (&["@a=1"], false),
            (&["a=1=2"], false),
            (&["a=\t1\u{e9}"], false),
            (&[&format!("a={}", "v".repeat(256))], true),
            (&[&format!("a={}", "v".repeat(257))], false),
            (&[&format!("a={}", "v".repeat(250)), &format!("b={}", "v".repeat(250)), "c=1234567"], false),
        ] {
            assert_eq!(is_valid(values), expected, "{values:?}");
        }
    }

    proptest! {
        #[test]
        fn random_bytes_are_no_parent(value in prop::collection::vec(any::<u8>(), 0..80)) {
            prop_assert_eq!(TraceContext::parse(&value), None);
        }

        #[test]
        fn every_context_can_be_read_again(trace in 1_u128.., span in 1_u64.., is_sampled: bool) {
            let root = TraceContext::root(TraceId(trace.to_be_bytes()), is_sampled);
            let context = root.with_span(SpanId(span.to_be_bytes()));
            prop_assert_eq!(TraceContext::parse(context.to_string().as_bytes()), Some(context));
        }
    }
}
