//! Responses that Keygate makes in place of an upstream: redirects and fixed responses of routes.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use http::{HeaderName, HeaderValue, Response, StatusCode};

use super::template::{Values, url_value};
use crate::config::{RouteConfig, Template};

/// A response that Keygate makes in place of an upstream. [`Exchange`](super::Exchange) adds the fields that every response has.
#[derive(Debug)]
pub(super) struct OwnResponse {
    pub(super) status: StatusCode,
    pub(super) fields: Vec<(HeaderName, HeaderValue)>,
    /// `None` for a status without a body and without a length.
    pub(super) body: Option<Bytes>,
}

/// What a route responds with.
#[derive(Debug)]
pub(super) enum RouteResponse {
    Redirect { status: StatusCode, to: Template },
    Fixed { status: StatusCode, content_type: HeaderValue, body: Option<Bytes> },
}

impl RouteResponse {
    /// The response of a route with a validated configuration; `None` if its requests are forwarded.
    pub(super) fn new(config: &RouteConfig) -> Option<Self> {
        if let Some(redirect) = &config.redirect {
            let status = StatusCode::from_u16(redirect.status).ok()?;
            return Some(Self::Redirect { status, to: Template::parse(&redirect.to).ok()? });
        }
        let respond = config.respond.as_ref()?;
        Some(Self::Fixed {
            status: StatusCode::from_u16(respond.status).ok()?,
            content_type: HeaderValue::try_from(&respond.content_type).ok()?,
            body: respond.has_body().then(|| Bytes::from(respond.body.clone())),
        })
    }

    /// The response to a request.
    pub(super) fn make(&self, values: &Values<'_>) -> OwnResponse {
        match self {
            Self::Redirect { status, to } => {
                let fields = vec![(LOCATION, url_value(to, values))];
                OwnResponse { status: *status, fields, body: Some(Bytes::new()) }
            }
            Self::Fixed { status, content_type, body } => {
                let content_type = body.as_ref().filter(|body| !body.is_empty()).map(|_| content_type.clone());
                let fields = content_type.map(|value| (CONTENT_TYPE, value)).into_iter().collect();
                OwnResponse { status: *status, fields, body: body.clone() }
            }
        }
    }
}

impl OwnResponse {
    /// The response with the length of its body.
    pub(super) fn into_response(self) -> Response<Bytes> {
        let length = self.body.as_ref().map(Bytes::len);
        let mut response = Response::new(self.body.unwrap_or_default());
        *response.status_mut() = self.status;
        let fields = response.headers_mut();
        fields.extend(self.fields.into_iter().map(|(name, value)| (Some(name), value)));
        if let Some(length) = length {
            fields.insert(CONTENT_LENGTH, length.into());
        }
        response
    }
}
