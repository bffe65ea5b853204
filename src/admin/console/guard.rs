//! Refuses requests that a page of another site makes a browser send to the console.

use askama::Template;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::Method;

use super::failure::Failure;
use super::page::{Bare, html};
use crate::admin::body::drain;
use crate::admin::browser::Site;

/// A page that loads itself again. The browser does not send the cookie with a link of another site, but with this second request, because
/// it comes from this page.
#[derive(Template)]
#[template(path = "console/from_link.html")]
struct FromLink {
    page: Bare,
    target: String,
}

/// Refuses requests of other sites with 403, except for links, which have no effect. The rules of `serve.http.cors` are for the API only.
pub(super) async fn guard(request: Request, next: Next) -> Response {
    let Site::Other(origin) = Site::of(request.headers()) else { return next.run(request).await };
    if is_link(&request) {
        let target = request.uri().path_and_query().map_or("/console/", |target| target.as_str()).to_owned();
        return html(&FromLink { page: Bare::new("Opening the console"), target });
    }
    tracing::warn!(?origin, path = request.uri().path(), "a request of another site to the console was refused");
    drain(request.into_body()).await;
    Failure::Foreign.into_response()
}

/// Whether a person has followed a link, to a page of its own and not in a frame.
fn is_link(request: &Request) -> bool {
    let has = |name: &str, value: &str| request.headers().get(name).is_some_and(|found| found == value);
    *request.method() == Method::GET
        && has("sec-fetch-mode", "navigate")
        && has("sec-fetch-dest", "document")
        && request.uri().path().starts_with("/console/")
}
