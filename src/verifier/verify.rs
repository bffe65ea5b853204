//! The verifier: decides whether a presented credential is accepted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use chrono::TimeDelta;

use super::connection_memory::{ConnectionMemory, Taken};
use super::denial::{Denial, UnknownReason};
use super::metrics::Metrics;
use super::proof_cache::{
    Fingerprint, Fingerprinter, Proof, ProofCache, ProofCacheSettings, ProvenSubject, ProvenToken, VerifiedBy,
};
use super::resolver::{CacheOutcome, KeyResolver, Lookup, Uncached};
use super::thread_memory::Remembered;
use super::verdict::Verdict;
use super::verification::{PendingVerification, Presented, Verification};
use crate::cache::{ConnectionHint, ParentStatus, RevokedParents, Trust};
use crate::clock::{Clock, Timestamp};
use crate::credential::{
    CredentialKind, DerivedToken, IssuedKey, Routing, Shape, SigningKeys, TokenSettings, imported_key_id,
};
use crate::id::{KeyId, TenantId};
use crate::key::{CachedKey, EffectiveStatus};
use crate::last_used::{Noted, Tracker};
use crate::policy::RateLimitPolicy;
use crate::store::StoreError;

/// The settings of a verifier.
#[derive(Debug)]
pub struct Settings {
    /// The issuer, its secrets, and the settings for derived tokens.
    pub tokens: TokenSettings,
    /// Classifies credentials by shape.
    pub routing: Routing,
    /// All prefixes that issued keys may have: current, public and retired.
    pub prefixes: Vec<String>,
    /// Maximum age of an issued key by the time inside it; unlimited if zero.
    pub max_age: Duration,
    /// The settings of the proof cache.
    pub proof_cache: ProofCacheSettings,
}

/// Verifies credentials. Every front calls the same verifier.
pub struct Verifier {
    pub(super) settings: Settings,
    pub(super) resolver: Arc<KeyResolver>,
    signing_keys: Arc<ArcSwap<SigningKeys>>,
    revoked_parents: Arc<RevokedParents>,
    pub(super) clock: Arc<dyn Clock>,
    metrics: Metrics,
    tracker: Option<Arc<Tracker>>,
    proof_cache: Arc<ProofCache>,
    /// Distinguishes the settings of this verifier from those of others that share its proof cache.
    generation: Fingerprinter,
}

