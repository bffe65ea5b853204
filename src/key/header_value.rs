//! Header value encoding: percent-encodes arbitrary text so that it is a valid HTTP field value.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

/// Control characters, which a field value cannot contain, and the percent sign, so that the encoding is injective: two
/// different texts never have the same encoding. Non-ASCII characters are always encoded.
const TEXT: &AsciiSet = &CONTROLS.add(b'%');

/// [`TEXT`] and the space, for where a space is a separator or would be trimmed.
const WORD: &AsciiSet = &TEXT.add(b' ');

/// Encodes a text as a field value: visible ASCII and inner spaces. Percent-decoding returns the exact text.
pub fn encode_text(text: &str) -> Cow<'_, str> {
    // Whitespace around a field value is not part of it (RFC 9110 section 5.5).
    let would_be_trimmed = text.starts_with(' ') || text.ends_with(' ');
    utf8_percent_encode(text, if would_be_trimmed { WORD } else { TEXT }).into()
}

/// Encodes a list of texts as a space-separated field value. Spaces inside a text are encoded.
pub fn encode_words<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let mut value = String::new();
    for word in words {
        if !value.is_empty() {
            value.push(' ');
        }
        value.extend(utf8_percent_encode(word, WORD));
    }
    value
}

#[cfg(test)]
mod tests {
    use percent_encoding::percent_decode_str;
    use proptest::prelude::*;

    use super::*;

    fn decoded(value: &str) -> String {
        percent_decode_str(value).decode_utf8().unwrap().into_owned()
    }

    #[test]
    fn encoding_is_injective_and_keeps_visible_ascii() {
        for (text, value) in [
            ("", ""),
            ("user_1", "user_1"),
            ("Ana Lima", "Ana Lima"),
            ("é", "%C3%A9"),
            ("%C3%A9", "%25C3%25A9"),
            ("100%", "100%25"),
            (" root ", "%20root%20"),
            ("a\tb", "a%09b"),
            ("a\u{7f}\0", "a%7F%00"),
        ] {
            assert_eq!(encode_text(text), value, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn decoding_returns_the_encoded_text(
            text in "\\PC{0,12}",
            special in "[ %aé\r\n\t]{0,8}",
            words in proptest::collection::vec("\\PC{1,6}", 0..5),
        ) {
            for text in [text, special] {
                let value = encode_text(&text).into_owned();
                prop_assert_eq!(value.trim_matches([' ', '\t']), &value, "whitespace at an end would be trimmed");
                prop_assert!(value.bytes().all(|byte| matches!(byte, b' '..=b'~')));
                prop_assert_eq!(decoded(&value), text);
            }
            let value = encode_words(words.iter().map(String::as_str));
            let decoded_words: Vec<String> = value.split(' ').filter(|word| !word.is_empty()).map(decoded).collect();
            prop_assert_eq!(decoded_words, words);
        }
    }
}
