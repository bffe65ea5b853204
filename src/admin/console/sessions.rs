//! Middleware: opens the session of a request, seals it again while it is used, and sets the headers of all pages.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::{CACHE_CONTROL, SET_COOKIE};
use http::{HeaderName, HeaderValue};

use super::session::{Sealer, Session};
use super::state::Console;

/// A request of the script that keeps a page up to date. It does not count as use of the session.
const LIVE: &str = "x-keygate-console-live";
/// The headers of every page. The policy has no exception for inline styles and scripts. With a stricter referrer policy, browsers would
/// send `Origin: null` with forms.
const HEADERS: [(&str, &str); 5] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; \
         base-uri 'none'; frame-ancestors 'none'",
    ),
    ("referrer-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("x-robots-tag", "noindex"),
];

/// A change of the session by a handler, as an extension of its response.
#[derive(Clone)]
pub(super) enum SessionChange {
    /// Replaces the session.
    Begin(Session),
    /// Ends it.
    End,
}

/// Opens the session, and seals its changes into the cookie.
pub(super) async fn sessions(State(console): State<Console>, mut request: Request, next: Next) -> Response {
    let now = console.now();
    let is_live = request.headers().contains_key(LIVE);
    let session = console.sealer.open(request.headers(), now);
    if let Some(session) = &session {
        request.extensions_mut().insert(session.clone());
    }
    let mut response = next.run(request).await;
    let cookie = match response.extensions_mut().remove::<SessionChange>() {
        Some(SessionChange::Begin(session)) => console.sealer.cookie(&session),
        Some(SessionChange::End) => Some(Sealer::removal()),
        None => session.filter(|_| !is_live).and_then(|session| console.sealer.cookie(&session.used(now)?)),
    };
    let headers = response.headers_mut();
    if let Some(cookie) = cookie {
        headers.append(SET_COOKIE, cookie);
    }
    for (name, value) in HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}