impl Verifier {
    /// A verifier over the keys of `resolver`, and over tokens that `signing_keys` signed unless their parent is in `revoked_parents`.
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
        Self {
            settings,
            resolver,
            signing_keys,
            revoked_parents,
            clock,
            metrics,
            tracker: None,
            proof_cache,
            generation,
        }
    }

    /// Records the use of every accepted key in `tracker`.
    #[must_use]
    pub fn tracking(self, tracker: Arc<Tracker>) -> Self {
        Self { tracker: Some(tracker), ..self }
    }

    /// A verifier with other settings that shares the caches, the signing keys and the metrics of this one. Proofs that were cached under
    /// the settings of another verifier are not used.
    #[must_use]
    pub fn with_settings(&self, settings: Settings) -> Self {
        Self {
            settings,
            resolver: Arc::clone(&self.resolver),
            signing_keys: Arc::clone(&self.signing_keys),
            revoked_parents: Arc::clone(&self.revoked_parents),
            clock: Arc::clone(&self.clock),
            metrics: self.metrics.clone(),
            tracker: self.tracker.clone(),
            generation: self.proof_cache.next_generation(),
            proof_cache: Arc::clone(&self.proof_cache),
        }
    }

    /// The issuer's name.
    pub fn issuer(&self) -> &str {
        &self.settings.tokens.issuer
    }

    /// Verifies a credential, in the order of the contract (credentials section 2).
    pub async fn verify(&self, presented: &Presented<'_>) -> Verification {
        self.verify_on(presented, &mut ConnectionMemory::default()).await
    }

    /// As [`Verifier::verify`], for a credential of a connection with this memory.
    pub async fn verify_on(&self, presented: &Presented<'_>, connection: &mut ConnectionMemory) -> Verification {
        match self.verify_now(presented, connection) {
            Ok(verification) => verification,
            Err(pending) => self.verify_later(presented, connection, pending).await,
        }
    }

    /// Verifies a credential with what this process has in memory. Does not allocate if the proof is cached.
    ///
    /// # Errors
    /// What [`Verifier::verify_later`] continues with, if a record must be looked up.
    pub fn verify_now(
        &self,
        presented: &Presented<'_>,
        connection: &mut ConnectionMemory,
    ) -> Result<Verification, PendingVerification> {
        let verification = self.judge_now(presented, connection)?;
        self.metrics.observe(&verification, presented.arrived.elapsed());
        Ok(verification)
    }

    /// Completes a verification that [`Verifier::verify_now`] began for the same credential.
    pub async fn verify_later(
        &self,
        presented: &Presented<'_>,
        connection: &mut ConnectionMemory,
        pending: PendingVerification,
    ) -> Verification {
        let verification = self.judge_later(presented, connection, pending).await;
        self.metrics.observe(&verification, presented.arrived.elapsed());
        verification
    }

    /// Whether this process has verified the text of a credential before, so that verifying it again costs no signature or checksum.
    pub fn is_proven(&self, presented: &Presented<'_>, connection: &ConnectionMemory) -> bool {
        let (keys, now) = (&*self.signing_keys, self.clock.now());
        let fingerprint = self.generation.fingerprint(presented.tenant, presented.credential);
        connection.has(fingerprint, keys, now) || self.proof_cache.get(fingerprint, keys, now).is_some()
    }

    /// The rate limit of the key behind a verified credential, if this process has it in memory.
    pub fn rate_limit_now(
        &self,
        verdict: &Verdict,
        arrived: Instant,
        connection: &mut ConnectionMemory,
    ) -> Option<Option<RateLimitPolicy>> {
        if let Some(key) = verdict.record() {
            return Some(key.rate_limit());
        }
        let parent = (verdict.tenant(), verdict.key_id());
        let mut lookup = Lookup { hint: connection.hint(), ..Lookup::new(parent, arrived) };
        let (found, _) = self.resolver.find_now(&mut lookup).ok()?;
        found.ok().map(|record| record.and_then(|record| record.rate_limit()))
    }

    /// The rate limit of the key behind a verified credential. For a token, the record of its parent is looked up; if the lookup fails, a
    /// cached record of the parent is used whatever its age, because a limit is not a security status.
    ///
    /// # Errors
    /// The error of the lookup, if no record of the parent is cached.
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
        let lookup = Lookup { hint: connection.hint(), ..Lookup::new(parent, arrived) };
        let record = match self.resolver.find(lookup).await.0 {
            Ok(record) => record,
            Err(error) => Some(self.resolver.any_cached(&parent).ok_or(error)?),
        };
        Ok(record.and_then(|record| record.rate_limit()))
    }

    /// Verifies the holder of a key who was authenticated by other means than the text of the key, for example by a client certificate. The
    /// text in `presented` is not read.
    ///
    /// # Errors
    /// [`Denial`] if the key is not accepted, or Keygate cannot decide.
    pub async fn verify_holder(&self, id: KeyId, presented: &Presented<'_>) -> Result<Verdict, Denial> {
        let (kind, now) = (CredentialKind::Issued, self.clock.now());
        let (found, _) = self.resolver.find(lookup(id, kind, presented, &mut None)).await;
        self.judge_found(found, kind, presented, now, &mut None)
    }

    /// The kind of a credential, by its shape.
    pub fn kind(&self, credential: &str) -> CredentialKind {
        self.settings.routing.classify(credential).kind()
    }

    /// The id of the key that a credential is the text of. The record is not looked up.
    ///
    /// # Errors
    /// [`Denial`] if the text cannot be a key of this installation.
    pub fn identify(&self, tenant: TenantId, credential: &str) -> Result<KeyId, Denial> {
        match self.settings.routing.classify(credential) {
            Shape::Issued(key) => self.admit_issued(&key, self.clock.now()),
            Shape::Imported => Ok(imported_key_id(tenant, credential)),
            Shape::DerivedJwt(_) | Shape::DerivedMacaroon(_) => Err(Denial::FormatInvalid),
        }
    }

    fn judge_now(
        &self,
        presented: &Presented<'_>,
        connection: &mut ConnectionMemory,
    ) -> Result<Verification, PendingVerification> {
        let now = self.clock.now();
        let (mut known, check) = match self.check(presented, connection, now) {
            Ok(known) => known,
            Err(denied) => return Ok(denied),
        };
        let Remembered { proof, hint, noted, .. } = &mut *known;
        let judged = match &proof.subject {
            ProvenSubject::Key(id, kind) => {
                let mut lookup = lookup(*id, *kind, presented, hint);
                self.resolver
                    .find_now(&mut lookup)
                    .map(|(found, cache)| (self.judge_found(found, *kind, presented, now, noted), cache))
            }
            ProvenSubject::Token(token) => match self.judge_token(token, presented, now) {
                Some(judged) => Ok((judged.map(|()| Verdict::of_token(Arc::clone(token))), CacheOutcome::Skip)),
                None => Err(Uncached::Missing),
            },
        };
        match judged {
            Ok((outcome, cache)) => Ok(self.remember(known, check, outcome, cache, presented, connection)),
            Err(uncached) => Err(PendingVerification { known, check, uncached, now }),
        }
    }

    async fn judge_later(
        &self,
        presented: &Presented<'_>,
        connection: &mut ConnectionMemory,
        pending: PendingVerification,
    ) -> Verification {
        let PendingVerification { mut known, check, uncached, now } = pending;
        let Remembered { proof, hint, noted, .. } = &mut *known;
        let (outcome, cache) = match &proof.subject {
            ProvenSubject::Key(id, kind) => {
                let lookup = lookup(*id, *kind, presented, hint);
                let (found, cache) = self.resolver.find_later(lookup, uncached).await;
                (self.judge_found(found, *kind, presented, now, noted), cache)
            }
            ProvenSubject::Token(token) => {
                let judged = self.judge_parent_record(token, presented, now).await;
                (judged.map(|()| Verdict::of_token(Arc::clone(token))), CacheOutcome::Skip)
            }
        };
        self.remember(known, check, outcome, cache, presented, connection)
    }

    /// Keeps the proof of an accepted credential, if the caches are written.
    fn remember(
        &self,
        known: Box<Remembered>,
        check: VerifiedBy,
        outcome: Result<Verdict, Denial>,
        cache: CacheOutcome,
        presented: &Presented<'_>,
        connection: &mut ConnectionMemory,
    ) -> Verification {
        let kind = known.proof.subject.kind();
        let denied_key = match &outcome {
            Err(denial) if denial.is_of_key() => Some(Box::new(known.proof.subject.key_id())),
            _ => None,
        };
        if outcome.is_ok() && presented.cache.write {
            if check == VerifiedBy::Full {
                self.proof_cache.insert(known.fingerprint, &known.proof);
            }
            connection.set(known);
        }
        Verification { outcome, kind, cache, check, denied_key }
    }

    /// The proof of a credential: the cached one if it is valid, else the result of full verification.
    fn check(
        &self,
        presented: &Presented<'_>,
        connection: &mut ConnectionMemory,
        now: Timestamp,
    ) -> Result<(Box<Remembered>, VerifiedBy), Verification> {
        let fingerprint = self.generation.fingerprint(presented.tenant, presented.credential);
        match connection.take(fingerprint, &self.signing_keys, now) {
            Taken::Known(known, check) => Ok((known, check)),
            Taken::Unknown(unused) => {
                let (proof, check) = self.check_unknown(presented, fingerprint, now)?;
                Ok((remembered(unused, Remembered { fingerprint, proof, hint: None, noted: None }), check))
            }
        }
    }

    /// The proof of a credential that neither its connection nor the thread knows.
    fn check_unknown(
        &self,
        presented: &Presented<'_>,
        fingerprint: Fingerprint,
        now: Timestamp,
    ) -> Result<(Proof, VerifiedBy), Verification> {
        if let Some(proof) = self.proof_cache.get(fingerprint, &self.signing_keys, now) {
            return Ok((proof, VerifiedBy::ProofCache));
        }
        let shape = self.settings.routing.classify(presented.credential);
        let check = VerifiedBy::Full;
        match self.prove(&shape, presented, now) {
            Ok(proof) => Ok((proof, check)),
            Err(denial) => {
                let (kind, cache) = (shape.kind(), CacheOutcome::Skip);
                Err(Verification { outcome: Err(denial), kind, cache, check, denied_key: None })
            }
        }
    }

    /// Full verification of the text of a credential: what it proves, and until when.
    pub(super) fn prove(&self, shape: &Shape<'_>, presented: &Presented<'_>, now: Timestamp) -> Result<Proof, Denial> {
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
                // The token is valid at the instant of its expiry, and a proof ends before `until`.
                let end = token.expire_time.and_then(|last| last.checked_add_signed(TimeDelta::nanoseconds(1)));
                (ProvenSubject::Token(Arc::new(ProvenToken::new(token, &keys))), end)
            }
        };
        let until = self.settings.tokens.next_retirement(now).into_iter().chain(end).min();
        Ok(Proof { subject, since: now, until })
    }

    /// Judges the result of the lookup of a key.
    fn judge_found(
        &self,
        found: Result<Option<Arc<CachedKey>>, StoreError>,
        kind: CredentialKind,
        presented: &Presented<'_>,
        now: Timestamp,
        noted: &mut Option<Noted>,
    ) -> Result<Verdict, Denial> {
        let record = existing(found)?;
        judge_record(&record, presented, now).map(|()| self.accept(record, kind, now, noted))
    }

    fn accept(
        &self,
        record: Arc<CachedKey>,
        kind: CredentialKind,
        now: Timestamp,
        noted: &mut Option<Noted>,
    ) -> Verdict {
        if let Some(tracker) = &self.tracker {
            tracker.note_again(&record, now, noted);
        }
        Verdict::of_key(record, kind)
    }

    /// Judges a token with a valid signature (contract, credentials sections 6 and 7). `None` if the record of its parent is needed.
    fn judge_token(
        &self,
        token: &DerivedToken,
        presented: &Presented<'_>,
        now: Timestamp,
    ) -> Option<Result<(), Denial>> {
        let claims = check_token_address(token, presented).and_then(|()| check_token_audience(token, presented));
        match claims {
            Ok(()) => self.check_parent_now(token, presented, now),
            Err(denial) => Some(Err(denial)),
        }
    }

    /// Denies a token whose parent was revoked or deleted. `None` if the record of its parent is needed.
    pub(super) fn check_parent_now(
        &self,
        token: &DerivedToken,
        presented: &Presented<'_>,
        now: Timestamp,
    ) -> Option<Result<(), Denial>> {
        if !presented.revoke_with_parent {
            return Some(Ok(()));
        }
        match self.revoked_parents.status(&(token.tenant, token.key_id), now) {
            ParentStatus::Revoked => Some(Err(Denial::Revoked)),
            ParentStatus::Active if self.resolver.trust() == Trust::Fresh => Some(Ok(())),
            ParentStatus::Active | ParentStatus::Unknown => None,
        }
    }

    /// Denies a token whose parent was revoked or deleted, by the record of the parent. Needed while the set of revoked parents is not
    /// complete or not fresh.
    pub(super) async fn judge_parent_record(
        &self,
        token: &DerivedToken,
        presented: &Presented<'_>,
        now: Timestamp,
    ) -> Result<(), Denial> {
        let parent = (token.tenant, token.key_id);
        let trust = self.resolver.trust();
        let status = self.revoked_parents.status(&parent, now);
        let lookup = Lookup { policy: presented.cache, ..Lookup::new(parent, Instant::now()) };
        match self.resolver.find(lookup).await.0 {
            Ok(Some(record)) if record.effective_status(now) != EffectiveStatus::Revoked => Ok(()),
            Ok(_) => Err(Denial::Revoked),
            // The set is trusted as long as cached records are.
            Err(_) if status == ParentStatus::Active && trust == Trust::Unconfirmed => Ok(()),
            Err(error) => Err(Denial::unavailable(&error)),
        }
    }

    /// Judges the text of an issued key before any lookup.
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

    /// When an issued key exceeds the maximum age by the time inside it.
    fn end_of_age(&self, key: &IssuedKey<'_>) -> Option<Timestamp> {
        let max_age = i64::try_from(self.settings.max_age.as_secs()).ok().filter(|age| *age > 0)?;
        Timestamp::from_timestamp(key.issued_at().checked_add(max_age)?.checked_add(1)?, 0)
    }
}

