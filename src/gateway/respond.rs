//! Responses that Keygate makes itself. They are written completely, so that the client's connection can be reused.

use std::time::Duration;

use bytes::Bytes;
use http::header::EXPECT;
use http::{Method, Response};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;

use super::stopping::announce_end;

/// Maximum size in bytes of an unread request body that is drained to keep the connection.
pub(super) const MAX_DRAIN: u64 = 64 * 1024;

/// Time limit for draining the body of a rejected request.
pub(super) const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// Writes a response in place of the upstream's.
///
/// # Errors
/// When the client has closed the connection.
pub(super) async fn respond(session: &mut Session, response: Response<Bytes>) -> pingora::Result<()> {
    // A connection can be reused only after the request has been read completely.
    if !is_drainable(session) || session.drain_request_body().await.is_err() {
        session.set_keepalive(None);
    }
    announce_end(session);
    let (parts, body) = response.into_parts();
    let head = ResponseHeader::from(parts);
    let bodiless = session.req_header().method == Method::HEAD;
    session.write_response_header(Box::new(head), bodiless).await?;
    if !bodiless {
        session.write_response_body(Some(body), true).await?;
    }
    Ok(())
}

/// Whether the rest of the request is short enough to drain. A client that waits for `100 Continue` may or may not send its body, so
/// the framing of its connection is unknown.
fn is_drainable(session: &Session) -> bool {
    let headers = &session.req_header().headers;
    let length = headers.get(http::header::CONTENT_LENGTH).map(|value| value.to_str().ok()?.parse::<u64>().ok());
    let bounded = match length {
        Some(length) => length.is_some_and(|length| length <= MAX_DRAIN),
        None => !headers.contains_key(http::header::TRANSFER_ENCODING),
    };
    bounded && !headers.contains_key(EXPECT)
}
