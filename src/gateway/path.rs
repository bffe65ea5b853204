//! The one path that is both matched and forwarded, and how a careless upstream might read it.

use std::borrow::Cow;

/// A path in normal form: absolute, no empty and no dot segments, nothing encoded that need not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NormalPath<'a> {
    text: Cow<'a, str>,
    loose: Option<String>,
}

impl<'a> NormalPath<'a> {
    /// Normalises a request's path; `None` when it has control characters or broken encoding, or is not absolute.
    pub fn parse(raw: &'a str) -> Option<Self> {
        let text = if is_normal(raw) { Cow::Borrowed(raw) } else { Cow::Owned(normalise(raw)?) };
        let loose = has_other_readings(&text).then(|| read_loosely(&text));
        Some(Self { text, loose })
    }

    /// The path to match and to forward.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The path as somebody would read it who decodes slashes, takes backslashes for slashes, drops `;parameters` and
    /// does not tell upper from lower case.
    pub fn loose(&self) -> &str {
        self.loose.as_deref().unwrap_or(&self.text)
    }
}

/// Whether a path is in normal form on its face, which most are.
fn is_normal(raw: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"%\"<>\\^`{|}?#".contains(&byte);
    raw.starts_with('/')
        && raw.bytes().all(plain)
        && !raw.contains("//")
        && !raw.split('/').any(|segment| segment == "." || segment == "..")
}

fn has_other_readings(text: &str) -> bool {
    text.bytes().any(|byte| byte == b'%' || byte == b';' || byte == b'\\' || byte.is_ascii_uppercase())
}

fn normalise(raw: &str) -> Option<String> {
    if !raw.starts_with('/') {
        return None;
    }
    let mut text = String::with_capacity(raw.len() + 16);
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let decoded = hex(bytes.next()?)? << 4 | hex(bytes.next()?)?;
            if decoded < 0x20 || decoded == 0x7f {
                return None;
            }
            push(&mut text, decoded, is_unreserved(decoded));
        } else if byte < 0x20 || byte == 0x7f {
            return None;
        } else {
            push(&mut text, byte, byte.is_ascii_graphic() && !b"\"<>\\^`{|}?#".contains(&byte));
        }
    }
    Some(resolve_segments(&text))
}

fn push(text: &mut String, byte: u8, plain: bool) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    if plain {
        text.push(char::from(byte));
    } else {
        text.push('%');
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// Removes empty and dot segments; a path that ends in one ends in a slash (RFC 3986 section 5.2.4).
fn resolve_segments(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    let ends_open = path.ends_with('/') || path.ends_with("/.") || path.ends_with("/..");
    let mut text = String::with_capacity(path.len());
    for segment in &kept {
        text.push('/');
        text.push_str(segment);
    }
    if kept.is_empty() || ends_open {
        text.push('/');
    }
    text
}

fn read_loosely(text: &str) -> String {
    // Twice, for those that decode once more than they should.
    let decoded = decode_once(&decode_once(text));
    let slashed = decoded.replace('\\', "/").to_ascii_lowercase();
    let bare: Vec<&str> = slashed.split('/').map(|segment| segment.split(';').next().unwrap_or_default()).collect();
    resolve_segments(&bare.join("/"))
}

fn decode_once(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_become_normal() {
        for (raw, normal) in [
            ("/", "/"),
            ("/orders/1", "/orders/1"),
            ("//orders", "/orders"),
            ("/x/../orders", "/orders"),
            ("/%6frders", "/orders"),
            ("/a/%2e%2E/b", "/b"),
            ("/a/./b/.", "/a/b/"),
            ("/a/..", "/"),
            ("/../../a", "/a"),
            ("/orders%2f..", "/orders%2F.."),
            ("/a b\"\\", "/a%20b%22%5C"),
            ("/é", "/%C3%A9"),
            ("/a%20b/", "/a%20b/"),
        ] {
            assert_eq!(NormalPath::parse(raw).unwrap().as_str(), normal, "{raw}");
        }
        for raw in ["", "orders", "*", "/%", "/%4", "/%zz", "/%00", "/a%0d%0a", "/a\n", "/\u{7f}"] {
            assert_eq!(NormalPath::parse(raw), None, "{raw}");
        }
    }

    #[test]
    fn the_loose_reading_is_the_careless_one() {
        for (raw, loose) in [
            ("/orders", "/orders"),
            ("/ORDERS", "/orders"),
            ("/orders%2f..", "/"),
            ("/x%2f..%2forders", "/orders"),
            ("/x%252f..%252forders", "/orders"),
            ("/x%5c..%5corders", "/orders"),
            ("/x\\..\\orders", "/orders"),
            ("/x/..;/orders", "/orders"),
            ("/orders;v=1/2", "/orders/2"),
        ] {
            assert_eq!(NormalPath::parse(raw).unwrap().loose(), loose, "{raw}");
        }
    }

    proptest! {
        #[test]
        fn normal_form_is_stable_and_has_no_tricks(raw in "/[a-zA-Z0-9./%;\\\\2efF é]{0,40}") {
            if let Some(path) = NormalPath::parse(&raw) {
                let text = path.as_str();
                let again = NormalPath::parse(text).unwrap();
                prop_assert_eq!(again.as_str(), text);
                prop_assert!(text.starts_with('/') && !text.contains("//"));
                prop_assert!(!text.split('/').any(|segment| segment == "." || segment == ".."));
                prop_assert!(text.bytes().all(|byte| byte.is_ascii_graphic()));
            }
        }

        #[test]
        fn no_path_panics(raw in "\\PC{0,60}") {
            let _ = NormalPath::parse(&raw);
        }
    }
}
