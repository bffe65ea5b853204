//! [`Principal`] as an argument of axum handlers.

use axum_core::body::Body;
use axum_core::extract::{FromRequestParts, OptionalFromRequestParts};
use axum_core::response::{IntoResponse, Response};
use http::request::Parts;

use super::principal::Principal;
use crate::id::RequestId;
use crate::pipeline::{Rejection, ResponseForm};
use crate::wire::credential_locations::CredentialLocations;
use crate::wire::problem::{X_REQUEST_ID, rejection_response};

/// The response when a handler needs a [`Principal`] and the request has none: 401, because a route that forgets its layer must not
/// serve anonymous requests.
#[derive(Debug)]
pub struct PrincipalMissing {
    request_id: RequestId,
    form: ResponseForm,
}

impl<S: Sync> FromRequestParts<S> for Principal {
    type Rejection = PrincipalMissing;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, PrincipalMissing> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| {
            let given = parts.headers.get(X_REQUEST_ID).and_then(|value| value.to_str().ok());
            let request_id = given.and_then(RequestId::sane).unwrap_or_else(RequestId::random);
            PrincipalMissing { request_id, form: ResponseForm::of(&parts.headers) }
        })
    }
}

/// `Option<Principal>`: `None` for an anonymous request on a route that allows it.
impl<S: Sync> OptionalFromRequestParts<S> for Principal {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Self::Rejection> {
        Ok(parts.extensions.get::<Self>().cloned())
    }
}

impl IntoResponse for PrincipalMissing {
    fn into_response(self) -> Response {
        let locations = CredentialLocations::standard();
        rejection_response(&Rejection::CredentialMissing, &self.request_id, self.form, locations).map(Body::from)
    }
}
