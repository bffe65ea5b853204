//! Macaroons in the libmacaroons v2 binary format, with first-party caveats only (contract, credentials section 7).

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::keyring::MAC_LEN;

const VERSION: u8 = 2;
const END: u8 = 0;
const LOCATION: u8 = 1;
const IDENTIFIER: u8 = 2;
const SIGNATURE: u8 = 6;
/// Bound on the number of caveats: each one is parsed and costs an HMAC.
const CAVEATS_MAX: usize = 64;

/// A macaroon. Its holder can add caveats; removing one invalidates the signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Macaroon {
    pub(super) location: Option<Vec<u8>>,
    pub(super) identifier: Vec<u8>,
    pub(super) caveats: Vec<Vec<u8>>,
    signature: [u8; MAC_LEN],
}

impl Macaroon {
    /// Creates a macaroon with one caveat.
    pub(super) fn mint(root_key: &[u8], location: &str, identifier: &str, caveat: &str) -> Self {
        let mut macaroon = Self {
            location: Some(location.into()),
            identifier: identifier.into(),
            caveats: vec![caveat.into()],
            signature: [0; MAC_LEN],
        };
        macaroon.signature = macaroon.hmac_chain(root_key);
        macaroon
    }

    /// Verifies the signature with a root key, in constant time.
    pub(super) fn verify(&self, root_key: &[u8]) -> bool {
        self.hmac_chain(root_key).ct_eq(&self.signature).into()
    }

    fn hmac_chain(&self, root_key: &[u8]) -> [u8; MAC_LEN] {
        let key = hmac(b"macaroons-key-generator", root_key);
        self.caveats.iter().fold(hmac(&key, &self.identifier), |signature, caveat| hmac(&signature, caveat))
    }

    /// Attenuates the macaroon: adds a caveat, as any holder can.
    #[cfg(test)]
    pub(super) fn attenuate(&mut self, caveat: &str) {
        self.caveats.push(caveat.into());
        self.signature = hmac(&self.signature, caveat.as_bytes());
    }

    /// Decodes the binary form; `None` for malformed input and for third-party caveats.
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
            // Only third-party caveats have a location or a verification id.
            caveats.push(reader.field(IDENTIFIER)?.to_vec());
            reader.end()?;
        }
        let signature = reader.field(SIGNATURE)?.try_into().ok()?;
        let complete = reader.0.is_empty();
        let location = location.map(<[u8]>::to_vec);
        complete.then(|| Self { location, identifier: identifier.to_vec(), caveats, signature })
    }

    /// Encodes the binary form.
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

fn hmac(key: &[u8], message: &[u8]) -> [u8; MAC_LEN] {
    let mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.chain_update(message).finalize().into_bytes().into()
}

/// Appends a field: type, length as a varint (LEB128), bytes.
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

    /// The outer `None` stands for a malformed field, the inner one for an absent field.
    #[expect(clippy::option_option, reason = "malformed and absent are distinct")]
    fn optional(&mut self, kind: u8) -> Option<Option<&'a [u8]>> {
        if self.0.first() == Some(&kind) { self.field(kind).map(Some) } else { Some(None) }
    }

    /// Reads a varint in its shortest form, of at most three bytes: a credential is much shorter than 2 MiB.
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
    fn signature_is_valid_only_with_the_root_key_and_all_caveats() {
        let mut macaroon = Macaroon::mint(b"root", "here", "id", "one");
        assert!(macaroon.verify(b"root") && !macaroon.verify(b"toor"));
        macaroon.attenuate("two");
        assert!(macaroon.verify(b"root"));
        macaroon.caveats.pop();
        assert!(!macaroon.verify(b"root"), "a caveat cannot be removed");
    }

    #[test]
    fn malformed_macaroons_and_third_party_caveats_are_rejected() {
        let valid = Macaroon::mint(b"root", "here", "id", "c").encode();
        assert!(Macaroon::decode(&valid).is_some());
        let third_party = [&valid[..13], &[1, 1, b'x', 2, 1, b'c', 4, 1, b'v', 0], &valid[13..]].concat();
        let too_many = {
            let mut many = Macaroon::mint(b"root", "here", "id", "c");
            (0..CAVEATS_MAX).for_each(|_| many.attenuate("c"));
            many.encode()
        };
        for invalid in
            [&valid[..valid.len() - 1], &[&valid[..], &[0]].concat(), &third_party, &too_many, &[], &[2], &[1]]
        {
            assert_eq!(Macaroon::decode(invalid), None);
        }
        assert_eq!(Macaroon::decode(b"\x02\x02\x82\x00id\x00\x00"), None, "a length must have its shortest form");
    }

    #[test]
    fn varint_lengths_of_one_two_and_three_bytes_round_trip() {
        for length in [0, 127, 128, 16_383, 16_384, 40_000] {
            let macaroon = Macaroon::mint(b"root", "here", "id", &"c".repeat(length));
            assert_eq!(Macaroon::decode(&macaroon.encode()), Some(macaroon), "{length}");
        }
    }

    proptest! {
        #[test]
        fn decoding_never_panics_and_encoding_restores_the_bytes(bytes in proptest::collection::vec(0u8..8, 0..80)) {
            if let Some(macaroon) = Macaroon::decode(&bytes) {
                prop_assert_eq!(macaroon.encode(), bytes);
            }
        }

        #[test]
        fn encoded_macaroons_round_trip(id in ".{0,300}", caveats in proptest::collection::vec(".{0,300}", 1..4)) {
            let mut macaroon = Macaroon::mint(b"root", "here", &id, &caveats[0]);
            caveats[1..].iter().for_each(|caveat| macaroon.attenuate(caveat));
            prop_assert_eq!(Macaroon::decode(&macaroon.encode()), Some(macaroon));
        }
    }
}
