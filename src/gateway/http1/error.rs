//! What is wrong with a request head.

use crate::wire::Rejection;

/// Why a request head is refused. The connection is closed after the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeadError {
    /// A line does not end with CR LF.
    LineEnd,
    /// The request line is malformed.
    RequestLine,
    /// The target is malformed or in a form that its method does not have.
    Target,
    /// The target is longer than the limit.
    TargetTooLong,
    /// The version is neither HTTP/1.0 nor HTTP/1.1.
    Version,
    /// The method is CONNECT or TRACE.
    Method,
    /// A field line is malformed: its name, a blank before the colon, or a continuation line.
    FieldName,
    /// A field value has a character that is not allowed.
    FieldValue,
    /// There are more fields than the limit.
    TooManyFields,
    /// The head is larger than the limit.
    TooLarge,
    /// There is no `Host`, or more than one, or an invalid one, or one that differs from the target.
    Host,
    /// `Content-Length` is malformed, or there are different ones.
    ContentLength,
    /// `Transfer-Encoding` is not one `chunked`, or there is `Content-Length` as well, or the version is HTTP/1.0.
    TransferEncoding,
    /// The head was not complete in time.
    Timeout,
}

impl HeadError {
    /// The name in metrics.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::LineEnd => "line_end",
            Self::RequestLine => "request_line",
            Self::Target => "target",
            Self::TargetTooLong => "target_too_long",
            Self::Version => "version",
            Self::Method => "method",
            Self::FieldName => "field_name",
            Self::FieldValue => "field_value",
            Self::TooManyFields => "too_many_fields",
            Self::TooLarge => "head_too_large",
            Self::Host => "host",
            Self::ContentLength => "content_length",
            Self::TransferEncoding => "transfer_encoding",
            Self::Timeout => "timeout",
        }
    }

    /// The rejection of the request.
    pub(crate) fn rejection(self) -> Rejection {
        match self {
            Self::LineEnd => Rejection::RequestInvalid("A line of the request head does not end with CR LF."),
            Self::RequestLine => Rejection::RequestInvalid("The request line is malformed."),
            Self::Target => Rejection::RequestInvalid("The request target is malformed."),
            Self::TargetTooLong => Rejection::TargetTooLong,
            Self::Version => Rejection::VersionNotSupported,
            Self::Method => Rejection::MethodNotAllowed,
            Self::FieldName => Rejection::RequestInvalid("A header field is malformed."),
            Self::FieldValue => Rejection::RequestInvalid("The value of a header field has an illegal character."),
            Self::TooManyFields | Self::TooLarge => Rejection::HeadTooLarge,
            Self::Host => Rejection::RequestInvalid("The request needs one valid Host field that matches its target."),
            Self::ContentLength => Rejection::RequestInvalid("Content-Length is malformed or ambiguous."),
            Self::TransferEncoding => Rejection::RequestInvalid("Transfer-Encoding must be chunked, once and alone."),
            Self::Timeout => Rejection::RequestTimeout,
        }
    }
}
