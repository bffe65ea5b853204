//! Decides whether a presented credential is good. Knows neither HTTP nor the fronts that ask.

mod denial;
mod lookup_throttle;
mod metrics;
mod proof_cache;
mod resolver;
mod verdict;
mod weight;

pub use denial::{Denial, Outage, UnknownReason};
pub use lookup_throttle::{Batcher, LookupThrottle, LookupThrottleMetrics, LookupThrottleSettings, lookup_throttle};
pub use metrics::Metrics;
pub use proof_cache::{ConnectionMemory, ProofCacheSettings, VerifiedBy};
pub use resolver::{CacheOutcome, CachePolicy, KeyResolver, Lookup};
pub use verdict::Verdict;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use chrono::TimeDelta;

use crate::cache::{ConnectionHint, ParentStatus, RevokedParents, Trust};
use crate::clock::{Clock, Timestamp};
use crate::credential::{
    CredentialKind, DerivedToken, IssuedKey, Routing, Shape, SigningKeys, TokenSettings, imported_key_id,
};
use crate::id::{KeyId, TenantId};
use crate::key::{CachedKey, EffectiveStatus};
use crate::last_used::Tracker;
use crate::policy::RateLimitPolicy;
use crate::store::StoreError;
use proof_cache::{CachedProof, Proof, ProofCache, ProvenSubject, ProvenToken};

/// What a front hands in.
#[derive(Debug, Clone, Copy)]
pub struct Presented<'a> {
    /// Whose keys are asked.
    pub tenant: TenantId,
    /// The credential's text.
    pub credential: &'a str,
    /// Where the caller is, if known.
    pub client_ip: Option<IpAddr>,
    /// When the request came that carries it. What was cached then is judged fresh or not as of then.
    pub arrived: Instant,
    /// The audiences one of which the credential must name; none demanded when empty.
    pub audiences: &'a [String],
    /// How the caches take part.
    pub cache: CachePolicy,
    /// The client address whose lookup budget an imported key charges, where lookups are throttled; none is charged when absent.
    pub lookup_charge: Option<IpAddr>,
    /// Whether a token is refused whose parent was revoked or deleted. On the wire of the admin API tokens live on.
    pub revoke_with_parent: bool,
}

impl<'a> Presented<'a> {
    /// A credential that arrived at `arrived` from an unknown address, without required audiences.
    pub fn new(tenant: TenantId, credential: &'a str, arrived: Instant) -> Self {
        Self {
            tenant,
            credential,
            client_ip: None,
            arrived,
            audiences: &[],
            cache: CachePolicy::default(),
            lookup_charge: None,
            revoke_with_parent: true,
        }
    }
}

/// The answer, and how it was reached.
#[derive(Debug)]
pub struct Verification {
    /// Good or not.
    pub outcome: Result<Verdict, Denial>,
    /// What the credential's shape made it.
    pub kind: CredentialKind,
    /// What the cache did.
    pub cache: CacheOutcome,
    /// How its text was checked.
    pub check: VerifiedBy,
}

/// What verification depends on beside the keys.
#[derive(Debug)]
pub struct Settings {
    /// The issuer, shown with verdicts, its secrets, and what derived tokens are checked against.
    pub tokens: TokenSettings,
    /// Tells kinds of credentials apart.
    pub routing: Routing,
    /// All prefixes that issued keys may have: current, public and retired.
    pub prefixes: Vec<String>,
    /// How old an issued key may be by the time inside it; any age when zero.
    pub max_age: Duration,
    /// How credentials that were proven before are known again.
    pub proof_cache: ProofCacheSettings,
}

/// The decision engine. Every front calls the same one.
pub struct Verifier {
    settings: Settings,
    resolver: Arc<KeyResolver>,
    signing_keys: Arc<ArcSwap<SigningKeys>>,
    revoked_parents: Arc<RevokedParents>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    uses: Option<Arc<Tracker>>,
    proof_cache: Arc<ProofCache>,
    /// Distinguishes the settings of this verifier from those of others that share its proof cache.
    generation: u64,
}

