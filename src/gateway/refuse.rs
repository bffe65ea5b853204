//! ChargeResults that Keygate gives itself. Written whole, so that the client's connection stays usable.

use bytes::Bytes;
use http::header::EXPECT;
use http::{Method, Response};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;

/// How much of an unread body is worth reading for the sake of the connection, in bytes.
const DRAIN_MAX: u64 = 64 * 1024;

/// Writes an answer in place of the upstream's.
///
/// # Errors
/// When the client has gone away.
pub(super) async fn answer(session: &mut Session, response: Response<Bytes>) -> pingora::Result<()> {
    // Only a connection whose request has been read whole can carry another one.
    if !drains_cheaply(session) || session.drain_request_body().await.is_err() {
        session.set_keepalive(None);
    }
    let (parts, body) = response.into_parts();
    let head = ResponseHeader::from(parts);
    let bodiless = session.req_header().method == Method::HEAD;
    session.write_response_header(Box::new(head), bodiless).await?;
    if !bodiless {
        session.write_response_body(Some(body), true).await?;
    }
    Ok(())
}

/// Whether the rest of the request is short enough to read over. Who waits for `100 Continue` has sent nothing yet and
/// may or may not go on to, so that connection cannot be trusted to be in step.
fn drains_cheaply(session: &Session) -> bool {
    let headers = &session.req_header().headers;
    let length = headers.get(http::header::CONTENT_LENGTH).map(|value| value.to_str().ok()?.parse::<u64>().ok());
    let bounded = match length {
        Some(length) => length.is_some_and(|length| length <= DRAIN_MAX),
        None => !headers.contains_key(http::header::TRANSFER_ENCODING),
    };
    bounded && !headers.contains_key(EXPECT)
}
