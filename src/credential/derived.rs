//! Tokens derived from a parent key: JWTs and macaroons. Verification needs no lookup; the holder of a macaroon can attenuate
//! it (contract, credentials sections 6 and 7).

use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::TimeDelta;
use serde_json::{Map, Value, json};

use super::claims::{Claims, without_reserved};
use super::jwk::{SigningKey, SigningKeys};
use super::jwt;
use super::keyring::{Keyring, Purpose, Retired};
use super::macaroon::Macaroon;
use super::shape::{CredentialKind, Shape};
use crate::cidr::CidrSet;
use crate::clock::Timestamp;
use crate::id::{KeyId, TenantId};
use crate::policy::{Scopes, Visibility};

/// Settings for the verification of tokens. Signing keys are passed separately.
#[derive(Debug, Clone)]
pub struct TokenSettings {
    /// The current issuer (`iss`).
    pub issuer: String,
    /// Earlier issuers that are still accepted.
    pub issuers_retired: Vec<Retired<String>>,
    /// Tolerance for `iat` and `nbf` that are ahead of the local clock.
    pub clock_skew: TimeDelta,
    /// The secrets, from which the root keys of macaroons are derived.
    pub keyring: Arc<Keyring>,
    /// Whether members of a further macaroon caveat that do not restrict the token here are ignored. Otherwise the token is rejected.
    pub ignore_unknown_caveats: bool,
}

/// A token with a valid signature, issuer and time.
#[derive(Debug, Clone, PartialEq)]
pub struct DerivedToken {
    /// JWT or macaroon.
    pub kind: CredentialKind,
    /// The id of the token (`jti`). Tokens created here have one.
    pub id: Option<String>,
    /// The issuer of the token (`iss`): the current one, or a retired one that is still accepted.
    pub issuer: String,
    /// The id of the parent key.
    pub key_id: KeyId,
    /// The tenant of the parent key.
    pub tenant: TenantId,
    /// The actor of the parent key; empty if it has none.
    pub actor_id: String,
    /// Granted permissions.
    pub scopes: Scopes,
    /// Custom claims merged with the metadata of the parent key. Metadata takes precedence.
    pub metadata: Map<String, Value>,
    /// Visibility of the parent key.
    pub visibility: Visibility,
    /// When the token was issued (`iat`).
    pub issue_time: Option<Timestamp>,
    /// Start of validity (`nbf`), the latest over all caveats; clock skew is not applied.
    pub not_before: Option<Timestamp>,
    /// When the token expires.
    pub expire_time: Option<Timestamp>,
    /// The client address must be in every one of these sets.
    networks: Vec<CidrSet>,
    /// Accepted audiences: the intersection over all caveats. `None` if there is no `aud`, empty if nothing is left.
    audiences: Option<Vec<String>>,
}

/// Content of a token to create.
#[derive(Debug, Clone)]
pub struct NewToken<'a> {
    /// The id of the token: a random UUID.
    pub jti: String,
    /// The id of the parent key.
    pub key_id: KeyId,
    /// The tenant of the parent key.
    pub tenant: TenantId,
    /// The actor of the parent key.
    pub actor_id: &'a str,
    /// Granted permissions.
    pub scopes: &'a Scopes,
    /// Metadata of the parent key.
    pub metadata: &'a Map<String, Value>,
    /// Client addresses that may use the parent key.
    pub networks: &'a CidrSet,
    /// Visibility of the parent key.
    pub visibility: Visibility,
    /// Issue time and start of validity.
    pub now: Timestamp,
    /// When the token expires.
    pub expire_time: Timestamp,
    /// Audiences of the token; none if empty.
    pub audiences: &'a [String],
    /// Custom claims; reserved names are dropped.
    pub custom: &'a Map<String, Value>,
}

/// Why a token is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenError {
    /// Invalid signature, time or issuer.
    Signature,
    /// Unsupported token type (`tty`).
    Format,
    /// The token belongs to another tenant.
    ForeignTenant,
}