impl Verifier {
    /// A verifier over the keys of `resolver`, and over tokens that `signing_keys` signed, save children of `ended`.
    pub fn new(
        settings: Settings,
        resolver: Arc<KeyResolver>,
        signing_keys: Arc<ArcSwap<SigningKeys>>,
        revoked_parents: Arc<RevokedParents>,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
    ) -> Self {
        let proof_cache = Arc::new(ProofCache::new(&settings.proof_cache));
        let generation = proof_cache.next_generation();
        Self { settings, resolver, signing_keys, revoked_parents, clock, metrics, uses: None, proof_cache, generation }
    }

    /// Has `uses` take note of every key that is found good.
    #[must_use]
    pub fn tracking(self, uses: Arc<Tracker>) -> Self {
        Self { uses: Some(uses), ..self }
    }

    /// A verifier with other settings that shares the caches, the signing keys and the metrics of this one. What a credential proved
    /// under the settings of another verifier proves nothing to it.
    #[must_use]
    pub fn with_settings(&self, settings: Settings) -> Self {
        Self {
            settings,
            resolver: Arc::clone(&self.resolver),
            signing_keys: Arc::clone(&self.signing_keys),
            revoked_parents: Arc::clone(&self.revoked_parents),
            clock: Arc::clone(&self.clock),
            metrics: self.metrics.clone(),
            uses: self.uses.clone(),
            generation: self.proof_cache.next_generation(),
            proof_cache: Arc::clone(&self.proof_cache),
        }
    }

    /// The issuer's name.
    pub fn issuer(&self) -> &str {
        &self.settings.tokens.issuer
    }

    /// Judges a credential, in the order of the contract (credentials section 2).
    pub async fn verify(&self, presented: &Presented<'_>) -> Verification {
        self.verify_on(presented, &mut ConnectionMemory::default()).await
    }

    /// As [`Verifier::verify`], for a credential that came on a connection with this memory.
    pub async fn verify_on(&self, presented: &Presented<'_>, connection: &mut ConnectionMemory) -> Verification {
        let verification = self.judge(presented, connection).await;
        self.metrics.observe(&verification, presented.arrived.elapsed());
        verification
    }

    /// The limit of the key of a verified credential; for a token that of its parent, whose record is looked up. While the store is
    /// unavailable, a record of the parent that is cached is used however old it is: a limit is not a security status. `connection` is
    /// that of the credential.
    ///
    /// # Errors
    /// The error of the lookup, when no record of the parent is cached.
    pub async fn rate_limit(
        &self,
        verdict: &Verdict,
        arrived: Instant,
        connection: &mut ConnectionMemory,
    ) -> Result<Option<RateLimitPolicy>, StoreError> {
        if let Some(key) = verdict.record() {
            return Ok(key.rate_limit());
        }
        let parent = (verdict.tenant(), verdict.key_id());
        let lookup = Lookup { hint: Some(&mut connection.hint), ..Lookup::new(parent, arrived) };
        let record = match self.resolver.find(lookup).await.0 {
            Ok(record) => record,
            Err(error) => Some(self.resolver.any_cached(&parent).ok_or(error)?),
        };
        Ok(record.and_then(|record| record.rate_limit()))
    }

    /// What kind of credential a text is by its shape.
    pub fn kind(&self, credential: &str) -> CredentialKind {
        self.settings.routing.classify(credential).kind()
    }

    /// The key that a credential is the text of, if there is one; its record is not looked at.
    ///
    /// # Errors
    /// [`Denial`] for what cannot be a key of this installation.
    pub fn identify(&self, tenant: TenantId, credential: &str) -> Result<KeyId, Denial> {
        match self.settings.routing.classify(credential) {
            Shape::Issued(key) => self.admit_issued(&key, self.clock.now()),
            Shape::Imported => Ok(imported_key_id(tenant, credential)),
            Shape::DerivedJwt(_) | Shape::DerivedMacaroon(_) => Err(Denial::FormatInvalid),
        }
    }

