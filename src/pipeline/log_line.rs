//! Lines of the access log: JSON, text or a template. They are written without `tracing`, whose formatting costs several times as much.

use std::cell::RefCell;
use std::fmt::Display;
use std::io::Write;
use std::net::IpAddr;
use std::sync::Arc;

use chrono::SecondsFormat;
use http::Version;

use crate::clock::{Clock, SystemClock, Timestamp};
use crate::config::{AccessLogField, AccessLogForm, AccessLogVariable, LogFormat, TemplatePart};
use crate::id::KeyId;
use crate::telemetry::LogOutput;
use crate::traces::TraceId;

/// An output of the access log, and the form of its lines.
#[derive(Debug, Clone)]
pub struct AccessLogSink {
    /// The output.
    pub output: Arc<LogOutput>,
    /// The form of lines.
    pub form: Arc<AccessLogForm>,
    /// Whether the output is the log of the process. Then lines in a format of the log have a level, a message and a target, as its other
    /// lines do.
    pub is_process_log: bool,
}

/// The value of a field of a line.
#[derive(Debug, Clone, Copy)]
pub(super) enum LogValue<'a> {
    Text(&'a str),
    Number(u64),
    Flag(bool),
    Version(Version),
    Key(KeyId),
    Trace(TraceId),
    Address(IpAddr),
}

/// What a line is made from.
pub(super) trait LineFields {
    /// Whether a field is selected.
    fn has(&self, field: AccessLogField) -> bool;

    /// The value of a field; `None` if it has none.
    fn value(&self, field: AccessLogField) -> Option<LogValue<'_>>;
}

/// How a value is written.
#[derive(Debug, Clone, Copy)]
enum Style {
    Json,
    /// Quoted if it would not be one word.
    Text,
    /// Quoted.
    QuotedText,
    /// Between texts of a template, which may have quotes around it.
    Template,
}

/// The time of the last line of this thread, as text up to the seconds: it is seldom another one.
struct Second {
    timestamp: i64,
    text: String,
}

/// The target of the events of the access log.
pub(super) const ACCESS_LOG: &str = "keygate::access";
/// The message of an event.
const MESSAGE: &str = "request served";

thread_local! {
    static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static SECOND: RefCell<Second> = const { RefCell::new(Second { timestamp: i64::MIN, text: String::new() }) };
}

impl AccessLogSink {
    /// Writes the line of a request.
    pub(super) fn write(&self, request: &impl LineFields) {
        LINE.with_borrow_mut(|line| {
            line.clear();
            append_line(line, self, request, SystemClock.now());
            self.output.write(line);
        });
    }
}

fn append_line(line: &mut Vec<u8>, sink: &AccessLogSink, request: &impl LineFields, time: Timestamp) {
    let is_event = sink.is_process_log;
    match &*sink.form {
        AccessLogForm::Format(LogFormat::Json) => {
            line.extend_from_slice(b"{\"timestamp\":\"");
            append_time(line, time);
            line.push(b'"');
            if is_event {
                line.extend_from_slice(b",\"level\":\"INFO\",\"message\":\"");
                line.extend_from_slice(MESSAGE.as_bytes());
                line.push(b'"');
            }
            for (field, value) in fields(request) {
                line.extend_from_slice(b",\"");
                line.extend_from_slice(field.name().as_bytes());
                line.extend_from_slice(b"\":");
                append(line, &value, Style::Json);
            }
            if is_event {
                line.extend_from_slice(b",\"target\":\"");
                line.extend_from_slice(ACCESS_LOG.as_bytes());
                line.push(b'"');
            }
            line.push(b'}');
        }
        AccessLogForm::Format(LogFormat::Text) => {
            append_time(line, time);
            if is_event {
                line.extend_from_slice(b"  INFO ");
                line.extend_from_slice(ACCESS_LOG.as_bytes());
                line.extend_from_slice(b": ");
                line.extend_from_slice(MESSAGE.as_bytes());
            }
            for (field, value) in fields(request) {
                line.push(b' ');
                line.extend_from_slice(field.name().as_bytes());
                line.push(b'=');
                append(line, &value, if is_event { Style::QuotedText } else { Style::Text });
            }
        }
        AccessLogForm::Template(parts) => {
            for part in parts {
                match part {
                    TemplatePart::Text(text) => line.extend_from_slice(text.as_bytes()),
                    TemplatePart::Variable(AccessLogVariable::Time) => append_time(line, time),
                    TemplatePart::Variable(AccessLogVariable::Field(field)) => match request.value(*field) {
                        Some(value) => append(line, &value, Style::Template),
                        None => line.push(b'-'),
                    },
                }
            }
        }
    }
    line.push(b'\n');
}

