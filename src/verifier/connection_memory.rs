//! What a connection keeps of its last accepted credential, so that the next request with the same one needs no lookup.

use arc_swap::ArcSwap;

use super::proof_cache::{Fingerprint, VerifiedBy};
use super::thread_memory::{Remembered, is_shared_read, keep, recall};
use crate::cache::ConnectionHint;
use crate::clock::Timestamp;
use crate::credential::SigningKeys;

/// The proof of the last accepted credential of a connection, and where its record was found. When the connection presents another credential
/// or ends, both are kept by the thread, for other connections with the same credential.
#[derive(Default)]
pub struct ConnectionMemory {
    known: Option<Box<Remembered>>,
}

/// What a connection and its thread have of a credential.
pub(super) enum Taken {
    /// A proof that is valid.
    Known(Box<Remembered>, VerifiedBy),
    /// Nothing that is used. The memory of what is not used can be used again.
    Unknown(Option<Box<Remembered>>),
}

impl ConnectionMemory {
    /// Takes the proof of the connection's last credential, or one that the thread keeps, if it is for this credential and still valid. It is
    /// set again when the credential is accepted.
    pub(super) fn take(&mut self, fingerprint: Fingerprint, keys: &ArcSwap<SigningKeys>, now: Timestamp) -> Taken {
        let is_same = |known: &mut Box<Remembered>| known.fingerprint == fingerprint;
        let (known, is_shared, check) = if let Some(known) = self.known.take_if(is_same) {
            (known, false, VerifiedBy::Connection)
        } else {
            self.give_back();
            let Some(known) = recall(fingerprint) else { return Taken::Unknown(None) };
            (known, is_shared_read(), VerifiedBy::ProofCache)
        };
        if !is_shared && known.proof.is_valid(keys, now) {
            Taken::Known(known, check)
        } else {
            Taken::Unknown(Some(known))
        }
    }

    /// Whether the proof of the last credential is for this one, and valid.
    pub(super) fn has(&self, fingerprint: Fingerprint, keys: &ArcSwap<SigningKeys>, now: Timestamp) -> bool {
        self.known.as_ref().is_some_and(|known| known.fingerprint == fingerprint && known.proof.is_valid(keys, now))
    }

    /// Keeps an accepted credential.
    pub(super) fn set(&mut self, known: Box<Remembered>) {
        self.known = Some(known);
    }

    /// Where the record of the last accepted credential, or that of its parent, was found.
    pub(super) fn hint(&mut self) -> Option<&mut Option<ConnectionHint>> {
        self.known.as_mut().map(|known| &mut known.hint)
    }

    /// Leaves the credential to the thread.
    fn give_back(&mut self) {
        if let Some(known) = self.known.take() {
            keep(known);
        }
    }
}

impl Drop for ConnectionMemory {
    fn drop(&mut self) {
        self.give_back();
    }
}
