//! What a thread keeps of the keys that its connections have presented: a table of fixed size in front of the caches of the process,
//! which costs no lock and no atomic operation. What it has of a record is a hint, which gives the record only if no key has changed since.

use std::cell::{Cell, RefCell};

use super::proof_cache::{CachedProof, Fingerprint, ProvenSubject};
use crate::cache::ConnectionHint;

/// The number of credentials that a thread keeps. A new one replaces the one in its place.
const PLACES: usize = 4096;
/// One of this many finds is left to the caches of the process: what they evict depends on how often a key is read there.
const SHARED_READS: u32 = 8;

thread_local! {
    static PLACE: RefCell<Vec<Option<Remembered>>> = const { RefCell::new(Vec::new()) };
    static FINDS: Cell<u32> = const { Cell::new(0) };
}

/// A credential that was accepted, and where its record was found.
pub(super) struct Remembered {
    pub(super) proof: CachedProof,
    pub(super) hint: Option<ConnectionHint>,
}

/// Keeps an accepted key. Tokens are left to the cache of the process, which is bounded by their size.
pub(super) fn keep(remembered: Remembered) {
    if !matches!(remembered.proof.proof.subject, ProvenSubject::Key(..)) {
        return;
    }
    // A thread that ends keeps nothing.
    let _ = PLACE.try_with(|places| {
        let Ok(mut places) = places.try_borrow_mut() else { return };
        if places.is_empty() {
            places.resize_with(PLACES, || None);
        }
        let place = remembered.proof.fingerprint.below(PLACES);
        places[place] = Some(remembered);
    });
}

/// Takes what the thread keeps of a credential.
pub(super) fn recall(fingerprint: Fingerprint) -> Option<Remembered> {
    let found = PLACE.try_with(|places| {
        let mut places = places.try_borrow_mut().ok()?;
        let place = places.get_mut(fingerprint.below(PLACES))?;
        place.take_if(|remembered| remembered.proof.fingerprint == fingerprint)
    });
    let found = found.ok().flatten()?;
    let finds = FINDS.get().wrapping_add(1);
    FINDS.set(finds);
    (!finds.is_multiple_of(SHARED_READS)).then_some(found)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::clock::{Clock, SystemClock};
    use crate::credential::CredentialKind;
    use crate::id::{KeyId, TenantId};
    use crate::verifier::VerifiedBy;
    use crate::verifier::proof_cache::{Proof, ProofCache, ProofCacheSettings};

    fn remembered(fingerprint: Fingerprint) -> Remembered {
        let subject = ProvenSubject::Key(KeyId::Imported([0; 32]), CredentialKind::Imported);
        let proof = Proof { subject, since: SystemClock.now(), until: None };
        Remembered { proof: CachedProof { fingerprint, proof, check: VerifiedBy::Full }, hint: None }
    }

    #[test]
    fn credentials_are_found_again_except_for_one_of_eight() {
        let cache = ProofCache::new(&ProofCacheSettings { key: [7; 16], max_bytes: 0 });
        let fingerprints: Vec<_> =
            (0..64).map(|number| cache.fingerprint(0, TenantId::NIL, &number.to_string())).collect();
        let places: HashSet<_> = fingerprints.iter().map(|fingerprint| fingerprint.below(PLACES)).collect();
        let mut found = 0;
        for fingerprint in &fingerprints {
            assert!(recall(*fingerprint).is_none(), "nothing was kept");
            keep(remembered(*fingerprint));
        }
        for fingerprint in &fingerprints {
            let recalled = recall(*fingerprint);
            assert!(recalled.as_ref().is_none_or(|recalled| recalled.proof.fingerprint == *fingerprint));
            found += usize::from(recalled.is_some());
        }
        assert_eq!(found, places.len() - places.len() / 8);
        std::thread::spawn(move || assert!(recall(fingerprints[0]).is_none(), "another thread has not kept it"))
            .join()
            .unwrap();
    }
}
