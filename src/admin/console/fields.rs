//! Names and values: of a query, and of a form.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use http::request::Parts;

/// Names and values in their order. Has no `Debug`, because forms hold credentials.
#[derive(Clone, Default)]
pub(super) struct Fields(pub(super) Vec<(String, String)>);

impl Fields {
    /// Parses `application/x-www-form-urlencoded`.
    pub(super) fn parse(text: &[u8]) -> Self {
        Self(form_urlencoded::parse(text).into_owned().collect())
    }

    /// The first value with a name, without white space around it; empty if there is none.
    pub(super) fn text(&self, name: &str) -> &str {
        self.raw(name).trim()
    }

    /// The same as it was sent.
    pub(super) fn raw(&self, name: &str) -> &str {
        self.0.iter().find(|(found, _)| found == name).map_or("", |(_, value)| value)
    }

    /// All values with a name.
    pub(super) fn all(&self, name: &str) -> Vec<&str> {
        self.0.iter().filter(|(found, _)| found == name).map(|(_, value)| value.as_str()).collect()
    }

    /// The lines of a value that are not empty. Commas separate as lines do.
    pub(super) fn lines(&self, name: &str) -> Vec<String> {
        let lines = self.raw(name).split(['\n', ',']).map(str::trim);
        lines.filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    /// Sets the value of a name.
    pub(super) fn set(&mut self, name: &str, value: impl Into<String>) {
        self.0.retain(|(found, _)| found != name);
        self.0.push((name.to_owned(), value.into()));
    }

    /// The fields as a query, with some of them replaced; those with an empty value are left out.
    pub(super) fn query(&self, replaced: &[(&str, &str)]) -> String {
        let mut fields = self.clone();
        for (name, value) in replaced {
            fields.set(name, *value);
        }
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(fields.0.iter().filter(|(_, value)| !value.is_empty()));
        query.finish()
    }
}

impl<S: Sync> FromRequestParts<S> for Fields {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::parse(parts.uri.query().unwrap_or_default().as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_name_and_a_query_replaces_them() {
        let fields = Fields::parse(b"q=+a%26b+&id=1&id=2&scopes=a%0A+b%2Cc%0A%0A&empty=");
        assert_eq!((fields.text("q"), fields.raw("q"), fields.text("none")), ("a&b", " a&b ", ""));
        assert_eq!(fields.all("id"), ["1", "2"]);
        assert_eq!(fields.lines("scopes"), ["a", "b", "c"]);
        let fields = Fields::parse(b"q=a%26b&page_token=x&empty=");
        assert_eq!(fields.query(&[("page_token", "y z")]), "q=a%26b&page_token=y+z");
        assert_eq!(fields.query(&[("q", "")]), "page_token=x");
    }
}
