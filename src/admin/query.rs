//! Query parameters: either spelling of a name, at most once; unknown ones are ignored.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use http::request::Parts;

use super::error::ApiError;

/// The parameters of a request.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    fn parse(text: &str) -> Self {
        Self(form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }

    #[cfg(test)]
    pub(super) fn of(name: &str, value: &str) -> Self {
        Self(vec![(name.to_owned(), value.to_owned())])
    }

    /// A parameter by its two spellings; empty if absent.
    pub(super) fn text(&self, names: [&str; 2]) -> Result<String, ApiError> {
        let mut values = self.0.iter().filter(|(name, _)| names.contains(&name.as_str())).map(|(_, value)| value);
        let value = values.next().cloned().unwrap_or_default();
        if values.next().is_some() {
            return Err(ApiError::invalid(format!("{} is given twice", names[0])));
        }
        Ok(value)
    }

    /// Checks that every parameter has one of these names.
    ///
    /// # Errors
    /// 400 for another name.
    pub(super) fn check_names(&self, known: &[[&str; 2]]) -> Result<(), ApiError> {
        let unknown = self.0.iter().find(|(name, _)| !known.iter().any(|names| names.contains(&name.as_str())));
        match unknown {
            // The name is not in the message: it may be of any length.
            Some(_) => {
                let names = known.iter().map(|names| names[0]).collect::<Vec<_>>().join(", ");
                Err(ApiError::invalid(format!("a parameter is unknown; the parameters are {names}")))
            }
            None => Ok(()),
        }
    }

    /// A nonnegative number; 0 if absent.
    pub(super) fn number(&self, names: [&str; 2]) -> Result<u32, ApiError> {
        let text = self.text(names)?;
        if text.is_empty() {
            return Ok(0);
        }
        text.parse().map_err(|_| ApiError::invalid(format!("{} must be a number, 0 or more", names[0])))
    }
}

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::parse(parts.uri.query().unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameter_has_two_spellings_and_one_value() {
        let query = Query::parse("pageSize=7&filter=a%3Db+c&x=1&x=2");
        assert_eq!(query.number(["page_size", "pageSize"]).unwrap(), 7);
        assert_eq!(query.text(["filter", "filter"]).unwrap(), "a=b c");
        assert_eq!(query.number(["page_token", "pageToken"]).unwrap(), 0);
        assert!(query.text(["x", "x"]).is_err());
        assert!(query.check_names(&[["page_size", "pageSize"], ["filter", "filter"], ["x", "x"]]).is_ok());
        assert!(query.check_names(&[["page_size", "pageSize"], ["x", "x"]]).is_err());
        assert!(Query::parse("page_size=1&pageSize=1").number(["page_size", "pageSize"]).is_err());
        for invalid in ["page_size=-1", "page_size=x", "page_size=99999999999"] {
            assert!(Query::parse(invalid).number(["page_size", "pageSize"]).is_err(), "{invalid}");
        }
    }
}
