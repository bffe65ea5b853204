//! Why requests failed, in labels and attributes (`error.type` of the OpenTelemetry semantic conventions).

/// The status that is logged and counted when the client closed the connection before the response, as nginx does.
pub(super) const CLIENT_CLOSED_REQUEST: u16 = 499;

/// Why a request failed, from a small set.
pub(super) enum ErrorType {
    /// The code of a rejection.
    Code(&'static str),
    /// The status of the upstream's response.
    Status(u16),
}

/// Why a request failed; `None` unless the server is the one that failed, or the client closed the connection.
pub(super) fn error_type(status: u16, rejection: Option<&'static str>) -> Option<ErrorType> {
    match (status, rejection) {
        (CLIENT_CLOSED_REQUEST, None) => Some(ErrorType::Code("client_closed_request")),
        (500.., Some(code)) => Some(ErrorType::Code(code)),
        (500.., None) => Some(ErrorType::Status(status)),
        _ => None,
    }
}
