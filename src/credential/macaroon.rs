//! Macaroons in the second binary format of libmacaroons, with first-party caveats only (contract, credentials section 7).

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::keyring::MAC_LEN;

const VERSION: u8 = 2;
const END: u8 = 0;
const LOCATION: u8 = 1;
const IDENTIFIER: u8 = 2;
const SIGNATURE: u8 = 6;
/// More than any chain of delegations needs; each caveat is parsed and costs a hash.
const CAVEATS_MAX: usize = 64;

/// A macaroon. Whoever has it can add caveats, nobody can take one away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Macaroon {
    pub(super) location: Option<Vec<u8>>,
    pub(super) identifier: Vec<u8>,
    pub(super) caveats: Vec<Vec<u8>>,
    signature: [u8; MAC_LEN],
}

impl Macaroon {
    /// A fresh macaroon with one caveat.
    pub(super) fn mint(root_key: &[u8], location: &str, identifier: &str, caveat: &str) -> Self {
        let mut macaroon = Self {
            location: Some(location.into()),
            identifier: identifier.into(),
            caveats: vec![caveat.into()],
            signature: [0; MAC_LEN],
        };
        macaroon.signature = macaroon.chain(root_key);
        macaroon
    }

    /// Whether this root key made the macaroon; compared in constant time.
    pub(super) fn is_made_by(&self, root_key: &[u8]) -> bool {
        self.chain(root_key).ct_eq(&self.signature).into()
    }

    fn chain(&self, root_key: &[u8]) -> [u8; MAC_LEN] {
        let key = code(b"macaroons-key-generator", root_key);
        self.caveats.iter().fold(code(&key, &self.identifier), |signature, caveat| code(&signature, caveat))
    }

    /// Adds a caveat, as any holder may.
    #[cfg(test)]
    pub(super) fn narrow(&mut self, caveat: &str) {
        self.caveats.push(caveat.into());
        self.signature = code(&self.signature, caveat.as_bytes());
    }

    /// Reads the binary form; `None` for anything that this form cannot be, third-party caveats included.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes.strip_prefix(&[VERSION])?);
        let location = reader.optional(LOCATION)?;
        let identifier = reader.field(IDENTIFIER)?;
        reader.end()?;
        let mut caveats = Vec::new();
        while reader.end().is_none() {
            if caveats.len() == CAVEATS_MAX {
                return None;
            }
            // A caveat with a location or a verification id would be a third party's.
            caveats.push(reader.field(IDENTIFIER)?.to_vec());
            reader.end()?;
        }
        let signature = reader.field(SIGNATURE)?.try_into().ok()?;
        let whole = reader.0.is_empty();
        let location = location.map(<[u8]>::to_vec);
        whole.then(|| Self { location, identifier: identifier.to_vec(), caveats, signature })
    }

    /// The binary form.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        if let Some(location) = &self.location {
            write(&mut bytes, LOCATION, location);
        }
        write(&mut bytes, IDENTIFIER, &self.identifier);
        bytes.push(END);
        for caveat in &self.caveats {
            write(&mut bytes, IDENTIFIER, caveat);
            bytes.push(END);
        }
        bytes.push(END);
        write(&mut bytes, SIGNATURE, &self.signature);
        bytes
    }
}

fn code(key: &[u8], message: &[u8]) -> [u8; MAC_LEN] {
    let mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.chain_update(message).finalize().into_bytes().into()
}

/// A field: type, length in base 128 with the low bits first, bytes.
fn write(bytes: &mut Vec<u8>, kind: u8, value: &[u8]) {
    bytes.push(kind);
    let mut rest = value.len();
    while rest >= 0x80 {
        bytes.push(rest.to_le_bytes()[0] | 0x80);
        rest >>= 7;
    }
    bytes.push(rest.to_le_bytes()[0]);
    bytes.extend_from_slice(value);
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn end(&mut self) -> Option<()> {
        self.0 = self.0.strip_prefix(&[END])?;
        Some(())
    }

    fn field(&mut self, kind: u8) -> Option<&'a [u8]> {
        self.0 = self.0.strip_prefix(&[kind])?;
        let length = self.length()?;
        let (value, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(value)
    }

    /// The outer `None` is a field that cannot be read, the inner one an absent field.
    #[expect(clippy::option_option, reason = "unreadable and absent are different things")]
    fn optional(&mut self, kind: u8) -> Option<Option<&'a [u8]>> {
        if self.0.first() == Some(&kind) { self.field(kind).map(Some) } else { Some(None) }
    }

    /// A length of at most three bytes in its only shortest form: a credential is much shorter than 2 MiB.
    fn length(&mut self) -> Option<usize> {
        let mut length = 0;
        for index in 0..3 {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            length |= usize::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                return (index == 0 || *byte != 0).then_some(length);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_macaroon_is_made_by_its_root_key_and_no_other() {
        let mut macaroon = Macaroon::mint(b"root", "here", "id", "one");
        assert!(macaroon.is_made_by(b"root") && !macaroon.is_made_by(b"toor"));
        macaroon.narrow("two");
        assert!(macaroon.is_made_by(b"root"));
        macaroon.caveats.pop();
        assert!(!macaroon.is_made_by(b"root"), "a caveat cannot be taken away");
    }

    #[test]
    fn third_party_caveats_and_other_oddities_are_refused() {
        let good = Macaroon::mint(b"root", "here", "id", "c").encode();
        assert!(Macaroon::decode(&good).is_some());
        let third_party = [&good[..13], &[1, 1, b'x', 2, 1, b'c', 4, 1, b'v', 0], &good[13..]].concat();
        let too_many = {
            let mut many = Macaroon::mint(b"root", "here", "id", "c");
            (0..CAVEATS_MAX).for_each(|_| many.narrow("c"));
            many.encode()
        };
        for bad in [&good[..good.len() - 1], &[&good[..], &[0]].concat(), &third_party, &too_many, &[], &[2], &[1]] {
            assert_eq!(Macaroon::decode(bad), None);
        }
        assert_eq!(Macaroon::decode(b"\x02\x02\x82\x00id\x00\x00"), None, "a length has one form");
    }

    #[test]
    fn lengths_of_one_two_and_three_bytes_are_written_and_read() {
        for length in [0, 127, 128, 16_383, 16_384, 40_000] {
            let macaroon = Macaroon::mint(b"root", "here", "id", &"c".repeat(length));
            assert_eq!(Macaroon::decode(&macaroon.encode()), Some(macaroon), "{length}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_what_is_read_is_written_back(bytes in proptest::collection::vec(0u8..8, 0..80)) {
            if let Some(macaroon) = Macaroon::decode(&bytes) {
                prop_assert_eq!(macaroon.encode(), bytes);
            }
        }

        #[test]
        fn what_is_written_is_read_back(id in ".{0,300}", caveats in proptest::collection::vec(".{0,300}", 1..4)) {
            let mut macaroon = Macaroon::mint(b"root", "here", &id, &caveats[0]);
            caveats[1..].iter().for_each(|caveat| macaroon.narrow(caveat));
            prop_assert_eq!(Macaroon::decode(&macaroon.encode()), Some(macaroon));
        }
    }
}
