//! Texts of a key as values of header fields.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

/// What cannot stand in a field value, and the percent sign: decoding gives back exactly the text that was encoded, so no
/// two texts look the same to who reads the field.
const TEXT: &AsciiSet = &CONTROLS.add(b'%');

/// As [`TEXT`], for where a space would separate or be cut off.
const WORD: &AsciiSet = &TEXT.add(b' ');

/// A field value for any text: nothing in it can end the field, be cut off, or make it look like another text.
pub fn encode_text(text: &str) -> Cow<'_, str> {
    // Blanks at the ends of a value are not part of it.
    let frayed = text.starts_with(' ') || text.ends_with(' ');
    utf8_percent_encode(text, if frayed { WORD } else { TEXT }).into()
}

/// A field value for a list of texts, separated by spaces.
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
    fn no_two_texts_look_the_same() {
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
        fn any_text_comes_back_by_decoding(
            text in "\\PC{0,12}",
            near in "[ %aé\r\n\t]{0,8}",
            words in proptest::collection::vec("\\PC{1,6}", 0..5),
        ) {
            for text in [text, near] {
                let value = encode_text(&text).into_owned();
                prop_assert_eq!(value.trim_matches([' ', '\t']), &value, "a blank at an end is cut off");
                prop_assert!(value.bytes().all(|byte| matches!(byte, b' '..=b'~')));
                prop_assert_eq!(decoded(&value), text);
            }
            let value = encode_words(words.iter().map(String::as_str));
            let found: Vec<String> = value.split(' ').filter(|word| !word.is_empty()).map(decoded).collect();
            prop_assert_eq!(found, words);
        }
    }
}
