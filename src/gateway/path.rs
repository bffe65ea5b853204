//! The one path that is both matched and forwarded, and the other ways in which servers might read it.
//!
//! Two servers rarely agree on every byte of a path: one decodes `%2F` before it looks for slashes, the next drops
//! `;parameters`, a third takes backslashes for slashes. [`NormalPath`] settles what can be settled without changing the
//! meaning, and lists what the result could still be taken for, so that a rule can be held to all of it.

use std::borrow::Cow;

/// More readings than this has no path that somebody wrote in good faith. Also bounds the work that one path can cause.
const MOST_READINGS: usize = 24;

/// A path that can be read in several ways may be this long, in bytes; one that cannot may be of any length.
const LONGEST_AMBIGUOUS: usize = 8 * 1024;

/// What servers do to a path beyond what is done here, in the order in which it shows the most. Each gives the path as it
/// would then read, or nothing when it makes no difference.
const CARELESS_STEPS: [fn(&str) -> Option<String>; 8] =
    [decode, decode, cut_at_nul, turn_backslashes, drop_parameters, merge_slashes, resolve_dots, merge_slashes];

/// A path in normal form: absolute, without empty and dot segments, and with nothing encoded that need not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NormalPath<'a> {
    text: Cow<'a, str>,
    readings: Vec<String>,
    loosest: usize,
}

impl<'a> NormalPath<'a> {
    /// Normalises the path of a request, without its query.
    ///
    /// There is none for a path that is not absolute, that has control characters or broken percent-encoding, or that
    /// can be read in more ways than anybody could mean.
    pub fn parse(raw: &'a str) -> Option<Self> {
        let survey = Survey::of(raw);
        let text = if survey.normal { Cow::Borrowed(raw) } else { Cow::Owned(normalise(raw)?) };
        let mut path = Self { text, readings: Vec::new(), loosest: 0 };
        if !(survey.normal && survey.unambiguous) {
            path.collect_readings()?;
        }
        Some(path)
    }

    /// The path to match and to forward.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The path as the most careless server would read it: everything decoded twice, backslashes as slashes, without
    /// `;parameters`, dot segments resolved once more, in lower case.
    pub fn loose(&self) -> &str {
        self.readings.get(self.loosest).map_or(&self.text, String::as_str)
    }

    /// Every way to read the path, in lower case: [`loose`](Self::loose) and all that lies between it and the path
    /// itself. Empty when there is no other way than [`as_str`](Self::as_str).
    ///
    /// The ones between matter: a server that decodes `/orders%2F..` but resolves no dots is still in `/orders`.
    pub fn readings(&self) -> &[String] {
        &self.readings
    }

    fn collect_readings(&mut self) -> Option<()> {
        self.readings.push(self.text.to_ascii_lowercase());
        for step in CARELESS_STEPS {
            let loosest = self.loosest;
            // What one step adds is for the next step to go on from: no server does the same thing again and again.
            for index in 0..self.readings.len() {
                let Some(reading) = step(&self.readings[index]) else { continue };
                let place = self.add_reading(reading)?;
                if index == loosest {
                    self.loosest = place;
                }
            }
        }
        if self.readings.len() == 1 && self.readings[0] == self.text {
            self.readings.clear();
        }
        Some(())
    }

    fn add_reading(&mut self, reading: String) -> Option<usize> {
        if let Some(known) = self.readings.iter().position(|known| *known == reading) {
            return Some(known);
        }
        if self.readings.len() == MOST_READINGS || self.text.len() > LONGEST_AMBIGUOUS {
            return None;
        }
        self.readings.push(reading);
        Some(self.readings.len() - 1)
    }
}

/// What a single look at each byte tells about a path. Nearly all paths need no second one.
struct Survey {
    normal: bool,
    unambiguous: bool,
}

impl Survey {
    fn of(raw: &str) -> Self {
        let mut survey = Self { normal: raw.starts_with('/'), unambiguous: true };
        let mut previous = 0;
        for byte in raw.bytes() {
            // Whether what begins with a dot is a dot segment is left for `normalise` to find out.
            let suspect = previous == b'/' && matches!(byte, b'/' | b'.');
            survey.normal &= may_stand(byte) && !suspect;
            survey.unambiguous &= !(byte.is_ascii_uppercase() || byte == b';');
            previous = byte;
        }
        survey
    }
}

/// Whether a byte may stand in a normal path as it is, other than as part of an escape.
fn may_stand(byte: u8) -> bool {
    STANDING[usize::from(byte)]
}

/// Asked for every byte of every path.
const STANDING: [bool; 256] = {
    let mut standing = [false; 256];
    let mut byte: u8 = b'!';
    while byte <= b'~' {
        let falls = matches!(byte, b'%' | b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | b'?' | b'#');
        standing[byte as usize] = !falls;
        byte += 1;
    }
    standing
};

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

