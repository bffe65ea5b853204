//! Deriving tokens from keys (contract, admin API section 5.11).

use std::time::Duration;

use chrono::{SecondsFormat, SubsecRound};
use secrecy::SecretString;
use serde_json::json;

use super::error::{LifecycleError, invalid};
use super::log::log_change;
use super::settings::{TTL_MAX, TTL_MIN};
use super::write_side::Lifecycle;
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
    /// A signed JWT, which can be verified with the public keys alone.
    #[default]
    Jwt,
    /// A macaroon, whose holder can restrict it further.
    Macaroon,
}

impl TokenForm {
    /// The name in the audit trail (contract, operations section 7).
    fn name(self) -> &'static str {
        match self {
            Self::Jwt => "jwt",
            Self::Macaroon => "macaroon",
        }
    }
}

/// A request for a token.
#[derive(Debug, Clone, Default)]
pub struct DeriveToken {
    /// The form.
    pub form: TokenForm,
    /// The lifetime; the configured default if absent or zero.
    pub ttl: Option<Duration>,
    /// The scopes; all of the parent's if empty.
    pub scopes: Vec<String>,
    /// Additional claims; reserved names are dropped.
    pub custom_claims: Metadata,
    /// The audiences; any audience if empty.
    pub audiences: Vec<String>,
}

/// A derived token.
#[derive(Debug)]
pub struct Derived {
    /// The text.
    pub token: SecretString,
    /// The expiry.
    pub expire_time: Timestamp,
    /// The scopes.
    pub scopes: Scopes,
    /// The parent's metadata, overlaid with the accepted custom claims.
    pub claims: Metadata,
    /// The audiences.
    pub audiences: Vec<String>,
}

impl Lifecycle {
    /// Validates a command without its parent. Returns the token's lifetime.
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

    /// Derives a token from a parent that has just been verified. The token is returned only if the audit trail has a row of it.
    ///
    /// # Errors
    /// [`LifecycleError::Invalid`], [`LifecycleError::NotFound`] for a parent of an actor outside of the context's actors,
    /// [`LifecycleError::ParentEnded`], [`LifecycleError::ScopeNotGranted`], [`LifecycleError::NoSigningKey`] or a failure of
    /// the store.
    pub async fn derive(
        &self,
        context: &RequestContext,
        parent: &CachedKey,
        command: DeriveToken,
    ) -> Result<Derived, LifecycleError> {
        let form = command.form;
        let derived = self.derive_token(context, parent, command)?;
        let details = json!({
            "algorithm": form.name(),
            "expiry": derived.expire_time.to_rfc3339_opts(SecondsFormat::Secs, true),
            "scopes": derived.scopes.as_slice(),
            "audiences": derived.audiences,
        });
        let key = (parent.id(), parent.actor().id());
        self.record(|recorder| [recorder.token_derived(context, key, &details)]).await?;
        self.metrics.token_minted();
        log_change!(context, key_id = %parent.id(), form = ?form, "token derived");
        Ok(derived)
    }

    fn derive_token(
        &self,
        context: &RequestContext,
        parent: &CachedKey,
        command: DeriveToken,
    ) -> Result<Derived, LifecycleError> {
        let ttl = self.check_derive(&command)?;
        if !context.actors.allows(parent.actor().id()) {
            return Err(LifecycleError::NotFound(parent.id()));
        }
        let now = self.now();
        if parent.effective_status(now) != EffectiveStatus::Active {
            return Err(LifecycleError::ParentEnded);
        }
        let expiry = now + ttl;
        if parent.expire_time().is_some_and(|parent_expiry| expiry > parent_expiry) {
            return invalid(format!("ttl {} exceeds the remaining life of the key", format_go(ttl)));
        }
        let scopes = token_scopes(parent.grant().scopes(), command.scopes)?;
        let metadata = parent.metadata();
        let unrestricted = CidrSet::default();
        let new = NewToken {
            jti: self.random_uuid().to_string(),
            key_id: parent.id(),
            tenant: parent.tenant(),
            actor_id: parent.actor().id(),
            scopes: &scopes,
            metadata: &metadata,
            networks: parent.networks().unwrap_or(&unrestricted),
            visibility: parent.visibility(),
            now,
            expire_time: expiry.trunc_subsecs(0),
            audiences: &command.audiences,
            custom: &command.custom_claims,
        };
        let token = self.mint_token(&new, command.form)?;
        let mut claims = metadata.clone();
        claims.extend(new.accepted_claims());
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

/// The scopes of a token: the requested ones, each of which the parent must have, or all of the parent's.
fn token_scopes(parent: &Scopes, requested: Vec<String>) -> Result<Scopes, LifecycleError> {
    if requested.is_empty() {
        return Ok(parent.clone());
    }
    match requested.iter().find(|scope| !parent.iter().any(|granted| granted == *scope)) {
        Some(missing) => Err(LifecycleError::ScopeNotGranted(missing.clone())),
        None => Ok(requested.into_iter().collect()),
    }
}
