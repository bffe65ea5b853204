//! Why a request has no page of its own: redirects to the sign-in, and pages of errors.

use askama::Template;
use axum::response::{IntoResponse, Redirect, Response};
use http::StatusCode;

use super::api::ApiFailure;
use super::page::{Bare, html_with};
use super::sessions::SessionChange;

/// Why a request has no page of its own.
pub(super) enum Failure {
    /// No person has signed in, or the session has ended. The value is the target of the request.
    SignedOut(String),
    /// The admin key of the session is not accepted any more.
    Ended,
    /// A form does not carry the token of the session.
    Token,
    /// A page of another site made the request.
    Foreign,
    /// A form cannot be read.
    Form(String),
    /// A call of the API was not successful.
    Api(ApiFailure),
}

#[derive(Template)]
#[template(path = "console/error.html")]
struct ErrorPage {
    page: Bare,
    heading: &'static str,
    message: String,
}

impl From<ApiFailure> for Failure {
    fn from(failure: ApiFailure) -> Self {
        if failure.is_unauthenticated() { Self::Ended } else { Self::Api(failure) }
    }
}

impl Failure {
    /// The failure of a page that does not exist.
    pub(super) fn not_found() -> Self {
        Self::Api(ApiFailure::not_found())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        match self {
            Self::SignedOut(target) => {
                let query = form_urlencoded::Serializer::new(String::new()).append_pair("next", &target).finish();
                Redirect::to(&format!("/console/sign-in?{query}")).into_response()
            }
            Self::Ended => {
                let mut response = Redirect::to("/console/sign-in?why=ended").into_response();
                response.extensions_mut().insert(SessionChange::End);
                response
            }
            Self::Token => error_page(
                StatusCode::FORBIDDEN,
                "This form has expired",
                "It belongs to another session. Nothing was changed. Go back, load the page again and repeat the step.",
            ),
            Self::Foreign => error_page(
                StatusCode::FORBIDDEN,
                "Refused",
                "A page of another site has made this request. Nothing was changed.",
            ),
            Self::Form(message) => error_page(StatusCode::UNPROCESSABLE_ENTITY, "The form cannot be read", message),
            Self::Api(failure) => {
                let heading = match failure.status {
                    StatusCode::NOT_FOUND => "Not found",
                    StatusCode::FORBIDDEN => "Not allowed",
                    StatusCode::TOO_MANY_REQUESTS => "Too many requests",
                    status if status.is_client_error() => "This did not work",
                    _ => "Keygate cannot answer now",
                };
                error_page(failure.status, heading, sentence(&failure.message))
            }
        }
    }
}

fn error_page(status: StatusCode, heading: &'static str, message: impl Into<String>) -> Response {
    let template = ErrorPage { page: Bare::new(heading), heading, message: message.into() };
    html_with(status, &template)
}

/// A message of the API as a sentence.
pub(super) fn sentence(message: &str) -> String {
    let mut characters = message.chars();
    let first = characters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    let end = if message.ends_with('.') { "" } else { "." };
    format!("{first}{}{end}", characters.as_str())
}
