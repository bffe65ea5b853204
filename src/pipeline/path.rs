//! Path normalization, and the interpretations that a permissive upstream might give a path.
//!
//! Servers disagree about paths: some decode `%2F` before they split segments, some drop `;parameters`, some treat
//! backslashes as slashes. [`NormalPath`] applies the normalizations that do not change the meaning (RFC 3986 section 6.2.2).
//! The normal form is both matched and forwarded. [`NormalPath::interpretations`] lists every other path that an upstream could
//! understand, so that route matching can check all of them.

use std::borrow::Cow;

/// Maximum number of interpretations. A path with more is rejected; this bounds the work per path.
const MAX_INTERPRETATIONS: usize = 24;

/// Maximum length in bytes of a path with more than one interpretation. An unambiguous path may have any length.
const MAX_AMBIGUOUS_LENGTH: usize = 8 * 1024;

/// Transformations that permissive servers apply, in the order that reveals the most interpretations. Each returns the
/// transformed path, or `None` if it changes nothing.
const PERMISSIVE_STEPS: [fn(&str) -> Option<String>; 8] =
    [decode, decode, cut_at_nul, turn_backslashes, drop_parameters, merge_slashes, resolve_dots, merge_slashes];

/// A path in normal form: absolute, without empty segments and dot segments, with unreserved characters decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NormalPath<'a> {
    text: Cow<'a, str>,
    interpretations: Vec<String>,
    /// Index of the most permissive interpretation.
    permissive: usize,
}

impl<'a> NormalPath<'a> {
    /// Normalizes the path of a request, without its query.
    ///
    /// Returns `None` for a path that is not absolute, contains control characters or invalid percent-encoding, or has more than
    /// 24 interpretations.
    pub fn parse(raw: &'a str) -> Option<Self> {
        let survey = Survey::of(raw);
        let text = if survey.normal { Cow::Borrowed(raw) } else { Cow::Owned(normalize(raw)?) };
        let mut path = Self { text, interpretations: Vec::new(), permissive: 0 };
        if !(survey.normal && survey.unambiguous) {
            path.collect_interpretations()?;
        }
        Some(path)
    }

    /// The normal form, which is matched and forwarded.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The most permissive interpretation: decoded twice, backslashes as slashes, without `;parameters`, dot segments
    /// resolved again, in lower case.
    pub fn permissive(&self) -> &str {
        self.interpretations.get(self.permissive).map_or(&self.text, String::as_str)
    }

    /// All interpretations in lower case, from the path itself to [`permissive`](Self::permissive). Empty if
    /// [`as_str`](Self::as_str) is the only one.
    ///
    /// Intermediate interpretations matter: a server that decodes `/orders%2F..` but does not resolve dot segments still
    /// serves `/orders`.
    pub fn interpretations(&self) -> &[String] {
        &self.interpretations
    }

    fn collect_interpretations(&mut self) -> Option<()> {
        self.interpretations.push(self.text.to_ascii_lowercase());
        for step in PERMISSIVE_STEPS {
            let permissive = self.permissive;
            // A step applies to the interpretations that earlier steps produced, not to its own results.
            for index in 0..self.interpretations.len() {
                let Some(interpretation) = step(&self.interpretations[index]) else { continue };
                let added = self.add_interpretation(interpretation)?;
                if index == permissive {
                    self.permissive = added;
                }
            }
        }
        if self.interpretations.len() == 1 && self.interpretations[0] == self.text {
            self.interpretations.clear();
        }
        Some(())
    }

    fn add_interpretation(&mut self, interpretation: String) -> Option<usize> {
        if let Some(existing) = self.interpretations.iter().position(|existing| *existing == interpretation) {
            return Some(existing);
        }
        if self.interpretations.len() == MAX_INTERPRETATIONS || self.text.len() > MAX_AMBIGUOUS_LENGTH {
            return None;
        }
        self.interpretations.push(interpretation);
        Some(self.interpretations.len() - 1)
    }
}

/// The result of one pass over the bytes of a path. Most paths need no further work.
struct Survey {
    normal: bool,
    unambiguous: bool,
}

impl Survey {
    fn of(raw: &str) -> Self {
        let mut survey = Self { normal: raw.starts_with('/'), unambiguous: true };
        let mut previous = 0;
        for byte in raw.bytes() {
            // A segment that begins with a dot may be a dot segment; `normalize` decides.
            let suspect = previous == b'/' && matches!(byte, b'/' | b'.');
            survey.normal &= is_plain(byte) && !suspect;
            survey.unambiguous &= !(byte.is_ascii_uppercase() || byte == b';');
            previous = byte;
        }
        survey
    }
}

/// Whether a normal path may contain a byte unescaped.
fn is_plain(byte: u8) -> bool {
    PLAIN[usize::from(byte)]
}

