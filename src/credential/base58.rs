//! Base58 to bytes, for every credential that claims to be an issued key: a library that works digit by digit takes longer for
//! this than all else that a refusal takes.

/// The digits in the order of their values: Bitcoin's alphabet.
const ALPHABET: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
/// What is no digit.
const NONE: u8 = 0xff;
/// So many digits at once fit into a word.
const CHUNK: usize = 10;
/// The longest text, in digits.
pub(super) const TEXT_MAX: usize = 128;
/// Words that hold the number of the longest text: 128 digits have 750 bits.
const WORDS: usize = 12;

const VALUES: [u8; 256] = {
    let mut values = [NONE; 256];
    let mut value: u8 = 0;
    while (value as usize) < ALPHABET.len() {
        values[ALPHABET[value as usize] as usize] = value;
        value += 1;
    }
    values
};

/// Decodes a text of at most [`TEXT_MAX`] digits into `bytes`; how many there are. `None` for what is not Base58, is longer, or
/// does not fit.
pub(super) fn decode(text: &str, bytes: &mut [u8]) -> Option<usize> {
    if text.len() > TEXT_MAX {
        return None;
    }
    let (mut words, mut used) = ([0_u64; WORDS], 0);
    for chunk in text.as_bytes().chunks(CHUNK) {
        let (mut factor, mut carry) = (1_u64, 0_u64);
        for digit in chunk {
            let value = VALUES[usize::from(*digit)];
            if value == NONE {
                return None;
            }
            factor *= 58;
            carry = carry * 58 + u64::from(value);
        }
        for word in &mut words[..used] {
            let sum = u128::from(*word) * u128::from(factor) + u128::from(carry);
            (*word, carry) = (low(sum), low(sum >> 64));
        }
        if carry > 0 {
            *words.get_mut(used)? = carry;
            used += 1;
        }
    }
    write(&words[..used], text.bytes().take_while(|digit| *digit == ALPHABET[0]).count(), bytes)
}

/// Writes words, the lowest first, as bytes, the highest first, after so many zeros.
fn write(words: &[u64], zeros: usize, bytes: &mut [u8]) -> Option<usize> {
    let digits = words.iter().rev().flat_map(|word| word.to_be_bytes()).skip_while(|byte| *byte == 0);
    let mut length = 0;
    for byte in std::iter::repeat_n(0, zeros).chain(digits) {
        *bytes.get_mut(length)? = byte;
        length += 1;
    }
    Some(length)
}

#[expect(clippy::cast_possible_truncation, reason = "the low half is meant")]
fn low(number: u128) -> u64 {
    number as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(text: &str, room: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; room];
        let length = decode(text, &mut bytes)?;
        bytes.truncate(length);
        Some(bytes)
    }

    #[test]
    fn the_edges() {
        assert_eq!(decoded("", 0), Some(vec![]));
        assert_eq!(decoded("1", 1), Some(vec![0]));
        assert_eq!(decoded("111z", 4), Some(vec![0, 0, 0, 57]));
        assert_eq!(decoded("111z", 3), None);
        for text in ["0", "O", "I", "l", "a b", "é", "z\0"] {
            assert_eq!(decoded(text, 64), None, "{text:?}");
        }
        let longest = "z".repeat(TEXT_MAX);
        assert_eq!(decoded(&longest, 128), bs58::decode(&longest).into_vec().ok());
        assert_eq!(decoded(&format!("{longest}z"), 256), None);
        assert_eq!(decoded(&"1".repeat(TEXT_MAX), 128), Some(vec![0; 128]));
    }

    proptest! {
        #[test]
        fn a_library_reads_the_same(text in "[1-9A-HJ-NP-Za-km-z]{0,128}|1{0,9}[1-9A-HJ-NP-Za-km-z]{0,50}|[ -~é]{0,20}", room in 0_usize..130) {
            let mut theirs = vec![0; room];
            let length = bs58::decode(&text).onto(&mut theirs[..]).ok();
            theirs.truncate(length.unwrap_or_default());
            prop_assert_eq!(decoded(&text, room), length.map(|_| theirs));
        }

        #[test]
        fn bytes_come_back(bytes in proptest::collection::vec(any::<u8>(), 0..90)) {
            prop_assert_eq!(decoded(&bs58::encode(&bytes).into_string(), bytes.len()), Some(bytes));
        }
    }
}
