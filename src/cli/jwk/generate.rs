//! Generation of key pairs and their JWK members (RFC 7518, RFC 8037).

use anyhow::{Context, bail};
use aws_lc_rs::encoding::{AsBigEndian, AsDer, Curve25519SeedBin, EcPrivateKeyBin, Pkcs8V1Der};
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::ValueEnum;
use pkcs1::RsaPrivateKeyRef;
use pkcs8::PrivateKeyInfoRef;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

const NO_KEY: &str = "cannot generate a key; the system's random number generator failed";

/// An elliptic curve; it determines the algorithm.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(in crate::cli) enum Curve {
    /// ES256
    #[value(name = "P-256")]
    P256,
    /// ES384
    #[value(name = "P-384")]
    P384,
    /// ES512
    #[value(name = "P-521")]
    P521,
}

/// A signature algorithm of RSA keys.
#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "UPPER")]
pub(in crate::cli) enum RsaAlgorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
}

/// A generated key: its JWK members in output order, encoded as text.
pub(super) struct Pair {
    algorithm: &'static str,
    kind: &'static str,
    /// The members that the thumbprint covers, without `kty`.
    public: Vec<(&'static str, String)>,
    private: Vec<(&'static str, String)>,
}

pub(super) fn eddsa() -> anyhow::Result<Pair> {
    let pair = Ed25519KeyPair::generate().ok().context(NO_KEY)?;
    let seed = pair.seed().ok().context(NO_KEY)?;
    let seed: Curve25519SeedBin<'_> = seed.as_be_bytes().ok().context(NO_KEY)?;
    let public = vec![("crv", "Ed25519".into()), ("x", base64url(pair.public_key().as_ref()))];
    Ok(Pair { algorithm: "EdDSA", kind: "OKP", public, private: vec![("d", base64url(seed.as_ref()))] })
}

pub(super) fn ecdsa(curve: Curve) -> anyhow::Result<Pair> {
    let (name, algorithm, signing): (&str, _, &'static EcdsaSigningAlgorithm) = match curve {
        Curve::P256 => ("P-256", "ES256", &ECDSA_P256_SHA256_FIXED_SIGNING),
        Curve::P384 => ("P-384", "ES384", &ECDSA_P384_SHA384_FIXED_SIGNING),
        Curve::P521 => ("P-521", "ES512", &ECDSA_P521_SHA512_FIXED_SIGNING),
    };
    let pair = EcdsaKeyPair::generate(signing).ok().context(NO_KEY)?;
    let private: EcPrivateKeyBin<'_> = pair.private_key().as_be_bytes().ok().context(NO_KEY)?;
    // An uncompressed point: the byte 4, then both coordinates in full length.
    let point = &pair.public_key().as_ref()[1..];
    let (x, y) = point.split_at(point.len() / 2);
    let public = vec![("crv", name.into()), ("x", base64url(x)), ("y", base64url(y))];
    Ok(Pair { algorithm, kind: "EC", public, private: vec![("d", base64url(private.as_ref()))] })
}

pub(super) fn rsa(bits: u32, algorithm: RsaAlgorithm) -> anyhow::Result<Pair> {
    let size = match bits {
        2048 => rsa::KeySize::Rsa2048,
        3072 => rsa::KeySize::Rsa3072,
        4096 => rsa::KeySize::Rsa4096,
        8192 => rsa::KeySize::Rsa8192,
        _ => bail!("--bits must be 2048, 3072, 4096 or 8192"),
    };
    let pair = rsa::KeyPair::generate(size).ok().context(NO_KEY)?;
    let der: Pkcs8V1Der<'_> = pair.as_der().ok().context(NO_KEY)?;
    let info = PrivateKeyInfoRef::try_from(der.as_ref()).context("cannot parse the generated key")?;
    let key = RsaPrivateKeyRef::try_from(info.private_key.as_bytes()).context("cannot parse the generated key")?;
    let member = |name, number: pkcs1::UintRef<'_>| (name, base64url(number.as_bytes()));
    Ok(Pair {
        algorithm: algorithm.name(),
        kind: "RSA",
        public: vec![member("n", key.modulus), member("e", key.public_exponent)],
        private: vec![
            member("d", key.private_exponent),
            member("p", key.prime1),
            member("q", key.prime2),
            member("dp", key.exponent1),
            member("dq", key.exponent2),
            member("qi", key.coefficient),
        ],
    })
}

pub(super) fn hmac(bits: u32) -> anyhow::Result<Pair> {
    if bits < 256 || !bits.is_multiple_of(8) || bits > 1 << 20 {
        bail!("--bits must be at least 256 and a multiple of 8, for example 256, 384 or 512");
    }
    let mut secret = vec![0; bits as usize / 8];
    aws_lc_rs::rand::fill(&mut secret).ok().context(NO_KEY)?;
    let algorithm = match bits {
        384 => "HS384",
        512.. => "HS512",
        _ => "HS256",
    };
    Ok(Pair { algorithm, kind: "oct", public: vec![("k", base64url(&secret))], private: Vec::new() })
}

impl RsaAlgorithm {
    fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
        }
    }
}

