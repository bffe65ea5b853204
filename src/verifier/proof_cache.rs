//! Credentials that were proven before, known again by a keyed digest of their text.
//!
//! What is remembered is what the text alone proved: which key it is of, or what a token says. The key's record is looked up
//! and judged on every request all the same, so a revocation, a changed rule or an expiry counts at once.

use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

use arc_swap::ArcSwap;
use quick_cache::Weighter;
use quick_cache::sync::{Cache, DefaultLifecycle};
use siphasher::sip128::{Hasher128, SipHasher24};

use super::weight::weigh;
use crate::cache::ConnectionHint;
use crate::clock::Timestamp;
use crate::credential::{CredentialKind, DerivedToken, SigningKeys};
use crate::id::{KeyId, TenantId};
use crate::key::{Actor, Grant};

/// What the table takes for the proof of a key, in bytes: the entry, and its part of the spare room. From `benches/records.rs`.
const PROOF: u64 = 112;

/// Remembers what credentials proved. Their texts are kept nowhere: a digest under a key that only this process knows stands for
/// each, and is compared whole.
pub(super) struct ProofCache {
    /// SipHash-2-4 with 128 bits (Aumasson and Bernstein, 2012): a keyed digest that costs a short text next to nothing.
    digest: SipHasher24,
    proofs: Cache<Fingerprint, Proof, Weight, BuildHasherDefault<IdentityHasher>>,
}

/// The digest of a credential and its tenant.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint(u64, u64);

/// What the text of a credential proved, and how long that holds.
#[derive(Clone)]
pub(super) struct Proof {
    pub(super) subject: Subject,
    /// A clock that goes back before it proves nothing.
    pub(super) since: Timestamp,
    /// It ends strictly before; never when absent.
    pub(super) until: Option<Timestamp>,
}

/// A credential whose text was checked.
pub(super) struct CachedProof {
    pub(super) fingerprint: Fingerprint,
    pub(super) proof: Proof,
    pub(super) check: VerifiedBy,
}

/// How the text of a credential was checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerifiedBy {
    /// By all that it says.
    Full,
    /// This process had checked it before.
    ProofCache,
    /// It had come on this connection before.
    Connection,
}

impl VerifiedBy {
    /// The name of who knew the text, in metric labels.
    pub fn known_to(self) -> &'static str {
        match self {
            Self::Full => "none",
            Self::ProofCache => "process",
            Self::Connection => "connection",
        }
    }
}

/// How credentials are known again.
#[derive(Clone)]
pub struct ProofCacheSettings {
    /// Random, and new in every process.
    pub key: [u8; 16],
    /// About how much memory is used. At the cap what is used least is forgotten.
    pub max_bytes: u64,
}

/// What a connection remembers of the last good credential that came on it.
#[derive(Default)]
pub struct ConnectionMemory {
    known: Option<CachedProof>,
    /// The record that was looked up for it.
    pub(super) hint: Option<ConnectionHint>,
}

/// Whose credential it is.
#[derive(Clone)]
pub(super) enum Subject {
    Key(KeyId, CredentialKind),
    Token(Arc<ProvenToken>),
}

/// A genuine token.
#[derive(Debug)]
pub(super) struct ProvenToken {
    token: DerivedToken,
    /// The keys that a signature was checked by; none where there is no such signature.
    judged_by: Option<Arc<SigningKeys>>,
    pub(super) owner: Arc<Actor>,
    pub(super) grant: Arc<Grant>,
}

#[derive(Clone)]
struct Weight;

/// A hash that is one already.
#[derive(Default)]
struct IdentityHasher(u64);

impl ProofCache {
    pub(super) fn new(settings: &ProofCacheSettings) -> Self {
        let items = usize::try_from(settings.max_bytes / PROOF).unwrap_or(usize::MAX);
        let hasher = BuildHasherDefault::default();
        let proofs = Cache::with(items, settings.max_bytes, Weight, hasher, DefaultLifecycle::default());
        Self { digest: SipHasher24::new_with_key(&settings.key), proofs }
    }