    async fn judge(&self, presented: &Presented<'_>, connection: &mut ConnectionMemory) -> Verification {
        let now = self.clock.now();
        let proof = match self.check(presented, connection, now) {
            Ok(proof) => proof,
            Err(refusal) => return refusal,
        };
        let kind = proof.proof.subject.kind();
        let (outcome, cache) = match &proof.proof.subject {
            ProvenSubject::Key(id, _) => self.judge_key(*id, kind, presented, &mut connection.hint, now).await,
            ProvenSubject::Token(token) => {
                let judged = self.judge_token(token, presented, now).await;
                (judged.map(|()| Verdict::of_token(Arc::clone(token))), CacheOutcome::Skip)
            }
        };
        let check = proof.check;
        if outcome.is_ok() && presented.cache.write {
            self.proof_cache.insert(&proof);
            connection.set(proof);
        }
        Verification { outcome, kind, cache, check }
    }

    /// What the text of a credential proves: what it proved before, if that holds, else what it proves now.
    fn check(
        &self,
        presented: &Presented<'_>,
        connection: &mut ConnectionMemory,
        now: Timestamp,
    ) -> Result<CachedProof, Verification> {
        let keys = &*self.signing_keys;
        let fingerprint = self.proof_cache.fingerprint(self.generation, presented.tenant, presented.credential);
        let proof = connection.take(fingerprint, keys, now);
        if let Some(proof) = proof.or_else(|| self.proof_cache.get(fingerprint, keys, now)) {
            return Ok(proof);
        }
        let shape = self.settings.routing.classify(presented.credential);
        let check = VerifiedBy::Full;
        match self.prove(&shape, presented, now) {
            Ok(proof) => Ok(CachedProof { fingerprint, proof, check }),
            Err(denial) => {
                Err(Verification { outcome: Err(denial), kind: shape.kind(), cache: CacheOutcome::Skip, check })
            }
        }
    }

    /// What the text of a credential proves by itself, and how long.
    fn prove(&self, shape: &Shape<'_>, presented: &Presented<'_>, now: Timestamp) -> Result<Proof, Denial> {
        let (subject, end) = match shape {
            Shape::Issued(key) => {
                let id = self.admit_issued(key, now)?;
                (ProvenSubject::Key(id, CredentialKind::Issued), self.end_of_age(key))
            }
            Shape::Imported => {
                let id = imported_key_id(presented.tenant, presented.credential);
                (ProvenSubject::Key(id, CredentialKind::Imported), None)
            }
            Shape::DerivedJwt(_) | Shape::DerivedMacaroon(_) => {
                let keys = self.signing_keys.load();
                let token = self.settings.tokens.check(shape, &keys, presented.tenant, now)?;
                // It is good at the very instant of its end.
                let end = token.expire_time.and_then(|last| last.checked_add_signed(TimeDelta::nanoseconds(1)));
                (ProvenSubject::Token(Arc::new(ProvenToken::new(token, &keys))), end)
            }
        };
        let until = self.settings.tokens.next_retirement(now).into_iter().chain(end).min();
        Ok(Proof { subject, since: now, until })
    }

    async fn judge_key(
        &self,
        id: KeyId,
        kind: CredentialKind,
        presented: &Presented<'_>,
        hint: &mut Option<ConnectionHint>,
        now: Timestamp,
    ) -> (Result<Verdict, Denial>, CacheOutcome) {
        // The checksum of an issued key vouches for it: who has one does not guess.
        let lookup = Lookup {
            key: (presented.tenant, id),
            policy: presented.cache,
            charge: presented.lookup_charge.filter(|_| kind == CredentialKind::Imported),
            hint: Some(hint),
            now: presented.arrived,
        };
        let (found, cache) = self.resolver.find(lookup).await;
        let outcome = match found {
            Ok(Some(record)) => judge_record(&record, presented, now).map(|()| self.good(record, kind, now)),
            Ok(None) => Err(Denial::Unknown(UnknownReason::Absent)),
            Err(error) => Err(Denial::unavailable(&error)),
        };
        (outcome, cache)
    }

