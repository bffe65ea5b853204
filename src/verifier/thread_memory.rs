//! What a thread keeps of the keys that its connections have presented: a table of limited size in front of the caches of the process,
//! which costs no lock and no atomic operation. What it has of a record is a hint, which gives the record only if no key has changed since.

use std::cell::{Cell, RefCell};

use super::proof_cache::{Fingerprint, Proof, ProvenSubject};
use crate::cache::ConnectionHint;
use crate::last_used::Noted;

/// The number of places at first. Each credential has one place, in which it replaces another one, and takes some 200 bytes.
const PLACES_MIN: usize = 4096;
/// The number of places to which a table grows whose credentials replace each other: 13 MB with its credentials.
const PLACES_MAX: usize = 65_536;
/// A table grows if more than one of this many credentials has replaced another one.
const REPLACED: usize = 4;
/// One of this many finds is left to the caches of the process: what they evict depends on how often a key is read there.
const SHARED_READS: u32 = 8;

thread_local! {
    static TABLE: RefCell<Table> = const { RefCell::new(Table { places: Vec::new(), kept: 0, replaced: 0 }) };
    static FINDS: Cell<u32> = const { Cell::new(0) };
}

/// A credential whose text was verified, and where its record was found. On the heap, because it goes from connection to connection, and
/// a pointer is cheaper to move.
pub(super) struct Remembered {
    pub(super) fingerprint: Fingerprint,
    pub(super) proof: Proof,
    pub(super) hint: Option<ConnectionHint>,
    /// Its last use that was noted.
    pub(super) noted: Option<Noted>,
}

/// The credentials that a thread keeps.
struct Table {
    places: Vec<Option<Box<Remembered>>>,
    /// How many credentials were kept since the size was last considered.
    kept: usize,
    /// How many of them have replaced another one.
    replaced: usize,
}

impl Table {
    fn keep(&mut self, remembered: Box<Remembered>) {
        if self.kept >= self.places.len() {
            self.consider_size();
        }
        let place = remembered.fingerprint.below(self.places.len());
        let is_other = |kept: &Remembered| kept.fingerprint != remembered.fingerprint;
        self.replaced += usize::from(self.places[place].as_deref().is_some_and(is_other));
        self.kept += 1;
        self.places[place] = Some(remembered);
    }

    /// Grows the table if it is too small for the credentials in use.
    fn consider_size(&mut self) {
        let is_crowded = self.replaced > self.kept / REPLACED && self.places.len() < PLACES_MAX;
        if self.places.is_empty() || is_crowded {
            let size = PLACES_MIN.max(self.places.len() * 2);
            let kept = std::mem::take(&mut self.places);
            self.places.resize_with(size, || None);
            for remembered in kept.into_iter().flatten() {
                let place = remembered.fingerprint.below(size);
                self.places[place] = Some(remembered);
            }
        }
        (self.kept, self.replaced) = (0, 0);
    }

    fn take(&mut self, fingerprint: Fingerprint) -> Option<Box<Remembered>> {
        let place = fingerprint.below(self.places.len().max(1));
        self.places.get_mut(place)?.take_if(|remembered| remembered.fingerprint == fingerprint)
    }
}

/// Keeps an accepted key. Tokens are left to the cache of the process, which is bounded by their size.
pub(super) fn keep(remembered: Box<Remembered>) {
    if !matches!(remembered.proof.subject, ProvenSubject::Key(..)) {
        return;
    }
    // A thread that ends keeps nothing.
    let _ = TABLE.try_with(|table| {
        if let Ok(mut table) = table.try_borrow_mut() {
            table.keep(remembered);
        }
    });
}

/// Takes what the thread keeps of a credential.
pub(super) fn recall(fingerprint: Fingerprint) -> Option<Box<Remembered>> {
    TABLE.try_with(|table| table.try_borrow_mut().ok()?.take(fingerprint)).ok().flatten()
}

/// Whether what was found is left to the caches of the process.
pub(super) fn is_shared_read() -> bool {
    let finds = FINDS.get().wrapping_add(1);
    FINDS.set(finds);
    finds.is_multiple_of(SHARED_READS)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::clock::{Clock, SystemClock};
    use crate::credential::CredentialKind;
    use crate::id::{KeyId, TenantId};
    use crate::verifier::proof_cache::{ProofCache, ProofCacheSettings};

    fn remembered(fingerprint: Fingerprint) -> Box<Remembered> {
        let subject = ProvenSubject::Key(KeyId::Imported([0; 32]), CredentialKind::Imported);
        let proof = Proof { subject, since: SystemClock.now(), until: None };
        Box::new(Remembered { fingerprint, proof, hint: None, noted: None })
    }

    #[test]
    fn credentials_are_found_again_by_their_thread() {
        let cache = ProofCache::new(&ProofCacheSettings { key: [7; 16], max_bytes: 0 });
        let generation = cache.next_generation();
        let fingerprints: Vec<_> =
            (0..64).map(|number| generation.fingerprint(TenantId::NIL, &number.to_string())).collect();
        let places: HashSet<_> = fingerprints.iter().map(|fingerprint| fingerprint.below(PLACES_MIN)).collect();
        let mut found = 0;
        for fingerprint in &fingerprints {
            assert!(recall(*fingerprint).is_none(), "nothing was kept");
            keep(remembered(*fingerprint));
        }
        for fingerprint in &fingerprints {
            let recalled = recall(*fingerprint);
            assert!(recalled.as_ref().is_none_or(|recalled| recalled.fingerprint == *fingerprint));
            found += usize::from(recalled.is_some());
        }
        assert_eq!(found, places.len());
        assert_eq!((0..64).filter(|_| is_shared_read()).count(), 8, "one of eight is left to the process");
        std::thread::spawn(move || assert!(recall(fingerprints[0]).is_none(), "another thread has not kept it"))
            .join()
            .unwrap();
    }

    #[test]
    fn table_grows_with_the_credentials_in_use() {
        let cache = ProofCache::new(&ProofCacheSettings { key: [7; 16], max_bytes: 0 });
        let (generation, other) = (cache.next_generation(), cache.next_generation());
        let fingerprints: Vec<_> =
            (0..10_000).map(|number| generation.fingerprint(TenantId::NIL, &number.to_string())).collect();
        for round in 0..6 {
            let mut found = 0;
            for fingerprint in &fingerprints {
                found += usize::from(recall(*fingerprint).is_some());
                keep(remembered(*fingerprint));
            }
            let expected = if round < 5 { 0 } else { fingerprints.len() * 5 / 8 };
            assert!(found >= expected, "{found} in round {round}");
        }
        let size = TABLE.with_borrow(|table| table.places.len());
        assert!((2 * PLACES_MIN..=PLACES_MAX).contains(&size), "{size}");
        for number in 0..1_000_000 {
            keep(remembered(other.fingerprint(TenantId::NIL, &number.to_string())));
        }
        TABLE.with_borrow(|table| assert_eq!(table.places.len(), PLACES_MAX));
    }
}