    /// By what a credential is known again.
    pub(super) fn fingerprint(&self, tenant: TenantId, credential: &str) -> Fingerprint {
        let mut digest = self.digest;
        digest.write(tenant.0.as_bytes());
        digest.write(credential.as_bytes());
        let digest = digest.finish128();
        Fingerprint(digest.h1, digest.h2)
    }

    /// What a credential proved, if that still holds.
    pub(super) fn recall(
        &self,
        fingerprint: Fingerprint,
        keys: &ArcSwap<SigningKeys>,
        now: Timestamp,
    ) -> Option<CachedProof> {
        let proof = self.proofs.get(&fingerprint).filter(|proof| proof.holds(keys, now))?;
        Some(CachedProof { fingerprint, proof, check: VerifiedBy::ProofCache })
    }

    /// What the table takes, in bytes.
    #[cfg(test)]
    pub(super) fn weight(&self) -> u64 {
        self.proofs.weight()
    }

    /// Remembers what the text of a good credential proved, if that is news.
    pub(super) fn remember(&self, known: &CachedProof) {
        if known.check == VerifiedBy::Full {
            self.proofs.insert(known.fingerprint, known.proof.clone());
        }
    }
}

impl ConnectionMemory {
    /// As [`ProofCache::recall`]. What is recalled is to be remembered anew when it is found good again.
    pub(super) fn recall(
        &mut self,
        fingerprint: Fingerprint,
        keys: &ArcSwap<SigningKeys>,
        now: Timestamp,
    ) -> Option<CachedProof> {
        let known = self.known.take()?;
        let holds = known.fingerprint == fingerprint && known.proof.holds(keys, now);
        holds.then_some(CachedProof { check: VerifiedBy::Connection, ..known })
    }

    pub(super) fn remember(&mut self, known: CachedProof) {
        self.known = Some(known);
    }
}

impl std::fmt::Debug for ProofCacheSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProofCacheSettings").field("max_bytes", &self.max_bytes).finish_non_exhaustive()
    }
}

impl Proof {
    /// Whether the text would prove the same again.
    pub(super) fn holds(&self, keys: &ArcSwap<SigningKeys>, now: Timestamp) -> bool {
        let same_keys = match &self.subject {
            Subject::Key(..) => true,
            Subject::Token(token) => {
                token.judged_by.as_ref().is_none_or(|judged_by| Arc::ptr_eq(judged_by, &keys.load()))
            }
        };
        same_keys && self.since <= now && self.until.is_none_or(|until| now < until)
    }
}

impl Subject {
    pub(super) fn kind(&self) -> CredentialKind {
        match self {
            Self::Key(_, kind) => *kind,
            Self::Token(token) => token.kind,
        }
    }
}

impl ProvenToken {
    /// A token that was checked by these keys.
    pub(super) fn new(token: DerivedToken, keys: &Arc<SigningKeys>) -> Self {
        let judged_by = (token.kind == CredentialKind::DerivedJwt).then(|| Arc::clone(keys));
        let owner = Actor::shared(token.tenant, &token.actor_id);
        let grant = Grant::shared(&token.scopes);
        Self { token, judged_by, owner, grant }
    }
}

impl Deref for ProvenToken {
    type Target = DerivedToken;

    fn deref(&self) -> &DerivedToken {
        &self.token
    }
}

impl Weighter<Fingerprint, Proof> for Weight {
    fn weight(&self, _: &Fingerprint, proof: &Proof) -> u64 {
        match &proof.subject {
            Subject::Key(..) => PROOF,
            Subject::Token(token) => PROOF + weigh(token),
        }
    }
}

impl Hash for Fingerprint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0);
    }
}

impl Hasher for IdentityHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("a fingerprint gives one number")
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}