impl Pair {
    pub(super) fn kind(&self) -> &'static str {
        self.kind
    }

    pub(super) fn algorithm(&self) -> &'static str {
        self.algorithm
    }

    /// The RFC 7638 thumbprint: SHA-256 over the required members in lexicographic order.
    pub(super) fn thumbprint(&self) -> String {
        let mut members = self.public.clone();
        members.push(("kty", self.kind.into()));
        members.sort();
        let members: Vec<_> = members.iter().map(|(name, value)| format!("\"{name}\":\"{value}\"")).collect();
        base64url(&Sha256::digest(format!("{{{}}}", members.join(","))))
    }

    pub(super) fn to_json(&self, kid: &str, usage: &str, public_only: bool) -> Value {
        let mut key = Map::new();
        let head = [("kty", self.kind), ("kid", kid), ("use", usage), ("alg", self.algorithm)];
        key.extend(head.map(|(name, value)| (name.to_owned(), value.into())));
        let private = self.private.iter().filter(|_| !public_only);
        key.extend(self.public.iter().chain(private).map(|(name, value)| ((*name).to_owned(), value.as_str().into())));
        key.into()
    }
}

fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::rsa::PublicKeyComponents;
    use aws_lc_rs::signature::{ECDSA_P521_SHA512_FIXED, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256};
    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};

    use super::*;

    fn bytes(key: &Value, member: &str) -> Vec<u8> {
        URL_SAFE_NO_PAD.decode(key[member].as_str().unwrap()).unwrap()
    }

    #[test]
    fn thumbprint_equals_the_example_of_rfc_7638() {
        let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
        let public = vec![("n", n.into()), ("e", "AQAB".into())];
        let pair = Pair { algorithm: "RS256", kind: "RSA", public, private: Vec::new() };
        assert_eq!(pair.thumbprint(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    }

    #[test]
    fn public_key_verifies_signatures_of_the_private_key() {
        let key = eddsa().unwrap().to_json("k", "sig", false);
        let pair = Ed25519KeyPair::from_seed_and_public_key(&bytes(&key, "d"), &bytes(&key, "x")).unwrap();
        UnparsedPublicKey::new(&ED25519, bytes(&key, "x")).verify(b"text", pair.sign(b"text").as_ref()).unwrap();

        let key = ecdsa(Curve::P521).unwrap().to_json("k", "sig", false);
        assert_eq!([bytes(&key, "d").len(), bytes(&key, "x").len(), bytes(&key, "y").len()], [66; 3]);
        let point = [&[4], &bytes(&key, "x")[..], &bytes(&key, "y")].concat();
        let signing = &ECDSA_P521_SHA512_FIXED_SIGNING;
        let pair = EcdsaKeyPair::from_private_key_and_public_key(signing, &bytes(&key, "d"), &point).unwrap();
        let signature = pair.sign(&SystemRandom::new(), b"text").unwrap();
        UnparsedPublicKey::new(&ECDSA_P521_SHA512_FIXED, point).verify(b"text", signature.as_ref()).unwrap();

        let key = rsa(2048, RsaAlgorithm::Ps384).unwrap().to_json("k", "sig", false);
        let public = PublicKeyComponents { n: bytes(&key, "n"), e: bytes(&key, "e") };
        let parts = rsa::KeyPairComponents {
            public_key: public.clone(),
            d: bytes(&key, "d"),
            p: bytes(&key, "p"),
            q: bytes(&key, "q"),
            dP: bytes(&key, "dp"),
            dQ: bytes(&key, "dq"),
            qInv: bytes(&key, "qi"),
        };
        let pair = rsa::KeyPair::from_components(&parts).unwrap();
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), b"text", &mut signature).unwrap();
        public.verify(&RSA_PKCS1_2048_8192_SHA256, b"text", &signature).unwrap();
        assert_eq!(key["alg"], "PS384");
    }

    #[test]
    fn public_jwk_has_no_private_members() {
        for pair in [eddsa(), ecdsa(Curve::P256), rsa(2048, RsaAlgorithm::Rs256)] {
            let key = pair.unwrap().to_json("k", "sig", true);
            for member in ["d", "p", "q", "dp", "dq", "qi", "k"] {
                assert!(key.get(member).is_none(), "{member}");
            }
        }
    }

    #[test]
    fn size_selects_the_hmac_algorithm_and_is_validated() {
        for (bits, algorithm) in
            [(256, "HS256"), (376, "HS256"), (384, "HS384"), (392, "HS256"), (512, "HS512"), (1024, "HS512")]
        {
            let pair = hmac(bits).unwrap();
            assert_eq!(pair.algorithm(), algorithm);
            assert_eq!(bytes(&pair.to_json("k", "sig", false), "k").len(), bits as usize / 8);
        }
        for bits in [0, 128, 248, 257, u32::MAX] {
            assert!(hmac(bits).is_err());
        }
        for bits in [1024, 2049, 16384] {
            let error = rsa(bits, RsaAlgorithm::Rs256).err().unwrap().to_string();
            assert!(error.contains("2048, 3072, 4096 or 8192"), "{error}");
        }
    }
}
