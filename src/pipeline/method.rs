//! The names of methods in labels and in names of spans. A client can send any method, so all that are not standard have one name.

/// The name of the methods that are not standard (OpenTelemetry semantic conventions for HTTP).
const OTHER: &str = "_OTHER";

/// The standard methods: RFC 9110 section 9, and `PATCH` of RFC 5789.
const STANDARD: [&str; 9] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "CONNECT", "TRACE"];

/// The name of a method.
pub(super) fn method_name(method: &str) -> &'static str {
    STANDARD.iter().find(|standard| **standard == method).copied().unwrap_or(OTHER)
}

/// Whether a method is a standard one.
pub(super) fn is_standard(method: &str) -> bool {
    STANDARD.contains(&method)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_that_are_not_standard_have_one_name() {
        for (method, name) in [("GET", "GET"), ("get", "_OTHER"), ("PURGE", "_OTHER"), ("", "_OTHER")] {
            assert_eq!((method_name(method), is_standard(method)), (name, name != "_OTHER"));
        }
    }
}
