//! Path normalization, and the interpretations that a permissive upstream might give a path.
//!
//! Servers disagree about paths: some decode `%2F` before they split segments, some drop `;parameters`, some treat
//! backslashes as slashes, some ignore dots at the end of a name. [`NormalPath`] applies the normalizations that do not change the meaning (RFC 3986 section 6.2.2).
//! The normal form is both matched and forwarded. [`NormalPath::interpretations`] lists every other path that an upstream could
//! understand, so that route matching can check all of them.

mod permissive;

use std::borrow::Cow;

use self::permissive::{PERMISSIVE_STEPS, merge_slashes, octet, resolve_dots};

/// Maximum number of interpretations. A path with more is rejected; this bounds the work per path.
const MAX_INTERPRETATIONS: usize = 24;

/// Maximum length in bytes of a path with more than one interpretation. An unambiguous path may have any length.
const MAX_AMBIGUOUS_LENGTH: usize = 8 * 1024;

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

    /// The most permissive interpretation: all transformations of permissive servers applied, in lower case.
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
        let (mut common, mut found, mut previous) = (PLAIN, 0, 0);
        for byte in raw.bytes() {
            let class = CLASSES[usize::from(byte)];
            common &= class;
            found |= class;
            if class & PAIRED != 0 {
                match (previous, byte) {
                    // A segment that begins with a dot may be a dot segment; `normalize` decides.
                    (b'/', b'/' | b'.') => common = 0,
                    // The end of a name, and the start of the name of an NTFS stream.
                    (b'.', b'/') | (b':', b'$') => found |= AMBIGUOUS,
                    _ => {}
                }
            }
            previous = byte;
        }
        let normal = common & PLAIN != 0 && raw.starts_with('/');
        Self { normal, unambiguous: found & AMBIGUOUS == 0 && previous != b'.' }
    }
}

/// A byte that a normal path may contain unescaped.
const PLAIN: u8 = 1;
/// A byte that gives a path another interpretation wherever it is.
const AMBIGUOUS: u8 = 2;
/// A byte whose meaning depends on the one before it.
const PAIRED: u8 = 4;

/// The classes of each byte: a table, because they are needed for every byte of every path.
const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte: u8 = b'!';
    while byte <= b'~' {
        let is_plain =
            !matches!(byte, b'%' | b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | b'?' | b'#');
        let is_ambiguous = byte.is_ascii_uppercase() || byte == b';';
        let is_paired = matches!(byte, b'/' | b'.' | b'$');
        classes[byte as usize] =
            (is_plain as u8 * PLAIN) | (is_ambiguous as u8 * AMBIGUOUS) | (is_paired as u8 * PAIRED);
        byte += 1;
    }
    classes
};

/// Whether a normal path may contain a byte unescaped.
fn is_plain(byte: u8) -> bool {
    CLASSES[usize::from(byte)] & PLAIN != 0
}

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
            ("/x%25252f..%25252forders", "/orders"),
            ("/orders%3Fx/y", "/orders"),
            ("/orders%23x/y", "/orders"),
            ("/orders#x/y", "/orders"),
            ("/orders%253fx", "/orders"),
            ("/orders%20/1", "/orders/1"),
            ("/orders./1", "/orders/1"),
            ("/orders.%20.%20", "/orders"),
            ("/x/..%20/orders", "/orders"),
            ("/x/.../orders", "/x/orders"),
            ("/a/...", "/a/"),
            ("/orders::$DATA", "/orders"),
            ("/orders:$I30:$Index_Allocation/1", "/orders/1"),
            ("/orders%3A%3a%24data", "/orders"),
            ("/v1/orders:cancel", "/v1/orders:cancel"),
            ("/v1/orders::cancel", "/v1/orders::cancel"),
            ("/x/%EF%BC%8E%ef%bc%8e/orders", "/orders"),
            ("/x%EF%BC%8F..%EF%BC%BCorders", "/orders"),
            ("/x/．．／orders", "/orders"),
            ("/x/%25EF%25BC%258E%25EF%25BC%258E/orders", "/orders"),
            ("/ｏＲders", "/orders"),
            ("/%EF%BB%BF%EF%BD%9F%EF%BF%A0%25EF%25B", "/%ef%bb%bf%ef%bd%9f%ef%bf%a0%ef%b"),
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
        assert_eq!(interpretations("/a.b/.c/d"), [""; 0]);
        assert_eq!(interpretations("/a."), ["/a.", "/a"]);
        assert_eq!(interpretations("/a./b"), ["/a./b", "/a/b"]);
        assert_eq!(interpretations("/a:$b"), ["/a:$b", "/a"]);
        assert_eq!(interpretations("/a%3Fb"), ["/a%3fb", "/a?b", "/a"]);
        assert_eq!(interpretations("/orders%2f.."), ["/orders%2f..", "/orders/..", "/orders%2f", "/"]);
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

    const TRICKS: &str = "/([a-cA-C.;/\\\\é:$．／]|%2[eEfF50]|%5[cC]|%3[bBfF]|%23|%c0%a[ef]|%[46]1|\\.\\.|%25252f|%ef%bc%8e|::\\$DATA){0,14}";

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
