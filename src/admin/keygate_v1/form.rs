//! The form of an introspection request (RFC 7662 section 2.1): `application/x-www-form-urlencoded`, at most 64 KiB.

use std::borrow::Cow;
use std::net::IpAddr;

use axum::extract::{FromRequest, Request};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use percent_encoding::percent_decode;

use super::oauth_error::OAuthError;
use crate::admin::body::{drain, read_body};
use crate::admin::v2alpha1::verify::check_audiences;

const FORM: &str = "application/x-www-form-urlencoded";
const FORM_MAX: usize = 65_536;

/// An introspection request. Has no `Debug`, because it holds a credential.
pub(in crate::admin) struct IntrospectionForm {
    /// The credential; not empty.
    pub(super) token: String,
    /// Whether the use is charged to the rate limit of the key. An extension.
    pub(super) charge: bool,
    /// The address of the client that presented the credential. An extension.
    pub(super) client_ip: Option<IpAddr>,
    /// The audiences of which the credential must name one; none is required if empty. An extension.
    pub(super) audiences: Vec<String>,
}

/// The parameters in the order of the body.
type Parameters<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

impl IntrospectionForm {
    /// Parses a body. A parameter without a value counts as omitted, and unknown parameters are ignored (RFC 6749 section 3.1).
    fn parse(body: &[u8]) -> Result<Self, OAuthError> {
        // The parser replaces invalid UTF-8, which would make another token of it.
        if percent_decode(body).decode_utf8().is_err() {
            return Err(OAuthError::invalid_request("the form is not UTF-8"));
        }
        let parameters: Parameters<'_> = form_urlencoded::parse(body).collect();
        // Accepted and ignored: the kind of a credential follows from its shape.
        single(&parameters, "token_type_hint")?;
        Ok(Self {
            token: single(&parameters, "token")?
                .map(str::to_owned)
                .ok_or_else(|| OAuthError::invalid_request("token is missing"))?,
            charge: charge(&parameters)?,
            client_ip: client_ip(&parameters)?,
            audiences: audiences(&parameters)?,
        })
    }
}

/// The value of a parameter that may be given once; `None` if it is omitted or has no value.
fn single<'a>(parameters: &'a Parameters<'_>, name: &'static str) -> Result<Option<&'a str>, OAuthError> {
    let mut values = parameters.iter().filter(|(given, _)| given == name).map(|(_, value)| &**value);
    let value = values.next().filter(|value| !value.is_empty());
    if values.next().is_some() {
        return Err(OAuthError::invalid_request(format!("{name} is given more than once")));
    }
    Ok(value)
}

fn charge(parameters: &Parameters<'_>) -> Result<bool, OAuthError> {
    match single(parameters, "charge")? {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(OAuthError::invalid_request("charge must be true or false")),
    }
}

fn client_ip(parameters: &Parameters<'_>) -> Result<Option<IpAddr>, OAuthError> {
    let address = single(parameters, "client_ip")?.map(str::parse::<IpAddr>).transpose();
    let address = address.map_err(|_| OAuthError::invalid_request("client_ip must be an IP address without a port"))?;
    Ok(address.map(|address| address.to_canonical()))
}

/// The audiences. As in RFC 8693 section 2.1, the parameter may be repeated.
fn audiences(parameters: &Parameters<'_>) -> Result<Vec<String>, OAuthError> {
    let values = parameters.iter().filter(|(name, value)| name == "audience" && !value.is_empty());
    let audiences: Vec<String> = values.map(|(_, value)| value.clone().into_owned()).collect();
    check_audiences("audience", &audiences).map_err(|error| OAuthError::invalid_request(error.message().to_owned()))?;
    Ok(audiences)
}

/// Whether the content type is that of a form; its parameters, such as `charset`, are ignored.
fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(FORM)
}

impl<S: Send + Sync> FromRequest<S> for IntrospectionForm {
    type Rejection = OAuthError;

    async fn from_request(request: Request, _: &S) -> Result<Self, OAuthError> {
        let is_form = is_form(request.headers());
        let body = request.into_body();
        if !is_form {
            drain(body).await;
            return Err(OAuthError::unsupported_media_type(
                "the content type must be application/x-www-form-urlencoded",
            ));
        }
        let body = read_body(body, FORM_MAX).await.map_err(|error| OAuthError::body(error, FORM_MAX))?;
        Self::parse(&body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invalid(body: &str) -> bool {
        IntrospectionForm::parse(body.as_bytes()).is_err()
    }

    #[test]
    fn parameters_are_decoded_and_unknown_ones_ignored() {
        let body = "client_secret=x&token=a%2Bb+c&token_type_hint=access_token&charge=true&client_ip=::ffff:10.0.0.1\
                    &audience=one&audience=&audience=two&unknown=1&unknown=2";
        let form = IntrospectionForm::parse(body.as_bytes()).unwrap();
        assert_eq!((form.token.as_str(), form.charge), ("a+b c", true));
        assert_eq!(form.client_ip, "10.0.0.1".parse().ok());
        assert_eq!(form.audiences, ["one", "two"]);
    }

    #[test]
    fn parameter_without_a_value_is_omitted() {
        let form = IntrospectionForm::parse(b"token=t&charge=&client_ip=&audience=&token_type_hint").unwrap();
        assert_eq!((form.charge, form.client_ip), (false, None));
        assert!(form.audiences.is_empty());
    }

    #[test]
    fn missing_repeated_and_malformed_parameters_are_rejected() {
        for body in [
            "",
            "token",
            "token=",
            "Token=t",
            "token=t&token=t",
            "token=&token=t",
            "token=t&charge=true&charge=true",
            "token=t&token_type_hint=a&token_type_hint=a",
            "token=t&client_ip=10.0.0.1&client_ip=10.0.0.1",
            "token=t&charge=1",
            "token=t&charge=TRUE",
            "token=t&client_ip=10.0.0.1:80",
            "token=t&client_ip=10.0.0.0/8",
            "token=%ff",
            "token=t&a=%c3%28",
        ] {
            assert!(invalid(body), "{body}");
        }
        assert!(invalid(&format!("token=t{}", "&audience=a".repeat(101))));
        assert!(invalid(&format!("token=t&audience={}", "a".repeat(256))));
        assert!(!invalid(&format!("token=t{}", "&audience=a".repeat(100))));
    }

    #[test]
    fn content_type_of_a_form_is_recognized() {
        for (kind, expected) in [
            (Some("application/x-www-form-urlencoded"), true),
            (Some("Application/X-WWW-Form-Urlencoded ; charset=UTF-8"), true),
            (Some("application/x-www-form-urlencoded2"), false),
            (Some("application/json"), false),
            (Some(""), false),
            (None, false),
        ] {
            let values = kind.map(|kind| (CONTENT_TYPE, kind.parse().unwrap()));
            assert_eq!(is_form(&values.into_iter().collect()), expected, "{kind:?}");
        }
    }
}
