//! The proof cache: verified credentials, cached under a keyed hash of their text.
//!
//! A proof is what the text alone proves: which key it belongs to, or the claims of a token. The key's record is still looked up and
//! judged on every request, so a revocation, a changed rule or an expiry takes effect at once.

use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use quick_cache::Weighter;
use quick_cache::sync::{Cache, DefaultLifecycle};
use siphasher::sip128::SipHasher24;

use super::weight::weigh;
use crate::clock::Timestamp;
use crate::credential::{CredentialKind, DerivedToken, SigningKeys};
use crate::id::{KeyId, TenantId};
use crate::key::{Actor, Grant};

/// Memory for the proof of a key in bytes: the entry and its share of the table's spare capacity. Measured by
/// `benches/cached_keys.rs`.
const PROOF: u64 = 112;

/// Caches what credentials prove. No text is stored: each is represented by its hash under a random key of this process, which is
/// compared completely.
pub(super) struct ProofCache {
    /// The hash of nothing yet, under the key of this process.
    hasher: SipHasher24,
    proofs: Cache<Fingerprint, Proof, Weight, BuildHasherDefault<IdentityHasher>>,
}

/// The keyed hash of a credential, its tenant, and the generation of the settings that it was verified under.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint(u64, u64);

/// Hashes the credentials of one generation of settings. Proofs of another one have other fingerprints, so that they are never found.
///
/// SipHash-2-4 with 128 bits (Aumasson and Bernstein, 2012): a keyed hash that is cheap for short texts.
#[derive(Clone)]
pub(super) struct Fingerprinter {
    /// What every hash of the generation begins with.
    any_tenant: SipHasher24,
    /// The same and the tenant of a single-tenant installation.
    single_tenant: SipHasher24,
}

/// What the text of a credential proves, and when that is valid.
#[derive(Clone)]
pub(super) struct Proof {
    pub(super) subject: ProvenSubject,
    /// Start of validity. The proof is invalid if the clock steps back before it.
    pub(super) since: Timestamp,
    /// End of validity, exclusive; `None` for no end.
    pub(super) until: Option<Timestamp>,
}

/// How the text of a credential was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerifiedBy {
    /// By full verification of its checksum or signature.
    Full,
    /// By the proof cache of this process.
    ProofCache,
    /// By the proof that its connection keeps.
    Connection,
}

impl VerifiedBy {
    /// The name in metric labels.
    pub fn known_to(self) -> &'static str {
        match self {
            Self::Full => "none",
            Self::ProofCache => "process",
            Self::Connection => "connection",
        }
    }
}

/// Settings of the proof cache.
#[derive(Clone)]
pub struct ProofCacheSettings {
    /// The hash key: random, and different in every process.
    pub key: [u8; 16],
    /// Approximate memory limit in bytes. At the limit, the least used proofs are evicted.
    pub max_bytes: u64,
}

/// What a credential stands for.
#[derive(Clone)]
pub(super) enum ProvenSubject {
    Key(KeyId, CredentialKind),
    Token(Arc<ProvenToken>),
}

/// A token with a valid signature.
#[derive(Debug)]
pub(super) struct ProvenToken {
    token: DerivedToken,
    /// The signing keys that the signature was verified with; `None` for a macaroon.
    signing_keys: Option<Arc<SigningKeys>>,
    pub(super) actor: Arc<Actor>,
    pub(super) grant: Arc<Grant>,
}

#[derive(Clone)]
struct Weight;

/// A hasher for values that are hashes already.
#[derive(Default)]
struct IdentityHasher(u64);

impl ProofCache {
    pub(super) fn new(settings: &ProofCacheSettings) -> Self {
        let items = usize::try_from(settings.max_bytes / PROOF).unwrap_or(usize::MAX);
        let hasher = BuildHasherDefault::default();
        let proofs = Cache::with(items, settings.max_bytes, Weight, hasher, DefaultLifecycle::default());
        Self { hasher: SipHasher24::new_with_key(&settings.key), proofs }
    }

    /// The hashes of a generation that no settings in this process had before.
    pub(super) fn next_generation(&self) -> Fingerprinter {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let mut any_tenant = self.hasher;
        any_tenant.write_u64(NEXT.fetch_add(1, Ordering::Relaxed));
        let mut single_tenant = any_tenant;
        single_tenant.write(TenantId::NIL.0.as_bytes());
        Fingerprinter { any_tenant, single_tenant }
    }

    /// The cached proof of a credential, if it is still valid.
    pub(super) fn get(&self, fingerprint: Fingerprint, keys: &ArcSwap<SigningKeys>, now: Timestamp) -> Option<Proof> {
        self.proofs.get(&fingerprint).filter(|proof| proof.is_valid(keys, now))
    }

