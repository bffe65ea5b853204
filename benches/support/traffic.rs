//! Requests whose credentials need full verification, or are in the proof cache, or came on their connection before.

use std::hint::black_box;

use keygate::verifier::{ConnectionMemory, Verification, VerifiedBy};

use super::parts::{Authorized, Credential, Parts};
use super::request::Request;

/// Where the proof of a credential is cached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    /// Nowhere: every request has another credential.
    None,
    /// In the proof cache of the process; every request has a new connection.
    Process,
    /// At the connection.
    Connection,
}

/// Credentials of one kind, and the state of their connection.
pub(super) struct Traffic {
    parts: Parts,
    proof: Proof,
    credentials: Vec<(String, Request)>,
    next: usize,
    connection: ConnectionMemory,
}

impl Proof {
    /// How an accepted credential is verified.
    fn check(self) -> VerifiedBy {
        match self {
            Self::None => VerifiedBy::Full,
            Self::Process => VerifiedBy::ProofCache,
            Self::Connection => VerifiedBy::Connection,
        }
    }
}

impl Traffic {
    /// Traffic for `calls` calls. Panics if the credentials are not verified in the way that `proof` says.
    pub(super) fn new(kind: Credential, proof: Proof, calls: usize) -> Self {
        let parts = Parts::new();
        let count = if proof == Proof::None { calls + 1 } else { 1 };
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
        // A denied credential leaves no proof.
        let expected = if kind.is_good() { proof.check() } else { VerifiedBy::Full };
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

    /// The index of the next credential; opens a new connection unless all requests use one.
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
