//! Parameters of a query: names and values separated by `&` and `=`, percent-encoded (RFC 3986 section 3.4).

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// The decoded values of the parameters with one of these names.
///
/// A plus sign is itself, not a space: no credential has a space, but imported keys have plus signs, which clients often leave as they
/// are.
pub(super) fn parameter_values<'q>(query: &'q str, names: &'q [Box<str>]) -> impl Iterator<Item = Cow<'q, [u8]>> {
    let carried = query.split('&').filter(|parameter| is_named(parameter, names));
    carried.map(|parameter| percent_decode_str(parameter.split_once('=').map_or("", |(_, value)| value)).into())
}

/// A path and query, or an absolute URL, without the parameters of these names, in whichever way the names are encoded.
pub fn without_parameters<'u>(url: &'u str, names: &[Box<str>]) -> Cow<'u, str> {
    if names.is_empty() {
        return url.into();
    }
    let Some((start, query)) = url.split_once('?') else { return url.into() };
    if !query.split('&').any(|parameter| is_named(parameter, names)) {
        return url.into();
    }
    let mut kept = String::with_capacity(url.len());
    kept.push_str(start);
    for parameter in query.split('&').filter(|parameter| !is_named(parameter, names)) {
        kept.push(if kept.len() == start.len() { '?' } else { '&' });
        kept.push_str(parameter);
    }
    kept.into()
}

fn is_named(parameter: &str, names: &[Box<str>]) -> bool {
    let name = parameter.split_once('=').map_or(parameter, |(name, _)| name);
    names.iter().any(|listed| listed.bytes().eq(percent_decode_str(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_found_in_every_encoding_of_their_name() {
        let names = [Box::from("apikey")];
        for (query, expected) in [
            ("apikey=k", &["k"][..]),
            ("a=1&apikey=k&b=2", &["k"]),
            ("%61pi%6bey=%6B", &["k"]),
            ("%61%70%69%6b%65%79=k&apikey=l", &["k", "l"]),
            ("apikey=a+b%2Bc%3D=", &["a+b+c=="]),
            ("apikey", &[""]),
            ("apikey=%", &["%"]),
            ("APIKEY=k&apikeys=k&xapikey=k&a=apikey=k&%2561pikey=k&apikey%00=k", &[]),
            ("", &[]),
        ] {
            let found: Vec<_> =
                parameter_values(query, &names).map(|value| String::from_utf8(value.into_owned()).unwrap()).collect();
            assert_eq!(found, expected, "{query}");
        }
    }

    #[test]
    fn other_parameters_are_kept() {
        let names = [Box::from("apikey"), Box::from("key")];
        for (url, kept) in [
            ("/a", "/a"),
            ("/a?", "/a?"),
            ("/a?b=1&&c", "/a?b=1&&c"),
            ("/a?apikey=k", "/a"),
            ("/a?%61pikey=k", "/a"),
            ("/a?apikey=k&b=1", "/a?b=1"),
            ("/a?b=1&apikey=k&c=%20&key&d=e?apikey=k", "/a?b=1&c=%20&d=e?apikey=k"),
            ("/apikey=k?b", "/apikey=k?b"),
            ("https://h/a?key=k#f", "https://h/a"),
        ] {
            assert_eq!(without_parameters(url, &names), kept, "{url}");
        }
        assert!(matches!(without_parameters("/a?apikey=k", &[]), Cow::Borrowed("/a?apikey=k")));
    }
}