/// Lookup table for [`is_plain`], which runs for every byte of every path.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte: u8 = b'!';
    while byte <= b'~' {
        let escaped =
            matches!(byte, b'%' | b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | b'?' | b'#');
        plain[byte as usize] = !escaped;
        byte += 1;
    }
    plain
};

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

fn normalize(raw: &str) -> Option<String> {
    let mut rest = raw.as_bytes();
    if rest.first() != Some(&b'/') {
        return None;
    }
    let mut text = String::with_capacity(raw.len() + 16);
    while let Some(&first) = rest.first() {
        let escaped = first == b'%';
        let byte = if escaped { octet(rest)? } else { first };
        if byte.is_ascii_control() {
            return None;
        }
        let plain = if escaped { is_unreserved(byte) } else { is_plain(byte) };
        push(&mut text, byte, plain);
        rest = &rest[if escaped { 3 } else { 1 }..];
    }
    let text = merge_slashes(&text).unwrap_or(text);
    Some(resolve_dots(&text).unwrap_or(text))
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

/// Decodes the percent-escape at the start of `bytes`.
fn octet(bytes: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok());
    match bytes {
        [b'%', high, low, ..] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    }
}

/// Decodes escapes of ASCII characters. Other escapes stay: no server uses a non-ASCII character as a separator.
fn decode(text: &str) -> Option<String> {
    let mut decoded = String::new();
    let mut rest = text;
    let mut changed = false;
    while let Some(at) = rest.find('%') {
        decoded.push_str(&rest[..at]);
        rest = &rest[at..];
        let (character, length) = ascii_escape(rest.as_bytes()).unwrap_or(('%', 1));
        changed |= length > 1;
        decoded.push(character.to_ascii_lowercase());
        rest = &rest[length..];
    }
    decoded.push_str(rest);
    changed.then_some(decoded)
}

/// The ASCII character that the escape at the start encodes, and the length of the escape. Lenient decoders accept the
/// overlong UTF-8 form `%C0%AF` as a slash, so overlong forms are decoded as well.
fn ascii_escape(bytes: &[u8]) -> Option<(char, usize)> {
    match octet(bytes)? {
        byte @ 0..0x80 => Some((char::from(byte), 3)),
        lead @ 0xC0..=0xC1 => {
            let trail = octet(bytes.get(3..)?)?;
            (trail & 0xC0 == 0x80).then(|| (char::from((lead & 1) << 6 | trail & 0x3F), 6))
        }
        _ => None,
    }
}

/// Truncates at a NUL, as a server that stores paths as C strings does.
fn cut_at_nul(text: &str) -> Option<String> {
    text.split_once('\0').map(|(before, _)| before.to_owned())
}

fn turn_backslashes(text: &str) -> Option<String> {
    text.contains('\\').then(|| text.replace('\\', "/"))
}

fn drop_parameters(text: &str) -> Option<String> {
    if !text.contains(';') {
        return None;
    }
    let mut bare = String::with_capacity(text.len());
    for segment in text.split_inclusive('/') {
        match segment.split_once(';') {
            Some((name, _)) => {
                bare.push_str(name);
                bare.push_str(if segment.ends_with('/') { "/" } else { "" });
            }
            None => bare.push_str(segment),
        }
    }
    Some(bare)
}

fn merge_slashes(text: &str) -> Option<String> {
    if !text.contains("//") {
        return None;
    }
    let mut merged = String::with_capacity(text.len());
    for character in text.chars() {
        if character != '/' || !merged.ends_with('/') {
            merged.push(character);
        }
    }
    Some(merged)
}

