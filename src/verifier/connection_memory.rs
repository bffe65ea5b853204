//! What a connection keeps of its last accepted credential, so that the next request with the same one needs no lookup.

use arc_swap::ArcSwap;

use super::proof_cache::{CachedProof, Fingerprint, VerifiedBy};
use super::thread_memory::{Remembered, keep, recall};
use crate::cache::ConnectionHint;
use crate::clock::Timestamp;
use crate::credential::SigningKeys;

/// The proof of the last accepted credential of a connection, and where its record was found. When the connection presents another credential
/// or ends, both are kept by the thread, for other connections with the same credential.
#[derive(Default)]
pub struct ConnectionMemory {
    proof: Option<CachedProof>,
    /// The record that was found for it.
    pub(super) hint: Option<ConnectionHint>,
}

impl ConnectionMemory {
    /// Takes the proof of the connection's last credential, or one that the thread keeps, if it is for this credential and still valid. It is
    /// set again when the credential is accepted.
    pub(super) fn take(
        &mut self,
        fingerprint: Fingerprint,
        keys: &ArcSwap<SigningKeys>,
        now: Timestamp,
    ) -> Option<CachedProof> {
        let is_same = |proof: &CachedProof| proof.fingerprint == fingerprint;
        let check = if self.proof.as_ref().is_some_and(is_same) {
            VerifiedBy::Connection
        } else {
            self.give_back();
            let Remembered { proof, hint } = recall(fingerprint)?;
            (self.proof, self.hint) = (Some(proof), hint);
            VerifiedBy::ProofCache
        };
        let proof = self.proof.take().filter(|cached| cached.proof.is_valid(keys, now))?;
        Some(CachedProof { check, ..proof })
    }

    /// Whether the proof of the last credential is for this one, and valid.
    pub(super) fn has(&self, fingerprint: Fingerprint, keys: &ArcSwap<SigningKeys>, now: Timestamp) -> bool {
        self.proof.as_ref().is_some_and(|cached| cached.fingerprint == fingerprint && cached.proof.is_valid(keys, now))
    }

    pub(super) fn set(&mut self, proof: CachedProof) {
        self.proof = Some(proof);
    }

    /// Leaves the proof and the hint to the thread.
    fn give_back(&mut self) {
        let hint = self.hint.take();
        if let Some(proof) = self.proof.take() {
            keep(Remembered { proof, hint });
        }
    }
}

impl Drop for ConnectionMemory {
    fn drop(&mut self) {
        self.give_back();
    }
}
