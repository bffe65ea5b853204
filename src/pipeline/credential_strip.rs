//! Removes credentials from cookies, from the query, and from `Referer`. Fields that are nothing but a credential are removed by
//! [`headers`](super::headers).

use http::header::{COOKIE, REFERER};
use http::{HeaderName, HeaderValue};

use super::headers::FieldEdits;
use crate::wire::cookie::without_cookies;
use crate::wire::credential_locations::CredentialLocations;
use crate::wire::fields::Fields;
use crate::wire::query::without_parameters;

/// Removes the cookies that are credentials. Other cookies stay. The page that a browser comes from may have a credential in its URL, so
/// query parameters are removed from `Referer` too.
pub(super) fn strip_credentials<F: Fields>(edits: &mut FieldEdits, fields: &F, locations: &CredentialLocations) {
    if let Some(cookies) = without_cookies(fields, locations.cookies()) {
        replace(edits, &COOKIE, &cookies);
    }
    if locations.parameters().is_empty() {
        return;
    }
    let mut referers = fields.field_values(&REFERER);
    if let (Some(referer), second) = (referers.next(), referers.next()) {
        let url = std::str::from_utf8(referer).ok().filter(|_| second.is_none());
        // A value that cannot be read could hide a credential.
        let stripped = url.map(|url| without_parameters(url, locations.parameters())).unwrap_or_default();
        if stripped.as_bytes() != referer {
            replace(edits, &REFERER, stripped.as_bytes());
        }
    }
}

/// Replaces a field, or removes it if nothing is left of it.
fn replace(edits: &mut FieldEdits, name: &HeaderName, value: &[u8]) {
    edits.replace(name, HeaderValue::from_bytes(value).ok().filter(|value| !value.is_empty()));
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::config::CredentialLocation;

    #[test]
    fn other_cookies_and_parameters_stay() {
        let locations = [CredentialLocation::cookie("token"), CredentialLocation::query("apikey")];
        let locations = CredentialLocations::new(&locations);
        for (received, forwarded) in [
            ("cookie: token=k", ""),
            ("cookie: a=1; token=k", "cookie: a=1"),
            ("cookie: a=1\ncookie: token=k; b=2", "cookie: a=1; b=2"),
            ("cookie: a=1\ncookie: b=2", "cookie: a=1\ncookie: b=2"),
            ("referer: https://h/p?a=1&apikey=k", "referer: https://h/p?a=1"),
            ("referer: https://h/p?apikey=k#f", "referer: https://h/p"),
            ("referer: https://h/p?a=1", "referer: https://h/p?a=1"),
            ("referer: https://h/é?apikey=k", "referer: https://h/é"),
            ("referer: /?apikey=k\nreferer: /?apikey=k", ""),
        ] {
            let mut fields = HeaderMap::new();
            for (name, value) in received.lines().filter_map(|line| line.split_once(": ")) {
                let name: http::HeaderName = name.parse().unwrap();
                fields.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
            }
            let mut edits = FieldEdits::default();
            strip_credentials(&mut edits, &fields, &locations);
            edits.apply(&mut fields);
            let text = |value: &HeaderValue| String::from_utf8(value.as_bytes().to_vec()).unwrap();
            let left: Vec<_> = fields.iter().map(|(name, value)| format!("{name}: {}", text(value))).collect();
            assert_eq!(left.join("\n"), forwarded, "{received}");
        }
    }
}
