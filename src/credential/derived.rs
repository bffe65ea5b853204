//! Tokens derived from keys: minted from a parent, checked without any lookup, narrowed by whoever holds a macaroon
//! (contract, credentials sections 6 and 7).

use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::TimeDelta;
use serde_json::{Map, Value, json};

use super::claims::{Claims, accepted};
use super::jwk::{SigningKey, SigningKeys};
use super::keyring::{Keyring, Purpose, Retired};
use super::macaroon::Macaroon;
use super::{CredentialKind, Shape, jwt};
use crate::cidr::CidrSet;
use crate::clock::Timestamp;
use crate::id::{KeyId, TenantId};
use crate::policy::{Scopes, Visibility};

/// What tokens are checked against beside the signing keys.
#[derive(Debug, Clone)]
pub struct TokenSettings {
    /// The name of this issuer.
    pub issuer: String,
    /// Earlier names that tokens may still carry.
    pub issuers_retired: Vec<Retired<String>>,
    /// How far ahead of this clock a token's times may be.
    pub clock_skew: TimeDelta,
    /// Root keys of macaroons.
    pub keyring: Arc<Keyring>,
}

/// A token that is genuine and within its time.
#[derive(Debug, Clone, PartialEq)]
pub struct DerivedToken {
    /// Its form.
    pub kind: CredentialKind,
    /// The parent.
    pub key_id: KeyId,
    /// Whom the parent belongs to.
    pub tenant: TenantId,
    /// The parent's owner; empty when it has none.
    pub actor_id: String,
    /// What it may do.
    pub scopes: Scopes,
    /// Custom claims, under the parent's own data.
    pub metadata: Map<String, Value>,
    /// The parent's visibility.
    pub visibility: Visibility,
    /// When it ends.
    pub expire_time: Option<Timestamp>,
    /// Sets of ranges each of which must have the caller's address.
    networks: Vec<CidrSet>,
    /// The audiences it names; `Some` and empty when those that were named have nothing in common.
    audiences: Option<Vec<String>>,
}

/// What a new token says.
#[derive(Debug, Clone)]
pub struct NewToken<'a> {
    /// A fresh UUID.
    pub jti: String,
    /// The parent.
    pub key_id: KeyId,
    /// Whom the parent belongs to.
    pub tenant: TenantId,
    /// The parent's owner.
    pub actor_id: &'a str,
    /// What it may do.
    pub scopes: &'a Scopes,
    /// The parent's own data.
    pub metadata: &'a Map<String, Value>,
    /// The parent's address rule.
    pub networks: &'a CidrSet,
    /// The parent's visibility.
    pub visibility: Visibility,
    /// From when on it is good.
    pub now: Timestamp,
    /// When it ends.
    pub expire_time: Timestamp,
    /// Whom it is for; anybody when empty.
    pub audiences: &'a [String],
    /// The caller's own claims; reserved ones are dropped.
    pub custom: &'a Map<String, Value>,
}

/// Why a token is not good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenError {
    /// Not genuine, out of its time, or from another issuer.
    Signature,
    /// Of a type that is not served.
    Format,
    /// For another tenant.
    ForeignTenant,
}

impl NewToken<'_> {
    fn claims(&self, issuer: &str) -> Claims {
        let now = self.now.timestamp();
        let some = |list: Vec<String>| (!list.is_empty()).then_some(list);
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
            scp: some(self.scopes.iter().map(str::to_owned).collect()),
            acl: some(self.networks.texts().iter().map(ToString::to_string).collect()),
            aud: some(self.audiences.to_vec()),
            meta: (!self.metadata.is_empty()).then(|| self.metadata.clone()),
            akid: None,
            tty: None,
            custom: accepted(self.custom),
        }
    }

    /// The custom claims that are taken.
    pub fn accepted_claims(&self) -> Map<String, Value> {
        accepted(self.custom)
    }

    /// The token as a JWT; `None` when the key cannot sign.
    pub fn to_jwt(&self, issuer: &str, key: &SigningKey) -> Option<String> {
        jwt::sign(&self.claims(issuer), key)
    }

    /// The token as a macaroon with this prefix.
    pub fn to_macaroon(&self, issuer: &str, prefix: &str, keyring: &Keyring) -> String {
        let identifier = json!({ "jti": self.jti }).to_string();
        let caveat = self.claims(issuer).to_json();
        let macaroon = Macaroon::mint(keyring.key(Purpose::Macaroon), issuer, &identifier, &caveat);
        format!("{prefix}_v1_{}", URL_SAFE_NO_PAD.encode(macaroon.encode()))
    }
}

impl TokenSettings {
    /// When the next retired secret or issuer stops to count: until then nothing but the times in a credential ends what its text
    /// proves at `now`.
    pub fn next_retirement(&self, now: Timestamp) -> Option<Timestamp> {
        let issuers = self.issuers_retired.iter().filter_map(|retired| retired.expires_at);
        self.keyring.retirements().chain(issuers).filter(|end| now < *end).min()
    }