/// The selected fields that have a value.
fn fields(request: &impl LineFields) -> impl Iterator<Item = (AccessLogField, LogValue<'_>)> {
    let selected = AccessLogField::ALL.into_iter().filter(|field| request.has(*field));
    selected.filter_map(|field| request.value(field).map(|value| (field, value)))
}

/// A time in UTC with microseconds (RFC 3339).
fn append_time(line: &mut Vec<u8>, time: Timestamp) {
    SECOND.with_borrow_mut(|second| {
        if second.timestamp != time.timestamp() {
            let text = time.to_rfc3339_opts(SecondsFormat::Secs, true);
            *second = Second { timestamp: time.timestamp(), text: text.trim_end_matches('Z').to_owned() };
        }
        line.extend_from_slice(second.text.as_bytes());
    });
    // A leap second has more than a million of them.
    append_shown(line, format_args!(".{:06}Z", time.timestamp_subsec_micros().min(999_999)));
}

fn append(line: &mut Vec<u8>, value: &LogValue<'_>, style: Style) {
    match value {
        LogValue::Number(number) => line.extend_from_slice(itoa::Buffer::new().format(*number).as_bytes()),
        LogValue::Flag(flag) => append_shown(line, flag),
        LogValue::Text(text) => append_text(line, text, style),
        LogValue::Version(version) => append_word(line, format_args!("{version:?}"), style),
        LogValue::Key(key) => append_word(line, key, style),
        LogValue::Trace(trace) => append_word(line, trace, style),
        LogValue::Address(address) => append_word(line, address, style),
    }
}

/// Appends a value that contains neither spaces nor quotes.
fn append_word(line: &mut Vec<u8>, value: impl Display, style: Style) {
    let quote: &[u8] = if matches!(style, Style::Json) { b"\"" } else { b"" };
    line.extend_from_slice(quote);
    append_shown(line, value);
    line.extend_from_slice(quote);
}

fn append_shown(line: &mut Vec<u8>, value: impl Display) {
    // Writing to memory cannot fail.
    let _ = write!(line, "{value}");
}

/// Appends a text, of which a client may have chosen every character. No text ends the line or the value.
fn append_text(line: &mut Vec<u8>, text: &str, style: Style) {
    let is_plain = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\' && byte != 0x7f;
    let is_word = |byte: u8| byte > b' ' && byte != b'=';
    let is_quoted = match style {
        Style::Json | Style::QuotedText => true,
        Style::Text => text.is_empty() || !text.bytes().all(|byte| is_plain(byte) && is_word(byte)),
        Style::Template => false,
    };
    if is_quoted {
        line.push(b'"');
    }
    if text.bytes().all(is_plain) {
        line.extend_from_slice(text.as_bytes());
    } else {
        for byte in text.bytes() {
            match (style, byte) {
                _ if is_plain(byte) => line.push(byte),
                (Style::Json | Style::Text | Style::QuotedText, b'"' | b'\\') => line.extend_from_slice(&[b'\\', byte]),
                (Style::Json | Style::Text | Style::QuotedText, _) => append_shown(line, format_args!("\\u{byte:04x}")),
                (Style::Template, _) => append_shown(line, format_args!("\\x{byte:02X}")),
            }
        }
    }
    if is_quoted {
        line.push(b'"');
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(text: &str, style: Style) -> String {
        let mut line = Vec::new();
        append_text(&mut line, text, style);
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn text_never_ends_its_value() {
        for (text, shown, in_template) in [
            ("a/b", "a/b", "a/b"),
            ("", "\"\"", ""),
            ("a b", "\"a b\"", "a b"),
            ("a=b", "\"a=b\"", "a=b"),
            ("a\"b\\", r#""a\"b\\""#, r"a\x22b\x5C"),
            ("a\r\nb\t\u{7f}é", "\"a\\u000d\\u000ab\\u0009\\u007fé\"", "a\\x0D\\x0Ab\\x09\\x7Fé"),
        ] {
            assert_eq!(written(text, Style::Text), shown);
            assert_eq!(written(text, Style::Template), in_template);
        }
    }

    #[test]
    fn time_has_microseconds() {
        let mut shown = Vec::new();
        for text in ["2026-11-26T15:00:00.000001Z", "2026-11-26T15:00:00.999999Z", "2026-11-26T15:00:01.000000Z"] {
            append_time(&mut shown, text.parse().unwrap());
            assert_eq!(String::from_utf8_lossy(&shown), text);
            shown.clear();
        }
    }

    proptest! {
        #[test]
        fn every_text_is_valid_json(text: String) {
            let shown = written(&text, Style::Json);
            prop_assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), text.clone());
            let shown = written(&text, Style::Text);
            if shown.starts_with('"') {
                prop_assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), text);
            } else {
                prop_assert_eq!(shown, text);
            }
        }
    }
}
