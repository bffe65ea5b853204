//! Base58 decoder for identifiers and checksums of issued keys. It processes ten digits per step: decoding with a library
//! that works digit by digit costs more than the rest of rejecting an invalid key.

/// The Bitcoin alphabet, ordered by digit value.
const ALPHABET: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
/// Marks a byte that is not a Base58 digit.
const INVALID: u8 = 0xff;
/// Set in [`INVALID`], and in the value of no digit.
const INVALID_BIT: u8 = 0x80;
/// Digits per step: 58^10 is the largest power of 58 below 2^64.
const CHUNK: usize = 10;
/// Maximum length of a text, in digits.
pub(super) const TEXT_MAX: usize = 128;
/// 64-bit words for the longest text: 128 digits have 750 bits.
const WORDS: usize = 12;

/// The powers of 58.
const POWERS: [u64; CHUNK + 1] = {
    let mut powers = [1; CHUNK + 1];
    let mut exponent = 1;
    while exponent <= CHUNK {
        powers[exponent] = powers[exponent - 1] * 58;
        exponent += 1;
    }
    powers
};

const VALUES: [u8; 256] = {
    let mut values = [INVALID; 256];
    let mut value: u8 = 0;
    while (value as usize) < ALPHABET.len() {
        values[ALPHABET[value as usize] as usize] = value;
        value += 1;
    }
    values
};

/// Whether a text is empty or has Base58 digits only.
pub(super) fn has_only_digits(text: &str) -> bool {
    text.bytes().fold(0, |invalid, byte| invalid | VALUES[usize::from(byte)]) & INVALID_BIT == 0
}

/// Decodes a text of at most [`TEXT_MAX`] digits into `bytes` and returns the decoded length. `None` if the text is not
/// Base58, is longer, or does not fit into `bytes`.
pub(super) fn decode(text: &str, bytes: &mut [u8]) -> Option<usize> {
    if text.len() > TEXT_MAX {
        return None;
    }
    let (mut words, mut used) = ([0_u64; WORDS], 0);
    for chunk in text.as_bytes().chunks(CHUNK) {
        let mut carry = value_of(chunk)?;
        for word in &mut words[..used] {
            let sum = u128::from(*word) * u128::from(POWERS[chunk.len()]) + u128::from(carry);
            (*word, carry) = (low(sum), low(sum >> 64));
        }
        if carry > 0 {
            *words.get_mut(used)? = carry;
            used += 1;
        }
    }
    write(&words[..used], text.bytes().take_while(|digit| *digit == ALPHABET[0]).count(), bytes)
}

/// The value of at most [`CHUNK`] digits; `None` if one is no digit. Pairs of digits are independent of each other, so that the processor
/// computes several at a time.
fn value_of(digits: &[u8]) -> Option<u64> {
    let (pairs, last) = digits.as_chunks::<2>();
    let (mut value, mut invalid) = (0_u64, 0);
    for pair in pairs {
        let [high, low] = pair.map(|digit| VALUES[usize::from(digit)]);
        invalid |= high | low;
        value = value * POWERS[2] + (u64::from(high) * POWERS[1] + u64::from(low));
    }
    if let [digit] = last {
        let digit = VALUES[usize::from(*digit)];
        invalid |= digit;
        value = value * POWERS[1] + u64::from(digit);
    }
    (invalid & INVALID_BIT == 0).then_some(value)
}

/// Writes `leading_zeros` zero bytes, then little-endian `words` as big-endian bytes without leading zeros.
fn write(words: &[u64], leading_zeros: usize, bytes: &mut [u8]) -> Option<usize> {
    let Some((first, rest)) = words.split_last() else {
        bytes.get_mut(..leading_zeros)?.fill(0);
        return Some(leading_zeros);
    };
    let unused = first.leading_zeros() as usize / 8;
    let length = leading_zeros + 8 * words.len() - unused;
    let (zeros, digits) = bytes.get_mut(..length)?.split_at_mut(leading_zeros);
    zeros.fill(0);
    let (start, digits) = digits.split_at_mut(8 - unused);
    start.copy_from_slice(&first.to_be_bytes()[unused..]);
    for (to, word) in digits.as_chunks_mut::<8>().0.iter_mut().zip(rest.iter().rev()) {
        *to = word.to_be_bytes();
    }
    Some(length)
}

#[expect(clippy::cast_possible_truncation, reason = "only the low half is kept")]
fn low(number: u128) -> u64 {
    number as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(text: &str, capacity: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; capacity];
        let length = decode(text, &mut bytes)?;
        bytes.truncate(length);
        Some(bytes)
    }

    #[test]
    fn boundary_inputs_are_decoded_or_rejected() {
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
        fn result_equals_that_of_the_bs58_crate(text in "[1-9A-HJ-NP-Za-km-z]{0,128}|1{0,9}[1-9A-HJ-NP-Za-km-z]{0,50}|[ -~é]{0,20}", capacity in 0_usize..130) {
            let mut expected = vec![0; capacity];
            let length = bs58::decode(&text).onto(&mut expected[..]).ok();
            expected.truncate(length.unwrap_or_default());
            prop_assert_eq!(decoded(&text, capacity), length.map(|_| expected));
            prop_assert_eq!(has_only_digits(&text), bs58::decode(&text).into_vec().is_ok());
        }

        #[test]
        fn encoded_bytes_round_trip(bytes in proptest::collection::vec(any::<u8>(), 0..90)) {
            prop_assert_eq!(decoded(&bs58::encode(&bytes).into_string(), bytes.len()), Some(bytes));
        }
    }
}
