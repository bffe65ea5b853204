//! Cookies of a request (RFC 6265 section 4.2).

use http::header::COOKIE;

use super::fields::Fields;

/// The values of the cookies with one of these names, without quotation marks.
pub fn cookie_values<'f, F: Fields>(fields: &'f F, names: &'f [Box<str>]) -> impl Iterator<Item = &'f [u8]> {
    let pairs = fields.field_values(&COOKIE).flat_map(pairs);
    pairs.filter(|pair| is_named(pair, names)).map(value)
}

/// The cookies of a request without those of these names, as one field value. `None` if the request has none of them; empty if no
/// other cookie is left.
pub fn without_cookies<F: Fields>(fields: &F, names: &[Box<str>]) -> Option<Vec<u8>> {
    if names.is_empty() || cookie_values(fields, names).next().is_none() {
        return None;
    }
    let kept: Vec<&[u8]> = fields
        .field_values(&COOKIE)
        .flat_map(pairs)
        .filter(|pair| !pair.is_empty() && !is_named(pair, names))
        .collect();
    Some(kept.join(&b"; "[..]))
}

/// The name-value pairs of a field value.
fn pairs(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b';').map(<[u8]>::trim_ascii)
}

fn is_named(pair: &[u8], names: &[Box<str>]) -> bool {
    let end = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
    let name = pair[..end].trim_ascii();
    names.iter().any(|listed| listed.as_bytes() == name)
}

fn value(pair: &[u8]) -> &[u8] {
    let start = pair.iter().position(|byte| *byte == b'=').map_or(pair.len(), |at| at + 1);
    let value = pair[start..].trim_ascii();
    value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::fields::FieldList;

    #[test]
    fn cookies_are_found_by_their_exact_name() {
        let names = [Box::from("token")];
        for (cookies, expected) in [
            (&["token=k"][..], &["k"][..]),
            (&["a=1; token=k; b=2"], &["k"]),
            (&["a=1;token = k ;b"], &["k"]),
            (&["token=\"k\""], &["k"]),
            (&["token=a=b"], &["a=b"]),
            (&["token"], &[""]),
            (&["token=k", "token=l; token=m"], &["k", "l", "m"]),
            (&["Token=k; xtoken=k; tokenx=k; a=token=k"], &[]),
        ] {
            let list: Vec<_> = cookies.iter().map(|value| ("Cookie", value.as_bytes())).collect();
            let list = FieldList(&list);
            let found: Vec<_> = cookie_values(&list, &names).map(|value| std::str::from_utf8(value).unwrap()).collect();
            assert_eq!(found, expected, "{cookies:?}");
        }
    }

    #[test]
    fn other_cookies_are_kept() {
        let names = [Box::from("token"), Box::from("old")];
        for (cookies, kept) in [
            (&["a=1; b"][..], None),
            (&["token=k"], Some("")),
            (&["a=1;  token=k;b=\"2;\"; token=l"], Some("a=1; b=\"2; \"")),
            (&["a=1", "old=k; c=3"], Some("a=1; c=3")),
            (&["token =k; d=4"], Some("d=4")),
        ] {
            let list: Vec<_> = cookies.iter().map(|value| ("cookie", value.as_bytes())).collect();
            let found = without_cookies(&FieldList(&list), &names).map(|kept| String::from_utf8(kept).unwrap());
            assert_eq!(found.as_deref(), kept, "{cookies:?}");
        }
        assert_eq!(without_cookies(&FieldList(&[("cookie", b"a=1")]), &[]), None);
    }
}
