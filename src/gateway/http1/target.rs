//! The target of a request line (RFC 9112 section 3.2), and authorities (RFC 3986 section 3.2).

use super::error::HeadError;

/// A byte that a target may contain: visible ASCII without `#`.
const TARGET: u8 = 1;
/// A byte that is unreserved, reserved, or the start of an escape (RFC 3986 section 2): every parser reads it alike.
const PLAIN: u8 = 2;
/// A byte of a host name.
const NAME: u8 = 4;
/// A byte of an address in brackets.
const LITERAL: u8 = 8;

/// The classes of each byte: a table, because they are needed for every byte of every target.
const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = b'!';
    while byte <= b'~' {
        let is_alphanumeric = byte.is_ascii_alphanumeric();
        let is_name = is_alphanumeric || contains(b"-._~%!$&'()*+;=", byte);
        let is_plain = is_name || contains(b",:@/?", byte);
        let is_literal = byte.is_ascii_hexdigit() || contains(b":.", byte);
        classes[byte as usize] = ((byte != b'#') as u8 * TARGET)
            | (is_plain as u8 * PLAIN)
            | (is_name as u8 * NAME)
            | (is_literal as u8 * LITERAL);
        byte += 1;
    }
    classes
};

const fn contains(bytes: &[u8], wanted: u8) -> bool {
    let mut index = 0;
    while index < bytes.len() {
        if bytes[index] == wanted {
            return true;
        }
        index += 1;
    }
    false
}

/// The classes that all bytes have in common.
fn common_classes(bytes: &[u8]) -> u8 {
    bytes.iter().fold(u8::MAX, |common, byte| common & CLASSES[usize::from(*byte)])
}

/// A target in origin form, in two parts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target<'h> {
    pub(super) root: &'static str,
    pub(super) rest: &'h str,
    /// Whether the client has sent it in origin form, of characters that every parser reads alike.
    pub(super) is_plain: bool,
}

/// Checks the form of a target. Returns the authority of one in absolute form, and the target in origin form.
pub(super) fn check_target<'t>(method: &str, target: &'t str) -> Result<(Option<&'t [u8]>, Target<'t>), HeadError> {
    let classes = common_classes(target.as_bytes());
    if classes & TARGET == 0 {
        return Err(HeadError::Target);
    }
    if target.starts_with('/') || (target == "*" && method == "OPTIONS") {
        let is_plain = classes & PLAIN != 0 && target.starts_with('/');
        return Ok((None, Target { root: "", rest: target, is_plain }));
    }
    let rest = ["http://", "https://"]
        .iter()
        .find_map(|scheme| target.get(..scheme.len()).filter(|start| start.eq_ignore_ascii_case(scheme)).map(str::len))
        .map(|length| &target[length..])
        .ok_or(HeadError::Target)?;
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    if !is_authority(authority.as_bytes()) {
        return Err(HeadError::Target);
    }
    let root = match path {
        "" if method == "OPTIONS" => "*",
        path if path.starts_with('/') => "",
        _ => "/",
    };
    Ok((Some(authority.as_bytes()), Target { root, rest: path, is_plain: false }))
}

/// Whether a text is a host and an optional port, without user information. No comma, which would make a list.
pub(super) fn is_authority(text: &[u8]) -> bool {
    let (host, port) = match text.iter().rposition(|byte| *byte == b':') {
        Some(colon) if !text[colon..].contains(&b']') => (&text[..colon], &text[colon + 1..]),
        _ => (text, &text[text.len()..]),
    };
    let is_valid = match host {
        [b'[', address @ .., b']'] => !address.is_empty() && common_classes(address) & LITERAL != 0,
        [] => false,
        name => common_classes(name) & NAME != 0,
    };
    is_valid && port.len() <= 5 && port.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unambiguous_targets_in_origin_form_are_plain() {
        for (target, is_plain) in [
            ("/", true),
            ("/a-b_c.d~e/%20!$&'()*+,;=:@?x=/?", true),
            ("/a\"b", false),
            ("/a|b", false),
            ("/a\\b", false),
            ("/{a}", false),
            ("http://a/b", false),
        ] {
            let (_, parsed) = check_target("GET", target).unwrap();
            assert_eq!((parsed.is_plain, parsed.root), (is_plain, ""), "{target}");
        }
        let (_, any) = check_target("OPTIONS", "*").unwrap();
        assert!(!any.is_plain);
        for target in ["/a#b", "/a b", "/é", "*", "a/b", "ftp://a/b", "http://u@a/", "http:///"] {
            assert!(check_target("GET", target).is_err(), "{target}");
        }
    }

    #[test]
    fn authority_is_a_host_and_a_port() {
        for (text, is_valid) in [
            ("a", true),
            ("a.example:80", true),
            ("a:", true),
            ("[::1]:80", true),
            ("[::1]", true),
            ("", false),
            (":80", false),
            ("a:123456", false),
            ("a:8x", false),
            ("a,b", false),
            ("u@a", false),
            ("[]", false),
            ("[g]", false),
        ] {
            assert_eq!(is_authority(text.as_bytes()), is_valid, "{text}");
        }
    }
}