impl NewToken<'_> {
    fn claims(&self, issuer: &str) -> Claims {
        let now = self.now.timestamp();
        let non_empty = |list: Vec<String>| (!list.is_empty()).then_some(list);
        Claims {
            jti: Some(self.jti.clone()),
            sub: Some(self.key_id.to_string()),
            iss: Some(issuer.to_owned()),
            iat: Some(now),
            nbf: Some(now),
            exp: Some(self.expire_time.timestamp()),
            nid: Some(self.tenant.to_string()),
            vis: Some(visibility_text(self.visibility).to_owned()),
            act: (!self.actor_id.is_empty()).then(|| self.actor_id.to_owned()),
            scp: non_empty(self.scopes.iter().map(str::to_owned).collect()),
            acl: non_empty(self.networks.texts().iter().map(ToString::to_string).collect()),
            aud: non_empty(self.audiences.to_vec()),
            meta: (!self.metadata.is_empty()).then(|| self.metadata.clone()),
            akid: None,
            tty: None,
            custom: without_reserved(self.custom),
        }
    }

    /// The custom claims without the reserved ones.
    pub fn accepted_claims(&self) -> Map<String, Value> {
        without_reserved(self.custom)
    }

    /// Mints a JWT; `None` if the key cannot sign.
    pub fn to_jwt(&self, issuer: &str, key: &SigningKey) -> Option<String> {
        jwt::sign(&self.claims(issuer), key)
    }

    /// Mints a macaroon with a text prefix.
    pub fn to_macaroon(&self, issuer: &str, prefix: &str, keyring: &Keyring) -> String {
        let identifier = json!({ "jti": self.jti }).to_string();
        let caveat = self.claims(issuer).to_json();
        let macaroon = Macaroon::mint(keyring.key(Purpose::Macaroon), issuer, &identifier, &caveat);
        format!("{prefix}_v1_{}", URL_SAFE_NO_PAD.encode(macaroon.encode()))
    }
}

impl TokenSettings {
    /// The next expiry of a retired secret or issuer after `now`. Until then a credential that is valid at `now` can become
    /// invalid only through its own times.
    pub fn next_retirement(&self, now: Timestamp) -> Option<Timestamp> {
        let issuers = self.issuers_retired.iter().filter_map(|retired| retired.expires_at);
        self.keyring.retirements().chain(issuers).filter(|end| now < *end).min()
    }

    /// Verifies signature, times, issuer and tenant of a token. Client address and audience are checked separately, see
    /// [`DerivedToken::allows`] and [`DerivedToken::is_for`].
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn check(
        &self,
        shape: &Shape<'_>,
        keys: &SigningKeys,
        tenant: TenantId,
        now: Timestamp,
    ) -> Result<DerivedToken, TokenError> {
        let verified = match shape {
            Shape::DerivedJwt(text) => self.verify_jwt(text, keys, now),
            Shape::DerivedMacaroon(body) => self.verify_macaroon(body, now),
            Shape::Issued(_) | Shape::Imported => None,
        };
        let (first, caveats) = verified.ok_or(TokenError::Signature)?;
        if first.tty.as_deref().is_some_and(|tty| tty != "derived") {
            return Err(TokenError::Format);
        }
        if first.nid.as_deref() != Some(&tenant.to_string()) {
            return Err(TokenError::ForeignTenant);
        }
        let token = DerivedToken::new(first, shape.kind(), tenant).ok_or(TokenError::Signature)?;
        caveats.into_iter().try_fold(token, DerivedToken::attenuated).ok_or(TokenError::Signature)
    }

    fn verify_jwt(&self, text: &str, keys: &SigningKeys, now: Timestamp) -> Option<(Claims, Vec<Claims>)> {
        let claims = jwt::verify(text, keys)?;
        let issued = claims.iat.is_none_or(|iat| self.has_started(iat, now));
        // Tokens created here always have `exp`. Without it a token would never expire.
        (claims.exp.is_some() && issued && self.is_valid(&claims, now)).then(|| (claims, Vec::new()))
    }

    fn verify_macaroon(&self, body: &str, now: Timestamp) -> Option<(Claims, Vec<Claims>)> {
        let macaroon = Macaroon::decode(&URL_SAFE_NO_PAD.decode(body).ok()?)?;
        let jti = Claims::parse(&macaroon.identifier)?.jti?;
        if !self.keyring.keys(Purpose::Macaroon, now).any(|root_key| macaroon.verify(root_key)) {
            return None;
        }
        let parse_further = if self.ignore_unknown_caveats { Claims::parse } else { Claims::parse_restriction };
        let (first, further) = macaroon.caveats.split_first()?;
        let valid = |claims: Option<Claims>| claims.filter(|claims| self.is_valid(claims, now));
        let first = Claims { jti: Some(jti), ..valid(Claims::parse(first))? };
        let further = further.iter().map(|caveat| valid(parse_further(caveat))).collect::<Option<_>>()?;
        Some((first, further))
    }

