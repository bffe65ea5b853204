//! A borrowed view of the fields of a message head. Knows neither how a front keeps a head nor who sent it.

use http::{HeaderMap, HeaderName, HeaderValue};

/// The fields of a message head, as a front keeps them: a [`HeaderMap`], or names and values as bytes ([`FieldList`]).
pub trait Fields {
    /// The values of all fields with this name, in order. Names compare without regard to case.
    fn field_values<'f>(&'f self, name: &HeaderName) -> impl Iterator<Item = &'f [u8]>;

    /// The first value with this name as a [`HeaderValue`], without a copy where the front keeps one.
    fn first_value(&self, name: &HeaderName) -> Option<HeaderValue> {
        HeaderValue::from_bytes(self.field_values(name).next()?).ok()
    }

    /// All field names, in any case. A name that occurs several times may be returned several times.
    fn field_names(&self) -> impl Iterator<Item = &str>;

    /// Whether there is a field with this name.
    fn has_field(&self, name: &HeaderName) -> bool {
        self.field_values(name).next().is_some()
    }
}

/// Fields as names and values in the order in which they were received.
#[derive(Debug, Clone, Copy)]
pub struct FieldList<'a>(pub &'a [(&'a str, &'a [u8])]);

impl Fields for HeaderMap {
    #[inline]
    fn field_values<'f>(&'f self, name: &HeaderName) -> impl Iterator<Item = &'f [u8]> {
        self.get_all(name).iter().map(HeaderValue::as_bytes)
    }

    #[inline]
    fn first_value(&self, name: &HeaderName) -> Option<HeaderValue> {
        self.get(name).cloned()
    }

    #[inline]
    fn field_names(&self) -> impl Iterator<Item = &str> {
        self.keys().map(HeaderName::as_str)
    }

    #[inline]
    fn has_field(&self, name: &HeaderName) -> bool {
        self.contains_key(name)
    }
}

impl Fields for FieldList<'_> {
    fn field_values<'f>(&'f self, name: &HeaderName) -> impl Iterator<Item = &'f [u8]> {
        let name = name.as_str();
        self.0.iter().filter(move |(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }

    fn field_names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| *name)
    }
}

/// A bit for the length of a field name. Names of different bits differ; 63 bytes and more are one bit.
#[inline]
pub fn length_bit(name: &str) -> u64 {
    1 << name.len().min(63)
}

/// Whether a value consists of visible ASCII characters, spaces and tabs.
pub(crate) fn is_text(value: &[u8]) -> bool {
    // No early exit, so that the compiler can vectorize it.
    value.iter().fold(true, |visible, byte| visible & matches!(byte, b'\t' | b' '..=b'~'))
}

/// A value as text, if it consists of visible ASCII characters, spaces and tabs.
pub fn text(value: &[u8]) -> Option<&str> {
    if is_text(value) { std::str::from_utf8(value).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use http::header::{ACCEPT, COOKIE, HOST};

    use super::*;

    #[test]
    fn both_views_return_the_same_values() {
        let list = FieldList(&[("Cookie", b"a=1"), ("ACCEPT", b"*/*"), ("cookie", b"b=2")]);
        let mut map = HeaderMap::new();
        for (name, value) in list.0 {
            map.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value).unwrap());
        }
        for name in [COOKIE, ACCEPT, HOST] {
            assert_eq!(list.field_values(&name).collect::<Vec<_>>(), map.field_values(&name).collect::<Vec<_>>());
            assert_eq!(list.has_field(&name), map.has_field(&name));
            assert_eq!(list.first_value(&name), map.first_value(&name));
        }
        assert!(map.field_names().all(|name| list.field_names().any(|other| other.eq_ignore_ascii_case(name))));
    }

    #[test]
    fn only_visible_ascii_is_text() {
        assert_eq!(text(b"a b\tc~"), Some("a b\tc~"));
        assert_eq!([text(b"a\0"), text(b"\x7f"), text("é".as_bytes())], [None; 3]);
    }
}