    /// Memory of the table in bytes.
    #[cfg(test)]
    pub(super) fn weight(&self) -> u64 {
        self.proofs.weight()
    }

    /// Caches the proof of an accepted credential.
    pub(super) fn insert(&self, fingerprint: Fingerprint, proof: &Proof) {
        self.proofs.insert(fingerprint, proof.clone());
    }
}

impl std::fmt::Debug for ProofCacheSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProofCacheSettings").field("max_bytes", &self.max_bytes).finish_non_exhaustive()
    }
}

impl Fingerprinter {
    /// The fingerprint of a credential of a tenant.
    pub(super) fn fingerprint(&self, tenant: TenantId, credential: &str) -> Fingerprint {
        // Hashing the last part in one step is half the work of writing and finishing, for the same hash.
        let hash = if tenant == TenantId::NIL {
            self.single_tenant.hash(credential.as_bytes())
        } else {
            self.of_tenant(tenant).hash(credential.as_bytes())
        };
        Fingerprint(hash.h1, hash.h2)
    }

    fn of_tenant(&self, tenant: TenantId) -> SipHasher24 {
        let mut hasher = self.any_tenant;
        hasher.write(tenant.0.as_bytes());
        hasher
    }
}

impl Fingerprint {
    /// A number below `count`, evenly distributed.
    pub(super) fn below(self, count: usize) -> usize {
        usize::try_from(self.0).unwrap_or_default() % count
    }
}

impl Proof {
    /// Whether full verification would give the same result.
    pub(super) fn is_valid(&self, keys: &ArcSwap<SigningKeys>, now: Timestamp) -> bool {
        let same_keys = match &self.subject {
            ProvenSubject::Key(..) => true,
            ProvenSubject::Token(token) => {
                token.signing_keys.as_ref().is_none_or(|signing_keys| Arc::ptr_eq(signing_keys, &keys.load()))
            }
        };
        same_keys && self.since <= now && self.until.is_none_or(|until| now < until)
    }
}

impl ProvenSubject {
    pub(super) fn kind(&self) -> CredentialKind {
        match self {
            Self::Key(_, kind) => *kind,
            Self::Token(token) => token.kind,
        }
    }

    /// The key; the parent of a token.
    pub(super) fn key_id(&self) -> KeyId {
        match self {
            Self::Key(id, _) => *id,
            Self::Token(token) => token.key_id,
        }
    }
}

impl ProvenToken {
    /// A token that was verified with these keys.
    pub(super) fn new(token: DerivedToken, keys: &Arc<SigningKeys>) -> Self {
        let signing_keys = (token.kind == CredentialKind::DerivedJwt).then(|| Arc::clone(keys));
        let actor = Actor::shared(token.tenant, &token.actor_id);
        let grant = Grant::shared(&token.scopes);
        Self { token, signing_keys, actor, grant }
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
            ProvenSubject::Key(..) => PROOF,
            ProvenSubject::Token(token) => PROOF + weigh(token),
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
        unreachable!("a fingerprint hashes as one u64")
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use siphasher::sip128::Hasher128;
    use uuid::Uuid;

    use super::*;

    proptest! {
        /// The fingerprint is the hash of the generation, the tenant and the credential, however it is computed.
        #[test]
        fn fingerprint_is_the_hash_of_all_parts(credential in "[ -~]{0,80}", key: [u8; 16], tenant: u128) {
            let cache = ProofCache::new(&ProofCacheSettings { key, max_bytes: 0 });
            for tenant in [TenantId::NIL, TenantId(Uuid::from_u128(tenant))] {
                let generation = cache.next_generation();
                let mut hasher = generation.any_tenant;
                hasher.write(tenant.0.as_bytes());
                hasher.write(credential.as_bytes());
                let hash = hasher.finish128();
                let fingerprint = generation.fingerprint(tenant, &credential);
                prop_assert_eq!((fingerprint.0, fingerprint.1), (hash.h1, hash.h2));
            }
        }
    }

    #[test]
    fn fingerprints_differ_by_generation_tenant_and_credential() {
        let cache = ProofCache::new(&ProofCacheSettings { key: [7; 16], max_bytes: 0 });
        let (one, other) = (cache.next_generation(), cache.next_generation());
        let fingerprint = one.fingerprint(TenantId::NIL, "a");
        assert!(fingerprint == one.clone().fingerprint(TenantId::NIL, "a"));
        assert!(fingerprint != other.fingerprint(TenantId::NIL, "a"));
        assert!(fingerprint != one.fingerprint(TenantId::ADMIN, "a"));
        assert!(fingerprint != one.fingerprint(TenantId::NIL, "a\0"));
    }
}