    /// Checks issuer, `exp` and `nbf`.
    fn is_valid(&self, claims: &Claims, now: Timestamp) -> bool {
        let issuer = claims.iss.as_deref().unwrap_or_default();
        let accepted = issuer == self.issuer
            || self.issuers_retired.iter().any(|retired| retired.value == issuer && retired.is_active(now));
        let unexpired = claims.exp.is_none_or(|exp| time(exp).is_some_and(|exp| now <= exp));
        accepted && unexpired && claims.nbf.is_none_or(|nbf| self.has_started(nbf, now))
    }

    fn has_started(&self, seconds: i64, now: Timestamp) -> bool {
        time(seconds).is_some_and(|start| start <= now + self.clock_skew)
    }
}

impl DerivedToken {
    fn new(claims: Claims, kind: CredentialKind, tenant: TenantId) -> Option<Self> {
        let subject = claims.akid.or(claims.sub)?;
        let mut metadata = claims.custom;
        metadata.extend(claims.meta.unwrap_or_default());
        let public = claims.vis.as_deref() == Some(visibility_text(Visibility::Public));
        Some(Self {
            kind,
            id: claims.jti,
            issuer: claims.iss.unwrap_or_default(),
            key_id: KeyId::parse_issued(&subject).or_else(|| KeyId::parse_imported(&subject))?,
            tenant,
            actor_id: claims.act.unwrap_or_default(),
            scopes: claims.scp.unwrap_or_default().into_iter().collect(),
            metadata,
            visibility: if public { Visibility::Public } else { Visibility::Secret },
            issue_time: claims.iat.and_then(time),
            not_before: claims.nbf.and_then(time),
            expire_time: claims.exp.and_then(time),
            networks: claims.acl.map(|acl| CidrSet::parse(&acl)).transpose().ok()?.into_iter().collect(),
            audiences: claims.aud,
        })
    }

    /// Applies one more caveat, which can only restrict the token. `None` if the caveat is malformed.
    fn attenuated(mut self, caveat: Claims) -> Option<Self> {
        if let Some(expiry) = caveat.exp.and_then(time) {
            self.expire_time = Some(self.expire_time.map_or(expiry, |current| current.min(expiry)));
        }
        self.not_before = self.not_before.max(caveat.nbf.and_then(time));
        if let Some(allowed) = caveat.scp {
            self.scopes = self.scopes.iter().filter(|scope| allowed.iter().any(|other| other == scope)).collect();
        }
        if let Some(acl) = caveat.acl {
            self.networks.push(CidrSet::parse(&acl).ok()?);
        }
        if let Some(allowed) = caveat.aud {
            // A caveat cannot add an audience to a token without one: that would widen the token.
            let current = self.audiences.unwrap_or_default();
            self.audiences = Some(current.into_iter().filter(|audience| allowed.contains(audience)).collect());
        }
        Some(self)
    }

    /// Whether a client address may use the token; `None` stands for an unknown address.
    pub fn allows(&self, address: Option<IpAddr>) -> bool {
        self.networks.iter().all(|ranges| address.is_some_and(|address| ranges.contains(address)))
    }

    /// Whether the token is restricted to client addresses.
    pub fn is_address_bound(&self) -> bool {
        !self.networks.is_empty()
    }

    /// The number of CIDR ranges in the token.
    pub fn ranges(&self) -> usize {
        self.networks.iter().map(|ranges| ranges.texts().len()).sum()
    }

    /// Whether the token is valid for a recipient with these `expected` audiences. A token without audiences is valid only if
    /// none are expected.
    pub fn is_for(&self, expected: &[String]) -> bool {
        match &self.audiences {
            None => expected.is_empty(),
            Some(audiences) => audiences.iter().any(|audience| expected.contains(audience)),
        }
    }

    /// The audiences of the token.
    pub fn audiences(&self) -> &[String] {
        self.audiences.as_deref().unwrap_or_default()
    }
}

/// A time of a claim, in whole seconds since 1970; `None` if it is out of range.
fn time(seconds: i64) -> Option<Timestamp> {
    Timestamp::from_timestamp(seconds, 0)
}

fn visibility_text(visibility: Visibility) -> &'static str {
    match visibility {
        Visibility::Secret => "secret",
        Visibility::Public => "public",
    }
}

#[cfg(test)]
mod tests;