/// What is known of a credential, in memory that is not used any longer if there is some.
fn remembered(unused: Option<Box<Remembered>>, content: Remembered) -> Box<Remembered> {
    match unused {
        Some(mut unused) => {
            *unused = content;
            unused
        }
        None => Box::new(content),
    }
}

/// The lookup of a presented key.
fn lookup<'a>(
    id: KeyId,
    kind: CredentialKind,
    presented: &Presented<'_>,
    hint: &'a mut Option<ConnectionHint>,
) -> Lookup<'a> {
    Lookup {
        key: (presented.tenant, id),
        policy: presented.cache,
        // A valid checksum proves the key was issued here, so it is exempt from the lookup budget.
        charge: presented.lookup_charge.filter(|_| kind == CredentialKind::Imported),
        hint: Some(hint),
        now: presented.arrived,
    }
}

/// The record that a lookup found.
pub(super) fn existing(found: Result<Option<Arc<CachedKey>>, StoreError>) -> Result<Arc<CachedKey>, Denial> {
    match found {
        Ok(Some(record)) => Ok(record),
        Ok(None) => Err(Denial::Unknown(UnknownReason::Absent)),
        Err(error) => Err(Denial::unavailable(&error)),
    }
}

/// Judges a record, on every request, whether it was cached or not.
fn judge_record(record: &CachedKey, presented: &Presented<'_>, now: Timestamp) -> Result<(), Denial> {
    check_status(record, now)?;
    check_record_address(record, presented)?;
    check_record_audience(presented)
}