    fn good(&self, record: Arc<CachedKey>, kind: CredentialKind, now: Timestamp) -> Verdict {
        if let Some(uses) = &self.uses {
            uses.note(&record, now);
        }
        Verdict::of_key(record, kind)
    }

    /// What a genuine token must satisfy (contract, credentials sections 6 and 7).
    async fn judge_token(&self, token: &DerivedToken, presented: &Presented<'_>, now: Timestamp) -> Result<(), Denial> {
        if !token.allows(presented.client_ip) {
            return Err(Denial::AddressNotAllowed { known: presented.client_ip.is_some() });
        }
        if !token.is_for(presented.audiences) {
            return Err(Denial::AudienceMismatch);
        }
        if presented.revoke_with_parent {
            self.judge_parent(token, now).await?;
        }
        Ok(())
    }

    /// Refuses a token whose parent has ended, without a lookup as long as all that ended are remembered and heard of.
    async fn judge_parent(&self, token: &DerivedToken, now: Timestamp) -> Result<(), Denial> {
        let parent = (token.tenant, token.key_id);
        let trust = self.resolver.trust();
        let revoked_parents = self.revoked_parents.status(&parent, now);
        match revoked_parents {
            ParentStatus::Revoked => return Err(Denial::Revoked),
            ParentStatus::Active if trust == Trust::Fresh => return Ok(()),
            ParentStatus::Active | ParentStatus::Unknown => {}
        }
        match self.resolver.find(Lookup::new(parent, Instant::now())).await.0 {
            Ok(Some(record)) if record.effective_status(now) != EffectiveStatus::Revoked => Ok(()),
            Ok(_) => Err(Denial::Revoked),
            // What was heard of is believed for as long as what is cached.
            Err(_) if revoked_parents == ParentStatus::Active && trust == Trust::Unconfirmed => Ok(()),
            Err(error) => Err(Denial::unavailable(&error)),
        }
    }

    /// What the text of an issued key must satisfy before anything is looked up.
    fn admit_issued(&self, key: &IssuedKey<'_>, now: Timestamp) -> Result<KeyId, Denial> {
        let settings = &self.settings;
        let age = now.timestamp().saturating_sub(key.issued_at());
        let max_age = settings.max_age.as_secs();
        let skew = settings.tokens.clock_skew.num_seconds();
        if !key.checksum_holds(&settings.tokens.keyring, now) {
            Err(Denial::Unknown(UnknownReason::Checksum))
        } else if age < -skew || (max_age > 0 && u64::try_from(age).is_ok_and(|age| age > max_age)) {
            Err(Denial::Unknown(UnknownReason::Timestamp))
        } else if !settings.prefixes.iter().any(|prefix| prefix == key.prefix()) {
            Err(Denial::Unknown(UnknownReason::Prefix))
        } else {
            Ok(key.id())
        }
    }

    /// From when on an issued key is too old by the time inside it, however long its record lives.
    fn end_of_age(&self, key: &IssuedKey<'_>) -> Option<Timestamp> {
        let max_age = i64::try_from(self.settings.max_age.as_secs()).ok().filter(|age| *age > 0)?;
        Timestamp::from_timestamp(key.issued_at().checked_add(max_age)?.checked_add(1)?, 0)
    }
}

/// What a record must satisfy, on every request, from the cache or not.
fn judge_record(record: &CachedKey, presented: &Presented<'_>, now: Timestamp) -> Result<(), Denial> {
    match record.effective_status(now) {
        EffectiveStatus::Revoked => return Err(Denial::Revoked),
        EffectiveStatus::Expired => return Err(Denial::Expired),
        EffectiveStatus::Active => {}
    }
    if !record.allows(presented.client_ip) {
        return Err(Denial::AddressNotAllowed { known: presented.client_ip.is_some() });
    }
    // A key names no audiences, so it can satisfy no demand for one.
    if presented.audiences.is_empty() { Ok(()) } else { Err(Denial::AudienceMismatch) }
}

#[cfg(test)]
mod tests;
