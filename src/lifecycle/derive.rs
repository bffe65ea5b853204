//! Deriving tokens from keys (contract, admin API section 5.11).

use std::time::Duration;

use chrono::SubsecRound;
use secrecy::SecretString;

use super::issue::{TTL_MAX, TTL_MIN};
use super::log::log_change;
use super::{Lifecycle, LifecycleError, invalid};
use crate::cidr::CidrSet;
use crate::clock::Timestamp;
use crate::credential::{CREDENTIAL_MAX, NewToken};
use crate::duration::format_go;
use crate::key::{CachedKey, EffectiveStatus, Metadata, check_scopes};
use crate::policy::Scopes;
use crate::request_context::RequestContext;

/// The form of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TokenForm {
    /// Signed: anybody with the public keys can check it.
    #[default]
    Jwt,
    /// Chained: whoever holds it can narrow it.
    Macaroon,
}

/// A token that somebody wants.
#[derive(Debug, Clone, Default)]
pub struct DeriveToken {
    /// Its form.
    pub form: TokenForm,
    /// Its life; the configured default when absent or zero.
    pub ttl: Option<Duration>,
    /// What it may do; all that its parent may when empty.
    pub scopes: Vec<String>,
    /// The caller's own claims; reserved ones are dropped.
    pub custom_claims: Metadata,
    /// Whom it is for; anybody when empty.
    pub audiences: Vec<String>,
}

/// A token.
#[derive(Debug)]
pub struct Derived {
    /// Its text.
    pub token: SecretString,
    /// When it ends.
    pub expire_time: Timestamp,
    /// What it may do.
    pub scopes: Scopes,
    /// The parent's own data, under the accepted custom claims.
    pub claims: Metadata,
    /// Whom it is for.
    pub audiences: Vec<String>,
}

impl Lifecycle {
    /// Checks a command as far as it can be without its parent; returns the token's life.
    ///
    /// # Errors
    /// [`LifecycleError::Invalid`].
    pub fn check_derive(&self, command: &DeriveToken) -> Result<Duration, LifecycleError> {
        check_scopes(&command.scopes)?;
        let ttl = command.ttl.filter(|ttl| !ttl.is_zero()).unwrap_or(self.settings.derived.default_ttl);
        let max = self.settings.max_ttl;
        if !(TTL_MIN..=TTL_MAX).contains(&ttl) {
            invalid("ttl must be between 1s and 315360000s".into())
        } else if !max.is_zero() && ttl > max {
            invalid(format!("ttl {} exceeds the project maximum of {}", format_go(ttl), format_go(max)))
        } else {
            Ok(ttl)
        }
    }

    /// Derives a token from a parent that was verified just now.
    ///
    /// # Errors
    /// [`LifecycleError::Invalid`], [`LifecycleError::ParentEnded`], [`LifecycleError::ScopeNotGranted`] or
    /// [`LifecycleError::NoSigningKey`].
    pub fn derive(
        &self,
        context: &RequestContext,
        parent: &CachedKey,
        command: DeriveToken,
    ) -> Result<Derived, LifecycleError> {
        let ttl = self.check_derive(&command)?;
        let now = self.now();
        if parent.effective_status(now) != EffectiveStatus::Active {
            return Err(LifecycleError::ParentEnded);
        }
        let end = now + ttl;
        if parent.expire_time().is_some_and(|expiry| end > expiry) {
            return invalid(format!("ttl {} exceeds the remaining life of the key", format_go(ttl)));
        }
        let scopes = granted(parent.grant().scopes(), command.scopes)?;
        let metadata = parent.metadata();
        let everywhere = CidrSet::default();
        let new = NewToken {
            jti: self.random_uuid().to_string(),
            key_id: parent.id(),
            tenant: parent.tenant(),
            actor_id: parent.actor().id(),
            scopes: &scopes,
            metadata: &metadata,
            networks: parent.networks().unwrap_or(&everywhere),
            visibility: parent.visibility(),
            now,
            expire_time: end.trunc_subsecs(0),
            audiences: &command.audiences,
            custom: &command.custom_claims,
        };
        let token = self.mint_token(&new, command.form)?;
        let mut claims = metadata.clone();
        claims.extend(new.accepted_claims());
        self.metrics.token_minted();
        log_change!(context, key_id = %parent.id(), form = ?command.form, "token derived");
        let expire_time = new.expire_time;
        Ok(Derived { token: token.into(), expire_time, scopes, claims, audiences: command.audiences })
    }

    fn mint_token(&self, new: &NewToken<'_>, form: TokenForm) -> Result<String, LifecycleError> {
        let settings = &self.settings.derived;
        let token = match form {
            TokenForm::Macaroon => new.to_macaroon(&settings.issuer, &settings.macaroon_prefix, &self.settings.keyring),
            TokenForm::Jwt => {
                let keys = settings.signing_keys.load();
                let key = keys.signer(&settings.signing_key_id);
                let token = key.and_then(|key| new.to_jwt(&settings.issuer, key));
                token.ok_or_else(|| LifecycleError::NoSigningKey(settings.signing_key_id.clone()))?
            }
        };
        if token.len() > CREDENTIAL_MAX {
            return invalid(format!("the token would have more than {CREDENTIAL_MAX} bytes; use fewer claims"));
        }
        Ok(token)
    }
}

/// The scopes of a token: all of the parent's, or those wanted, each of which the parent must have.
fn granted(parent: &Scopes, wanted: Vec<String>) -> Result<Scopes, LifecycleError> {
    if wanted.is_empty() {
        return Ok(parent.clone());
    }
    match wanted.iter().find(|scope| !parent.iter().any(|granted| granted == *scope)) {
        Some(lacking) => Err(LifecycleError::ScopeNotGranted(lacking.clone())),
        None => Ok(wanted.into_iter().collect()),
    }
}
