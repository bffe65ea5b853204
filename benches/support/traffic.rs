//! Requests whose credentials are verified in full, by the proof cache, or by the proof at their connection.

use std::hint::black_box;

use keygate::verifier::{ConnectionMemory, Verification, VerifiedBy};

use super::parts::{Authorized, Credential, Parts};
use super::request::Request;

/// Where the proof of a credential is cached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    /// Nowhere: every request has a new credential.
    None,
    /// In the proof cache of the process. Every request has a new connection.
    Process,
    /// At the connection. All requests use one connection.
    Connection,
}

/// A sequence of requests with credentials of one kind.
pub(super) struct Traffic {
    parts: Parts,
    proof: Proof,
    credentials: Vec<(String, Request)>,
    next: usize,
    connection: ConnectionMemory,
}

impl Proof {
    /// How the verifier verifies a valid credential.
    fn verified_by(self) -> VerifiedBy {
        match self {
            Self::None => VerifiedBy::Full,
            Self::Process => VerifiedBy::ProofCache,
            Self::Connection => VerifiedBy::Connection,
        }
    }
}

impl Traffic {
    /// Prepares `iterations` requests. Panics if the verifier does not verify the credentials in the way that `proof` implies.
    pub(super) fn new(kind: Credential, proof: Proof, iterations: usize) -> Self {
        let parts = Parts::new();
        // One more, because the assertion below uses a credential.
        let count = if proof == Proof::None { iterations + 1 } else { 1 };
        let credential = |_| {
            let text = parts.credential(kind);
            let request = Request::new(Some(&text));
            (text, request)
        };
        let credentials = (0..count).map(credential).collect();
        let mut traffic = Self { parts, proof, credentials, next: 0, connection: ConnectionMemory::default() };
        if proof != Proof::None {
            traffic.verify();
        }
        // No proof is cached for a denied credential.
        let expected = if kind.is_valid() { proof.verified_by() } else { VerifiedBy::Full };
        assert_eq!(traffic.verify().check, expected, "{kind:?} with {proof:?}");
        traffic
    }

    /// Verifies the next credential.
    pub(super) fn verify(&mut self) -> Verification {
        let index = self.advance();
        self.parts.verify(black_box(&self.credentials[index].0), &mut self.connection)
    }

    /// Routes and authorizes a request with the next credential.
    pub(super) fn authorize(&mut self) -> Authorized {
        let index = self.advance();
        self.parts.authorize(black_box(&self.credentials[index].1.head()), &mut self.connection)
    }

    /// Returns the index of the next credential. Opens a new connection unless all requests use one.
    fn advance(&mut self) -> usize {
        if self.proof != Proof::Connection {
            self.connection = ConnectionMemory::default();
        }
        let index = self.next;
        if self.proof == Proof::None {
            self.next += 1;
        }
        index
    }
}