pub(super) fn check_status(record: &CachedKey, now: Timestamp) -> Result<(), Denial> {
    match record.effective_status(now) {
        EffectiveStatus::Revoked => Err(Denial::Revoked),
        EffectiveStatus::Expired => Err(Denial::Expired),
        EffectiveStatus::Active => Ok(()),
    }
}

pub(super) fn check_record_address(record: &CachedKey, presented: &Presented<'_>) -> Result<(), Denial> {
    allowed(record.allows(presented.client_ip), presented)
}

/// A key names no audiences, so it cannot satisfy a required one.
pub(super) fn check_record_audience(presented: &Presented<'_>) -> Result<(), Denial> {
    if presented.audiences.is_empty() { Ok(()) } else { Err(Denial::AudienceMismatch) }
}

pub(super) fn check_token_address(token: &DerivedToken, presented: &Presented<'_>) -> Result<(), Denial> {
    allowed(token.allows(presented.client_ip), presented)
}

pub(super) fn check_token_audience(token: &DerivedToken, presented: &Presented<'_>) -> Result<(), Denial> {
    if token.is_for(presented.audiences) { Ok(()) } else { Err(Denial::AudienceMismatch) }
}

fn allowed(is_allowed: bool, presented: &Presented<'_>) -> Result<(), Denial> {
    if is_allowed { Ok(()) } else { Err(Denial::AddressNotAllowed { known: presented.client_ip.is_some() }) }
}

mod recheck;

#[cfg(test)]
mod tests;
