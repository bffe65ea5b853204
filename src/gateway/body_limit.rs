//! The limit of a request body whose size is not announced, or not by a number that the pipeline has seen.

use pingora::{Error, ErrorSource, ErrorType};

const CONTENT_TOO_LARGE: u16 = 413;

/// How many bytes of the request body may still be forwarded.
#[derive(Debug, Default)]
pub(super) struct BodyLimit {
    /// `None` if the body is not limited.
    left: Option<u64>,
}

impl BodyLimit {
    /// A limit in bytes. Each attempt to forward a request begins with a new one, because what was sent before is sent again.
    pub(super) fn new(max: Option<u64>) -> Self {
        Self { left: max }
    }

    /// Counts a part of the body.
    ///
    /// # Errors
    /// When the limit is exceeded.
    pub(super) fn take(&mut self, length: usize) -> pingora::Result<()> {
        let Some(left) = &mut self.left else { return Ok(()) };
        match left.checked_sub(length as u64) {
            Some(rest) => {
                *left = rest;
                Ok(())
            }
            None => Err(Error::explain(
                ErrorType::HTTPStatus(CONTENT_TOO_LARGE),
                "the request body is larger than the route allows",
            )
            .into_down()),
        }
    }
}

/// Whether [`BodyLimit::take`] has returned an error.
pub(super) fn is_body_too_large(error: &Error) -> bool {
    error.etype() == &ErrorType::HTTPStatus(CONTENT_TOO_LARGE) && error.esource() == &ErrorSource::Downstream
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_up_to_the_limit_pass() {
        let mut limit = BodyLimit::new(Some(5));
        assert!([3, 0, 2, 0].into_iter().all(|length| limit.take(length).is_ok()));
        assert!(is_body_too_large(&limit.take(1).unwrap_err()));
        assert!(BodyLimit::new(Some(0)).take(0).is_ok() && BodyLimit::new(Some(0)).take(1).is_err());
        assert!(BodyLimit::default().take(usize::MAX).is_ok());
    }
}