fn normalise(raw: &str) -> Option<String> {
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
        let plain = if escaped { is_unreserved(byte) } else { may_stand(byte) };
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

/// The byte that the escape at the beginning stands for.
fn octet(bytes: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok());
    match bytes {
        [b'%', high, low, ..] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    }
}

/// Decodes what is ASCII. Other characters are nobody's separators and stay encoded, in which form they stay apart too.
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

/// The ASCII character that the escape at the beginning stands for, and the escape's length. `%C0%AF` is a slash to
/// decoders that do not mind a character encoded longer than it need be.
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

/// To a server that keeps paths as C strings a NUL is the end.
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

/// Resolves `.` and `..` as RFC 3986 section 5.2.4 says: one that stands last leaves a slash, and `..` takes an empty
/// segment for one.
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
    fn paths_become_normal() {
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
    fn what_is_no_path_is_refused() {
        for raw in
            ["", "orders", "*", "/%", "/%4", "/%zz", "/%+1", "/%00", "/a%0d%0a", "/a%7F", "/a\n", "/\0", "/\u{7f}"]
        {
            assert_eq!(NormalPath::parse(raw), None, "{raw:?}");
        }
    }

    #[test]
    fn the_loose_reading_is_the_most_careless_one() {
        for (raw, loose) in [
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
            assert_eq!(NormalPath::parse(raw).unwrap().loose(), loose, "{raw}");
        }
    }

    #[test]
    fn readings_between_the_strict_and_the_loose_one_are_known() {
        let readings = |raw| NormalPath::parse(raw).unwrap().readings().to_vec();
        assert_eq!(readings("/orders/1"), [""; 0]);
        assert_eq!(readings("//%6frders/./1"), [""; 0]);
        assert_eq!(readings("/Orders"), ["/orders"]);
        assert_eq!(readings("/%C3%A9"), ["/%c3%a9"]);
        assert_eq!(readings("/a%2Fb"), ["/a%2fb", "/a/b"]);
        assert_eq!(readings("/orders%2f.."), ["/orders%2f..", "/orders/..", "/"]);
        // Dots resolved with and without merging slashes first.
        let found = readings("/a/x%2F..%2Fb%2F%2F..");
        assert!(found.iter().any(|reading| reading == "/a/") && found.iter().any(|reading| reading == "/a/b/"));
    }

    #[test]
    fn a_plain_path_is_borrowed() {
        let path = NormalPath::parse("/orders/1/lines;").unwrap();
        assert!(matches!(path.text, Cow::Borrowed(_)));
        let path = NormalPath::parse("/orders/1/lines").unwrap();
        assert!(matches!(path.text, Cow::Borrowed(_)) && path.readings.capacity() == 0);
    }

    #[test]
    fn the_work_for_a_path_is_bounded() {
        assert!(NormalPath::parse(&"/a".repeat(100_000)).is_some());
        assert!(NormalPath::parse(&"/A".repeat(100_000)).is_some());
        assert!(NormalPath::parse(&"/a%20".repeat(1000)).is_some());
        assert_eq!(NormalPath::parse(&"/a%20".repeat(2000)), None);
        assert_eq!(NormalPath::parse("/a;b%2F%2F..%252F;x%5C..%255C%2F;..%2500%2F..;/c%3B/"), None);
    }

    const TRICKS: &str = "/([a-cA-C.;/\\\\é]|%2[eEfF5]|%5[cC]|%3[bB]|%c0%a[ef]|%[46]1|\\.\\.){0,14}";

    proptest! {
        #[test]
        fn normal_form_is_stable_and_has_no_tricks(raw in TRICKS) {
            if let Some(path) = NormalPath::parse(&raw) {
                let text = path.as_str();
                let again = NormalPath::parse(text).unwrap();
                prop_assert_eq!(again.as_str(), text);
                prop_assert_eq!(again.readings(), path.readings());
                for text in [text, path.loose()] {
                    prop_assert!(text.starts_with('/') && !text.contains("//"), "{}", text);
                    prop_assert!(!text.split('/').any(|segment| segment == "." || segment == ".."), "{}", text);
                }
                prop_assert!(text.bytes().all(|byte| byte.is_ascii_graphic()));
                prop_assert!(path.readings().is_empty() || path.readings().iter().any(|reading| reading == path.loose()));
            }
        }

        #[test]
        fn no_path_panics(raw in "\\PC{0,60}", tail in any::<String>()) {
            let _ = (NormalPath::parse(&raw), NormalPath::parse(&tail));
            let _ = NormalPath::parse(&["/", &tail].concat());
        }
    }
}
