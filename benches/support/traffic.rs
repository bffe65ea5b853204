//! Requests with credentials that are seen for the first time, were seen by this process, or came on their connection before.

use std::hint::black_box;

use keygate::gateway::decide::Decision;
use keygate::verifier::{ConnectionMemory, Verification, VerifiedBy};

use super::parts::{Credential, Parts};
use super::request::Request;

/// How well a credential is known when it comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sight {
    /// Not at all: each is another one.
    First,
    /// This process has seen it, on another connection.
    Process,
    /// It comes on its connection again.
    Connection,
}

/// Credentials of one kind, one after another, and what their connection remembers.
pub(super) struct Traffic {
    parts: Parts,
    sight: Sight,
    credentials: Vec<(String, Request)>,
    next: usize,
    connection: ConnectionMemory,
}

impl Sight {
    /// How a good credential is checked that is known so well.
    fn check(self) -> VerifiedBy {
        match self {
            Self::First => VerifiedBy::Full,
            Self::Process => VerifiedBy::ProofCache,
            Self::Connection => VerifiedBy::Connection,
        }
    }
}

impl Traffic {
    /// For so many calls. What is not known in the way that `sight` says is no such traffic, and panics.
    pub(super) fn new(kind: Credential, sight: Sight, calls: usize) -> Self {
        let parts = Parts::new();
        let count = if sight == Sight::First { calls + 1 } else { 1 };
        let credential = |_| {
            let text = parts.credential(kind);
            let request = Request::new(Some(&text));
            (text, request)
        };
        let credentials = (0..count).map(credential).collect();
        let mut traffic = Self { parts, sight, credentials, next: 0, connection: ConnectionMemory::default() };
        if sight != Sight::First {
            traffic.verify();
        }
        // What is refused is not remembered.
        let expected = if kind.is_good() { sight.check() } else { VerifiedBy::Full };
        assert_eq!(traffic.verify().check, expected, "{kind:?} at {sight:?}");
        traffic
    }

    /// Verifies the next credential.
    pub(super) fn verify(&mut self) -> Verification {
        let index = self.turn();
        self.parts.verify(black_box(&self.credentials[index].0), &mut self.connection)
    }

    /// Decides about a request with the next credential.
    pub(super) fn decide(&mut self) -> Decision {
        let index = self.turn();
        self.parts.decide(black_box(self.credentials[index].1.head()), &mut self.connection)
    }

    /// The credential, where there is only one.
    pub(super) fn credential(&self) -> &str {
        &self.credentials[0].0
    }

    /// Whether all come on one connection.
    pub(super) fn keeps_connection(&self) -> bool {
        self.sight == Sight::Connection
    }

    /// Which credential comes now; on a new connection, if not all come on one.
    fn turn(&mut self) -> usize {
        if !self.keeps_connection() {
            self.connection = ConnectionMemory::default();
        }
        let index = self.next;
        if self.sight == Sight::First {
            self.next += 1;
        }
        index
    }
}
