//! Extractors of handlers: the person who has signed in, and the forms of that person.

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Request};
use http::Method;
use http::header::CONTENT_TYPE;
use http::request::Parts;

use super::api::Api;
use super::failure::Failure;
use super::fields::Fields;
use super::model::Caller;
use super::multipart;
use super::page::{Page, Section};
use super::session::Session;
use super::state::Console;
use crate::admin::body::{drain, read_body};
use crate::clock::Timestamp;

/// The maximum size of a form in bytes: that of a message of the API.
const FORM_MAX: usize = 4_194_304;

/// The person at the browser, with an admin key that the API has just accepted.
pub(super) struct SignedIn {
    pub(super) api: Api,
    pub(super) caller: Caller,
    pub(super) now: Timestamp,
    token: String,
}

/// A form of that person, with the token of the session.
pub(super) struct Posted {
    pub(super) who: SignedIn,
    pub(super) fields: Fields,
}

impl SignedIn {
    /// The frame of a page.
    pub(super) fn page(&self, section: Section, title: impl Into<String>) -> Page {
        Page::new(title.into(), section, self.caller.clone(), self.token.clone())
    }
}

impl FromRequestParts<Console> for SignedIn {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, console: &Console) -> Result<Self, Failure> {
        let session = parts.extensions.get::<Session>();
        let Some((session, key)) = session.and_then(|session| Some((session, session.key()?))) else {
            return Err(Failure::SignedOut(target(parts)));
        };
        let api = Api::new(console.api.clone(), parts, key);
        let caller: Caller = api.get("/keygate/v1/caller").await?;
        Ok(Self { api, caller, now: console.now(), token: session.token().to_owned() })
    }
}

impl FromRequest<Console> for Posted {
    type Rejection = Failure;

    async fn from_request(request: Request, console: &Console) -> Result<Self, Failure> {
        let (mut parts, body) = request.into_parts();
        match SignedIn::from_request_parts(&mut parts, console).await {
            Ok(who) => {
                let fields = read_form(&parts, body).await?;
                Ok(Self { who, fields })
            }
            Err(failure) => {
                drain(body).await;
                Err(failure)
            }
        }
    }
}

/// Reads a form, which must carry the token of the session.
///
/// # Errors
/// [`Failure::Token`] without the token; [`Failure::Form`] for a form that cannot be read.
pub(super) async fn read_form(parts: &Parts, body: Body) -> Result<Fields, Failure> {
    let bytes = read_body(body, FORM_MAX).await.map_err(|error| Failure::Form(error.message(FORM_MAX).into_owned()))?;
    let content_type = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let fields = match multipart::boundary(content_type) {
        Some(boundary) => Fields(multipart::parse(&bytes, &boundary).map_err(|error| Failure::Form(error.to_owned()))?),
        None => Fields::parse(&bytes),
    };
    let session = parts.extensions.get::<Session>();
    if session.is_some_and(|session| session.has_token(fields.raw("token"))) { Ok(fields) } else { Err(Failure::Token) }
}

/// The page that is shown after signing in: that of the request, but no form.
fn target(parts: &Parts) -> String {
    let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
    if parts.method == Method::GET { target.to_owned() } else { "/console/".to_owned() }
}
