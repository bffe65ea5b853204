//! Signing keys of derived JWTs, parsed from JSON Web Keys (RFC 7517, RFC 8037; contract, credentials section 6).

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::crypto::{sign, verify};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use pkcs1::der::Encode;
use pkcs1::der::asn1::UintRef;
use secrecy::zeroize::Zeroizing;
use serde_json::{Map, Value};

/// The public members of a JWK.
const PUBLIC_MEMBERS: [&str; 11] = ["kty", "kid", "alg", "use", "crv", "x", "y", "n", "e", "x5c", "x5t#S256"];
/// Header of a PKCS#8 document with an Ed25519 seed (RFC 8410 section 7). The 32 bytes of the seed follow.
const ED25519_PKCS8: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
/// Message that is signed and verified on load, to check that private and public key match.
const PROBE: &[u8] = b"keygate";

/// A set of signing keys, in the order of their sources.
#[derive(Debug, Clone, Default)]
pub struct SigningKeys(Vec<SigningKey>);

/// A JSON Web Key that signs, verifies, or is only published.
#[derive(Clone)]
pub struct SigningKey {
    kid: String,
    /// `use` is `sig` or absent.
    for_signatures: bool,
    /// `use` is `sig`.
    declared_for_signatures: bool,
    algorithm: Option<Algorithm>,
    private: Option<EncodingKey>,
    public: Option<DecodingKey>,
    public_jwk: Map<String, Value>,
}

/// An invalid JWK or JWK set. The message names the key by its index and has no key material.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwkError {
    /// The text is neither a JWK set nor a JWK.
    #[error("is neither a JWK set nor a JWK")]
    NotASet,
    /// A key of the set cannot be used.
    #[error("key {index} of the set {why}")]
    Key {
        /// Index in the set, from 0.
        index: usize,
        /// The defect.
        why: &'static str,
    },
}

impl SigningKeys {
    /// Parses a JWK set or a single JWK. Every key must have a `kid`. Keys of unsupported algorithms are only published.
    ///
    /// # Errors
    /// [`JwkError`].
    pub fn parse(text: &str) -> Result<Self, JwkError> {
        let value: Value = serde_json::from_str(text).map_err(|_| JwkError::NotASet)?;
        let keys = match (value.get("keys"), value.get("kty")) {
            (Some(Value::Array(keys)), _) => keys.clone(),
            (None, Some(_)) => vec![value],
            _ => return Err(JwkError::NotASet),
        };
        let parse = |(index, key): (usize, &Value)| {
            let members = key.as_object().ok_or("is not an object");
            members.and_then(SigningKey::parse).map_err(|why| JwkError::Key { index, why })
        };
        keys.iter().enumerate().map(parse).collect::<Result<_, _>>().map(Self)
    }

    /// Adds the keys of another source. A key with a duplicate `kid` is ignored.
    pub fn extend(&mut self, more: Self) {
        for key in more.0 {
            if self.find(&key.kid).is_none() {
                self.0.push(key);
            }
        }
    }

    /// The number of keys.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The key for signing: the one with `kid`; if `kid` is empty, the first private key with `use` set to `sig`, else the
    /// first private key without `use`.
    pub fn signer(&self, kid: &str) -> Option<&SigningKey> {
        let mut candidates = self.0.iter().filter(|key| key.private.is_some() && key.for_signatures);
        if kid.is_empty() {
            candidates.clone().find(|key| key.declared_for_signatures).or_else(|| candidates.next())
        } else {
            candidates.find(|key| key.kid == kid)
        }
    }

    /// The public keys as JWKs, in order. Symmetric keys are left out.
    pub fn public_jwks(&self) -> Vec<Value> {
        let published = self.0.iter().map(|key| &key.public_jwk).filter(|jwk| !jwk.is_empty());
        published.map(|jwk| Value::Object(jwk.clone())).collect()
    }

    fn find(&self, kid: &str) -> Option<&SigningKey> {
        self.0.iter().find(|key| key.kid == kid)
    }

    /// Verifies a signature with the key `kid`. `algorithm` must be the algorithm of that key.
    pub(super) fn verifies(&self, kid: &str, algorithm: &str, message: &[u8], signature: &str) -> bool {
        let Some(key) = self.find(kid).filter(|key| key.for_signatures && key.algorithm_name() == Some(algorithm))
        else {
            return false;
        };
        match (&key.public, key.algorithm) {
            (Some(public), Some(algorithm)) => verify(signature, message, public, algorithm).unwrap_or(false),
            _ => false,
        }
    }
}

