//! The transformations that permissive servers apply to a path beyond its normal form. Each returns the transformed path, or `None` if it
//! changes nothing.

/// All transformations, in the order that reveals the most interpretations.
pub(super) const PERMISSIVE_STEPS: [fn(&str) -> Option<String>; 13] = [
    decode,
    decode,
    decode,
    fold_full_width,
    cut_at_nul,
    cut_at_query,
    turn_backslashes,
    drop_streams,
    drop_parameters,
    merge_slashes,
    trim_segments,
    resolve_dots,
    merge_slashes,
];

/// Decodes the percent-escape at the start of `bytes`.
pub(super) fn octet(bytes: &[u8]) -> Option<u8> {
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

/// Replaces the full-width forms of ASCII characters (U+FF01 to U+FF5E), as conversions to other character sets do.
fn fold_full_width(text: &str) -> Option<String> {
    const LEAD: &str = "%ef%b";
    let mut folded = String::new();
    let mut rest = text;
    let mut changed = false;
    while let Some(at) = rest.find(LEAD) {
        folded.push_str(&rest[..at]);
        rest = &rest[at..];
        let form = full_width(rest.as_bytes());
        changed |= form.is_some();
        folded.push(form.unwrap_or('%'));
        rest = &rest[if form.is_some() { 9 } else { 1 }..];
    }
    folded.push_str(rest);
    changed.then_some(folded)
}

/// The ASCII character, in lower case, whose full-width form is encoded at the start.
fn full_width(bytes: &[u8]) -> Option<char> {
    let byte = |at: usize| bytes.get(at..).and_then(octet);
    let (middle, last) = (byte(3)?, byte(6)?);
    let ascii = match (middle, last) {
        (0xBC, 0x81..=0xBF) => last - 0x60,
        (0xBD, 0x80..=0x9E) => last - 0x20,
        _ => return None,
    };
    Some(char::from(ascii).to_ascii_lowercase())
}

/// Truncates at a NUL, as a server that stores paths as C strings does.
fn cut_at_nul(text: &str) -> Option<String> {
    text.split_once('\0').map(|(before, _)| before.to_owned())
}

/// Truncates at a `?` or a `#`, as a server that decodes before it looks for the query does.
fn cut_at_query(text: &str) -> Option<String> {
    text.split_once(['?', '#']).map(|(before, _)| before.to_owned())
}

fn turn_backslashes(text: &str) -> Option<String> {
    text.contains('\\').then(|| text.replace('\\', "/"))
}

fn drop_parameters(text: &str) -> Option<String> {
    text.contains(';').then(|| map_segments(text, |segment| segment.split(';').next().unwrap_or_default()))
}

/// Removes the names of NTFS streams, such as `::$DATA` and `:$I30:$INDEX_ALLOCATION`.
fn drop_streams(text: &str) -> Option<String> {
    fn file(segment: &str) -> &str {
        if segment.contains(":$") { segment.split(':').next().unwrap_or_default() } else { segment }
    }
    text.contains(":$").then(|| map_segments(text, file))
}

/// Removes dots and blanks from the ends of segments, as Windows does. Dot segments stay.
fn trim_segments(text: &str) -> Option<String> {
    fn trimmed(segment: &str) -> &str {
        let is_blank = |character: char| character.is_ascii_whitespace();
        match segment.trim_end_matches(is_blank) {
            dots @ ("." | "..") => dots,
            name => name.trim_end_matches(|character| character == '.' || is_blank(character)),
        }
    }
    text.split('/').any(|segment| trimmed(segment) != segment).then(|| map_segments(text, trimmed))
}

/// Replaces each segment by a part of itself.
fn map_segments(text: &str, part: impl Fn(&str) -> &str) -> String {
    let mut mapped = String::with_capacity(text.len());
    for segment in text.split_inclusive('/') {
        let (segment, slash) = segment.strip_suffix('/').map_or((segment, ""), |segment| (segment, "/"));
        mapped.push_str(part(segment));
        mapped.push_str(slash);
    }
    mapped
}

pub(super) fn merge_slashes(text: &str) -> Option<String> {
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
pub(super) fn resolve_dots(text: &str) -> Option<String> {
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
