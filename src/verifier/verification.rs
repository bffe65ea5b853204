//! The input and the output of a verification.

use std::net::IpAddr;
use std::time::Instant;

use super::denial::Denial;
use super::proof_cache::VerifiedBy;
use super::resolver::{CacheOutcome, CachePolicy, Uncached};
use super::thread_memory::Remembered;
use super::verdict::Verdict;
use crate::clock::Timestamp;
use crate::credential::CredentialKind;
use crate::id::{KeyId, TenantId};

/// A credential, and the circumstances under which it is presented.
#[derive(Debug, Clone, Copy)]
pub struct Presented<'a> {
    /// The tenant whose keys are accepted.
    pub tenant: TenantId,
    /// The text of the credential.
    pub credential: &'a str,
    /// The client's address, if known.
    pub client_ip: Option<IpAddr>,
    /// When the request arrived. Cached records are judged fresh or stale as of then.
    pub arrived: Instant,
    /// The audiences of which the credential must name one; none is required if empty.
    pub audiences: &'a [String],
    /// How the caches take part.
    pub cache: CachePolicy,
    /// The client address whose lookup budget an imported key charges, where lookups are throttled; `None` charges no address.
    pub lookup_charge: Option<IpAddr>,
    /// Whether a token is denied if its parent was revoked or deleted. In the admin API, tokens are valid until they expire.
    pub revoke_with_parent: bool,
}

/// The result of a verification, and how it was reached.
#[derive(Debug)]
pub struct Verification {
    /// The verdict, or why the credential is denied.
    pub outcome: Result<Verdict, Denial>,
    /// The kind of the credential, by its shape.
    pub kind: CredentialKind,
    /// What the caches did.
    pub cache: CacheOutcome,
    /// How the text of the credential was verified.
    pub check: VerifiedBy,
    /// The key of a credential that is denied; `None` if the credential is accepted, or is that of no key.
    pub denied_key: Option<Box<KeyId>>,
}

/// A verification that needs a record which this process does not have in memory.
pub struct PendingVerification {
    pub(super) known: Box<Remembered>,
    pub(super) check: VerifiedBy,
    pub(super) uncached: Uncached,
    pub(super) now: Timestamp,
}

impl<'a> Presented<'a> {
    /// A credential that arrived at `arrived` from an unknown address, without required audiences.
    pub fn new(tenant: TenantId, credential: &'a str, arrived: Instant) -> Self {
        Self {
            tenant,
            credential,
            client_ip: None,
            arrived,
            audiences: &[],
            cache: CachePolicy::default(),
            lookup_charge: None,
            revoke_with_parent: true,
        }
    }
}