/// Removes dot segments (RFC 3986 section 5.2.4): a trailing dot segment leaves a slash, and `..` removes an empty segment as
/// well.
fn resolve_dots(text: &str) -> Option<String> {
    let is_dots = |segment: &str| segment == "." || segment == "..";
    if !text.split('/').any(is_dots) {
        return None;
    }
    let mut kept = Vec::new();
    for segment in text.split('/').skip(1) {
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    if text.rsplit('/').next().is_some_and(is_dots) || kept.is_empty() {
        kept.push("");
    }
    let mut resolved = String::with_capacity(text.len());
    for segment in kept {
        resolved.push('/');
        resolved.push_str(segment);
    }
    Some(resolved)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_are_normalized() {
        for (raw, normal) in [
            ("/", "/"),
            ("/orders/1", "/orders/1"),
            ("/orders/", "/orders/"),
            ("//orders", "/orders"),
            ("/x/../orders", "/orders"),
            ("/%6frders", "/orders"),
            ("/a/%2e%2E/b", "/b"),
            ("/a/%2e./b", "/b"),
            ("/a/./b/.", "/a/b/"),
            ("/a/b/..", "/a/"),
            ("/a/..", "/"),
            ("/a//../b", "/b"),
            ("/../../a", "/a"),
            ("/.well-known/..a/...", "/.well-known/..a/..."),
            ("/orders%2f..", "/orders%2F.."),
            ("/a b\"\\|", "/a%20b%22%5C%7C"),
            ("/é", "/%C3%A9"),
            ("/a%20b/%2541/", "/a%20b/%2541/"),
        ] {
            assert_eq!(NormalPath::parse(raw).unwrap().as_str(), normal, "{raw}");
        }
    }

    #[test]
    fn invalid_paths_are_rejected() {
        for raw in
            ["", "orders", "*", "/%", "/%4", "/%zz", "/%+1", "/%00", "/a%0d%0a", "/a%7F", "/a\n", "/\0", "/\u{7f}"]
        {
            assert_eq!(NormalPath::parse(raw), None, "{raw:?}");
        }
    }

    #[test]
    fn permissive_interpretation_applies_every_step() {
        for (raw, permissive) in [
            ("/orders", "/orders"),
            ("/ORDERS/É", "/orders/%c3%89"),
            ("/projects/group%2Fname", "/projects/group/name"),
            ("/orders%2f..", "/"),
            ("/x%2f..%2forders", "/orders"),
            ("/x%252f..%252forders", "/orders"),
            ("/x%2F%252e%252E%2Forders", "/orders"),
            ("/x%5c..%5corders", "/orders"),
            ("/x\\..\\orders", "/orders"),
            ("/x%c0%af%c0%ae%c0%ae/orders", "/orders"),
            ("/x/..;/orders", "/orders"),
            ("/x/%2e%2e%3b/orders", "/orders"),
            ("/orders;v=1/2", "/orders/2"),
            ("/%2541dmin", "/admin"),
            ("/orders%2500/x", "/orders"),
        ] {
            assert_eq!(NormalPath::parse(raw).unwrap().permissive(), permissive, "{raw}");
        }
    }

    #[test]
    fn intermediate_interpretations_are_listed() {
        let interpretations = |raw| NormalPath::parse(raw).unwrap().interpretations().to_vec();
        assert_eq!(interpretations("/orders/1"), [""; 0]);
        assert_eq!(interpretations("//%6frders/./1"), [""; 0]);
        assert_eq!(interpretations("/Orders"), ["/orders"]);
        assert_eq!(interpretations("/%C3%A9"), ["/%c3%a9"]);
        assert_eq!(interpretations("/a%2Fb"), ["/a%2fb", "/a/b"]);
        assert_eq!(interpretations("/orders%2f.."), ["/orders%2f..", "/orders/..", "/"]);
        // Dot segments removed before and after slashes are merged.
        let found = interpretations("/a/x%2F..%2Fb%2F%2F..");
        assert!(found.iter().any(|path| path == "/a/") && found.iter().any(|path| path == "/a/b/"));
    }

    #[test]
    fn normal_path_is_borrowed() {
        let path = NormalPath::parse("/orders/1/lines;").unwrap();
        assert!(matches!(path.text, Cow::Borrowed(_)));
        let path = NormalPath::parse("/orders/1/lines").unwrap();
        assert!(matches!(path.text, Cow::Borrowed(_)) && path.interpretations.capacity() == 0);
    }

    #[test]
    fn work_per_path_is_bounded() {
        assert!(NormalPath::parse(&"/a".repeat(100_000)).is_some());
        assert!(NormalPath::parse(&"/A".repeat(100_000)).is_some());
        assert!(NormalPath::parse(&"/a%20".repeat(1000)).is_some());
        assert_eq!(NormalPath::parse(&"/a%20".repeat(2000)), None);
        assert_eq!(NormalPath::parse("/a;b%2F%2F..%252F;x%5C..%255C%2F;..%2500%2F..;/c%3B/"), None);
    }

    const TRICKS: &str = "/([a-cA-C.;/\\\\é]|%2[eEfF5]|%5[cC]|%3[bB]|%c0%a[ef]|%[46]1|\\.\\.){0,14}";

    proptest! {
        #[test]
        fn normal_form_is_idempotent_and_has_no_dot_segments(raw in TRICKS) {
            if let Some(path) = NormalPath::parse(&raw) {
                let text = path.as_str();
                let again = NormalPath::parse(text).unwrap();
                prop_assert_eq!(again.as_str(), text);
                prop_assert_eq!(again.interpretations(), path.interpretations());
                for text in [text, path.permissive()] {
                    prop_assert!(text.starts_with('/') && !text.contains("//"), "{}", text);
                    prop_assert!(!text.split('/').any(|segment| segment == "." || segment == ".."), "{}", text);
                }
                prop_assert!(text.bytes().all(|byte| byte.is_ascii_graphic()));
                prop_assert!(path.interpretations().is_empty() || path.interpretations().iter().any(|other| other == path.permissive()));
            }
        }

        #[test]
        fn parse_never_panics(raw in "\\PC{0,60}", tail in any::<String>()) {
            let _ = (NormalPath::parse(&raw), NormalPath::parse(&tail));
            let _ = NormalPath::parse(&["/", &tail].concat());
        }
    }
}