impl SigningKey {
    fn parse(members: &Map<String, Value>) -> Result<Self, &'static str> {
        let text = |name: &str| members.get(name).and_then(Value::as_str);
        let kid = text("kid").filter(|kid| !kid.is_empty()).ok_or("has no kid")?;
        let usage = text("use");
        let mut key = Self {
            kid: kid.to_owned(),
            for_signatures: usage.is_none_or(|usage| usage == "sig"),
            declared_for_signatures: usage == Some("sig"),
            algorithm: None,
            private: None,
            public: None,
            public_jwk: Map::new(),
        };
        match (text("kty"), text("crv")) {
            (Some("OKP"), Some("Ed25519")) => {
                key.algorithm = Some(Algorithm::EdDSA);
                key.public = Some(ed25519_public(members)?);
                key.private = ed25519_private(members)?;
            }
            (Some("RSA"), _) => {
                key.algorithm = Some(Algorithm::RS256);
                key.public = Some(rsa_public(members)?);
                key.private = rsa_private(members)?;
            }
            (Some("OKP" | "EC"), _) => {}
            (Some(_), _) => return Ok(key),
            (None, _) => return Err("has no kty"),
        }
        key.check_key_pair()?;
        key.public_jwk = key.public_members(members);
        Ok(key)
    }

    /// Checks that the private key can sign and that the public key verifies its signature.
    fn check_key_pair(&self) -> Result<(), &'static str> {
        let (Some(private), Some(public), Some(algorithm)) = (&self.private, &self.public, self.algorithm) else {
            return Ok(());
        };
        let signature = sign(PROBE, private, algorithm).map_err(|_| "has a private key that cannot sign")?;
        match verify(&signature, PROBE, public, algorithm) {
            Ok(true) => Ok(()),
            _ => Err("has a private key that does not match its public key"),
        }
    }

    fn public_members(&self, members: &Map<String, Value>) -> Map<String, Value> {
        let public = members.iter().filter(|(name, _)| PUBLIC_MEMBERS.contains(&name.as_str()));
        let mut public: Map<_, _> = public.map(|(name, value)| (name.clone(), value.clone())).collect();
        if let Some(algorithm) = self.algorithm_name() {
            public.insert("alg".into(), algorithm.into());
        }
        public
    }

    /// The key id.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The algorithm of the key, derived from its type. The `alg` member of the JWK is ignored.
    pub(super) fn algorithm_name(&self) -> Option<&'static str> {
        match self.algorithm? {
            Algorithm::EdDSA => Some("EdDSA"),
            Algorithm::RS256 => Some("RS256"),
            _ => None,
        }
    }

    /// Signs a message and returns the signature as base64url; `None` if the key cannot sign.
    pub(super) fn sign(&self, message: &[u8]) -> Option<String> {
        sign(message, self.private.as_ref()?, self.algorithm?).ok()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

fn ed25519_public(members: &Map<String, Value>) -> Result<DecodingKey, &'static str> {
    let x = members.get("x").and_then(Value::as_str).ok_or("has no x")?;
    DecodingKey::from_ed_components(x).map_err(|_| "has an x that is not base64url")
}

fn ed25519_private(members: &Map<String, Value>) -> Result<Option<EncodingKey>, &'static str> {
    let Some(seed) = decode_member(members, "d")? else {
        return Ok(None);
    };
    if seed.len() != 32 {
        return Err("has a d that is not 32 bytes");
    }
    let document = Zeroizing::new([&ED25519_PKCS8[..], &seed].concat());
    Ok(Some(EncodingKey::from_ed_der(&document)))
}

fn rsa_public(members: &Map<String, Value>) -> Result<DecodingKey, &'static str> {
    let text = |name: &str| members.get(name).and_then(Value::as_str);
    let (n, e) = text("n").zip(text("e")).ok_or("has no n or no e")?;
    DecodingKey::from_rsa_components(n, e).map_err(|_| "has an n or an e that is not base64url")
}

fn rsa_private(members: &Map<String, Value>) -> Result<Option<EncodingKey>, &'static str> {
    const MISSING: &str = "is an RSA key without all of n, e, d, p, q, dp, dq and qi";
    if !members.contains_key("d") {
        return Ok(None);
    }
    let mut numbers = Vec::new();
    for name in ["n", "e", "d", "p", "q", "dp", "dq", "qi"] {
        numbers.push(decode_member(members, name)?.ok_or(MISSING)?);
    }
    let number = |index: usize| UintRef::new(&numbers[index]).map_err(|_| MISSING);
    let key = pkcs1::RsaPrivateKey {
        modulus: number(0)?,
        public_exponent: number(1)?,
        private_exponent: number(2)?,
        prime1: number(3)?,
        prime2: number(4)?,
        exponent1: number(5)?,
        exponent2: number(6)?,
        coefficient: number(7)?,
        other_prime_infos: None,
    };
    let document = Zeroizing::new(key.to_der().map_err(|_| "is an RSA key that is too large")?);
    Ok(Some(EncodingKey::from_rsa_der(&document)))
}

/// Decodes a base64url member; `None` if it is absent.
fn decode_member(members: &Map<String, Value>, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, &'static str> {
    let Some(value) = members.get(name) else {
        return Ok(None);
    };
    let text = value.as_str().ok_or("has a private member that is not a string")?;
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| "has a private member that is not base64url")?;
    Ok(Some(Zeroizing::new(bytes)))
}