    /// Judges a token by itself. From where it may be used and by whom is left to [`DerivedToken::allows`] and
    /// [`DerivedToken::is_for`].
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
        let chain = match shape {
            Shape::DerivedJwt(text) => self.open_jwt(text, keys, now),
            Shape::DerivedMacaroon(body) => self.open_macaroon(body, now),
            Shape::Issued(_) | Shape::Imported => None,
        };
        let (first, later) = chain.ok_or(TokenError::Signature)?;
        if first.tty.as_deref().is_some_and(|tty| tty != "derived") {
            return Err(TokenError::Format);
        }
        if first.nid.as_deref() != Some(&tenant.to_string()) {
            return Err(TokenError::ForeignTenant);
        }
        let token = DerivedToken::new(first, shape.kind(), tenant).ok_or(TokenError::Signature)?;
        later.into_iter().try_fold(token, DerivedToken::narrowed).ok_or(TokenError::Signature)
    }

    fn open_jwt(&self, text: &str, keys: &SigningKeys, now: Timestamp) -> Option<(Claims, Vec<Claims>)> {
        let claims = jwt::open(text, keys)?;
        let issued = claims.iat.is_none_or(|iat| self.is_past(iat, now));
        // All tokens made here have an end; one without would never stop being good.
        (claims.exp.is_some() && issued && self.holds(&claims, now)).then(|| (claims, Vec::new()))
    }

    fn open_macaroon(&self, body: &str, now: Timestamp) -> Option<(Claims, Vec<Claims>)> {
        let macaroon = Macaroon::decode(&URL_SAFE_NO_PAD.decode(body).ok()?)?;
        Claims::parse(&macaroon.identifier)?.jti?;
        if !self.keyring.keys(Purpose::Macaroon, now).any(|root_key| macaroon.is_made_by(root_key)) {
            return None;
        }
        let claims = |caveat: &Vec<u8>| Claims::parse(caveat).filter(|claims| self.holds(claims, now));
        let mut chain = macaroon.caveats.iter().map(claims).collect::<Option<Vec<_>>>()?.into_iter();
        Some((chain.next()?, chain.collect()))
    }

    /// Times and issuer.
    fn holds(&self, claims: &Claims, now: Timestamp) -> bool {
        let issuer = claims.iss.as_deref().unwrap_or_default();
        let known = issuer == self.issuer
            || self.issuers_retired.iter().any(|retired| retired.value == issuer && retired.is_active(now));
        let alive = claims.exp.is_none_or(|exp| Timestamp::from_timestamp(exp, 0).is_some_and(|exp| now <= exp));
        known && alive && claims.nbf.is_none_or(|nbf| self.is_past(nbf, now))
    }

    fn is_past(&self, seconds: i64, now: Timestamp) -> bool {
        Timestamp::from_timestamp(seconds, 0).is_some_and(|time| time <= now + self.clock_skew)
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
            key_id: KeyId::parse_issued(&subject).or_else(|| KeyId::parse_imported(&subject))?,
            tenant,
            actor_id: claims.act.unwrap_or_default(),
            scopes: claims.scp.unwrap_or_default().into_iter().collect(),
            metadata,
            visibility: if public { Visibility::Public } else { Visibility::Secret },
            expire_time: claims.exp.and_then(|exp| Timestamp::from_timestamp(exp, 0)),
            networks: claims.acl.map(|acl| CidrSet::parse(&acl)).transpose().ok()?.into_iter().collect(),
            audiences: claims.aud,
        })
    }

    /// The token under one more caveat: never more than before. `None` when the caveat cannot be understood.
    fn narrowed(mut self, caveat: Claims) -> Option<Self> {
        if let Some(expiry) = caveat.exp.and_then(|exp| Timestamp::from_timestamp(exp, 0)) {
            self.expire_time = Some(self.expire_time.map_or(expiry, |before| before.min(expiry)));
        }
        if let Some(kept) = caveat.scp {
            self.scopes = self.scopes.iter().filter(|scope| kept.iter().any(|other| other == scope)).collect();
        }
        if let Some(acl) = caveat.acl {
            self.networks.push(CidrSet::parse(&acl).ok()?);
        }
        if let Some(kept) = caveat.aud {
            // A token for nobody in particular cannot become one for somebody: that would be more than before.
            let before = self.audiences.unwrap_or_default();
            self.audiences = Some(before.into_iter().filter(|audience| kept.contains(audience)).collect());
        }
        Some(self)
    }

    /// Whether it may be used from an address.
    pub fn allows(&self, address: Option<IpAddr>) -> bool {
        self.networks.iter().all(|ranges| address.is_some_and(|address| ranges.contains(address)))
    }

    /// Whether it is bound to addresses.
    pub fn is_address_bound(&self) -> bool {
        !self.networks.is_empty()
    }

    /// How many ranges of addresses it names.
    pub fn ranges(&self) -> usize {
        self.networks.iter().map(|ranges| ranges.texts().len()).sum()
    }

    /// Whether it may be used by whoever expects one of these audiences, or none.
    pub fn is_for(&self, expected: &[String]) -> bool {
        match &self.audiences {
            None => expected.is_empty(),
            Some(named) => named.iter().any(|audience| expected.contains(audience)),
        }
    }

    /// The audiences it names.
    pub fn audiences(&self) -> &[String] {
        self.audiences.as_deref().unwrap_or_default()
    }
}

fn visibility_text(visibility: Visibility) -> &'static str {
    match visibility {
        Visibility::Secret => "secret",
        Visibility::Public => "public",
    }
}

#[cfg(test)]
mod tests;
