//! Signing in and out.

use askama::Template;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Redirect, Response};
use http::header::ORIGIN;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use secrecy::SecretString;

use crate::admin::console::api::Api;
use crate::admin::console::failure::{Failure, sentence};
use crate::admin::console::fields::Fields;
use crate::admin::console::model::Caller;
use crate::admin::console::page::{Bare, html_with};
use crate::admin::console::session::{KEY_MAX, Session};
use crate::admin::console::sessions::SessionChange;
use crate::admin::console::signed_in::{Posted, read_form};
use crate::admin::console::state::Console;

const HOME: &str = "/console/";

#[derive(Template)]
#[template(path = "console/sign_in.html")]
struct SignIn {
    page: Bare,
    token: String,
    next: String,
    /// What has happened before; empty for nothing.
    notice: &'static str,
    error: String,
}

/// Shows the form.
pub(super) async fn show(State(console): State<Console>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let session = parts.extensions.get::<Session>();
    if session.is_some_and(|session| session.key().is_some()) {
        return Redirect::to(HOME).into_response();
    }
    let fields = Fields::parse(parts.uri.query().unwrap_or_default().as_bytes());
    let notice = match fields.text("why") {
        "ended" => "The session has ended: the admin key is revoked, rotated or expired. Sign in with another one.",
        "out" => "You have signed out.",
        _ => "",
    };
    form(&console, session, fields.text("next"), notice, String::new())
}

/// Signs in, if the API accepts the admin key.
pub(super) async fn sign_in(State(console): State<Console>, request: Request) -> Result<Response, Failure> {
    let (parts, body) = request.into_parts();
    let session = parts.extensions.get::<Session>();
    let fields = match read_form(&parts, body).await {
        Ok(fields) => fields,
        Err(Failure::Token) => {
            let error = "The form has expired, or the browser does not send cookies. Try again.".to_owned();
            return Ok(form(&console, session, "", "", error));
        }
        Err(failure) => return Err(failure),
    };
    match authenticate(&console, &parts, fields.text("admin_key")).await {
        Ok(key) => {
            let session = Session::begin(Some(key), is_secure(&parts.headers), console.now());
            let mut response = Redirect::to(local(fields.text("next"))).into_response();
            response.extensions_mut().insert(SessionChange::Begin(session));
            Ok(response)
        }
        Err(error) => Ok(form(&console, session, fields.text("next"), "", error)),
    }
}

/// Signs out.
pub(super) async fn sign_out(_: Posted) -> Response {
    let mut response = Redirect::to("/console/sign-in?why=out").into_response();
    response.extensions_mut().insert(SessionChange::End);
    response
}

/// The admin key, if the API accepts it; else what to tell the person.
async fn authenticate(console: &Console, parts: &Parts, key: &str) -> Result<SecretString, String> {
    if key.is_empty() {
        return Err("Enter an admin key.".to_owned());
    }
    if key.len() > KEY_MAX {
        return Err(format!("An admin key for the console has at most {KEY_MAX} bytes."));
    }
    let key: SecretString = key.to_owned().into();
    let api = Api::new(console.api.clone(), parts, &key);
    let caller: Result<Caller, _> = api.get("/keygate/v1/caller").await;
    caller.map(|_| key).map_err(|failure| sentence(&failure.message))
}

/// The page with the form. A browser without a session gets one, for the token.
fn form(console: &Console, session: Option<&Session>, next: &str, notice: &'static str, error: String) -> Response {
    let begun = session.cloned().unwrap_or_else(|| Session::begin(None, false, console.now()));
    let status = if error.is_empty() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    let page = Bare::new("Sign in");
    let template = SignIn { page, token: begun.token().to_owned(), next: local(next).to_owned(), notice, error };
    let mut response = html_with(status, &template);
    if session.is_none() {
        response.extensions_mut().insert(SessionChange::Begin(begun));
    }
    response
}

/// A target in the console; its first page for every other one.
fn local(next: &str) -> &str {
    let is_local = next.starts_with(HOME) && !next.contains(['\\', '\r', '\n']) && next.is_ascii();
    if is_local { next } else { HOME }
}

/// Whether the browser uses TLS, also if that ends in front of the listener.
fn is_secure(headers: &HeaderMap) -> bool {
    headers.get(ORIGIN).is_some_and(|origin| origin.as_bytes().starts_with(b"https://"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_the_console_follow_the_sign_in() {
        for next in ["/console/", "/console/keys?q=a%20b"] {
            assert_eq!(local(next), next);
        }
        for next in
            ["", "/", "//evil.test/", "https://evil.test/console/", "/console", "/console/\\x", "/console/\r\nx"]
        {
            assert_eq!(local(next), HOME, "{next:?}");
        }
    }
}
