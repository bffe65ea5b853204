//! Explains a verification step by step, with the checks of a verification. Nothing is recorded: no use, no proof, no absence of a key.

use std::sync::Arc;

use super::denial::Denial;
use super::proof_cache::{ProvenSubject, ProvenToken};
use super::resolver::{CachePolicy, Lookup};
use super::verdict::Verdict;
use super::verification::Presented;
use super::verify::{
    Verifier, check_record_address, check_record_audience, check_status, check_token_address, check_token_audience,
    existing,
};
use crate::clock::Timestamp;
use crate::credential::CredentialKind;
use crate::id::{KeyId, KeyKind};
use crate::policy::RateLimitPolicy;

/// How the caches take part: what they have is used, and nothing is added.
const READ_ONLY: CachePolicy = CachePolicy { read: true, write: false };

/// The outcome of each check of a verification. All checks are made that can be, also after one that fails; `None` for one that was not
/// made.
#[derive(Debug)]
pub struct VerificationSteps {
    /// The kind of the credential, by its shape.
    pub kind: CredentialKind,
    /// Whether the text is a credential of this installation: its checksum, signature and times.
    pub secret: Option<Result<(), Denial>>,
    /// Whether the key has a record. A token is verified without one.
    pub record: Option<Result<(), Denial>>,
    /// Whether the key, or the parent of a token, is active.
    pub status: Option<Result<(), Denial>>,
    /// Whether the client's address may use the credential.
    pub address: Option<Result<(), Denial>>,
    /// Whether the credential names a required audience.
    pub audience: Option<Result<(), Denial>>,
    /// The key of the credential, whether it is accepted or not.
    pub bearer: Option<Verdict>,
}

impl VerificationSteps {
    fn new(kind: CredentialKind, secret: Option<Result<(), Denial>>) -> Self {
        Self { kind, secret, record: None, status: None, address: None, audience: None, bearer: None }
    }

    /// Why a verification denies the credential: the first failure in the order of a verification.
    pub fn denial(&self) -> Option<&Denial> {
        let claims = [&self.address, &self.audience];
        let (first, last) = if self.kind.is_derived() { (&None, &self.status) } else { (&self.status, &None) };
        let steps = [&self.secret, &self.record, first].into_iter().chain(claims).chain([last]);
        steps.flatten().find_map(|step| step.as_ref().err())
    }
}

impl Verifier {
    /// Explains the verification of a credential.
    pub async fn explain(&self, presented: &Presented<'_>) -> VerificationSteps {
        let now = self.clock.now();
        let presented = &Presented { cache: READ_ONLY, lookup_charge: None, ..*presented };
        let shape = self.settings.routing.classify(presented.credential);
        let kind = shape.kind();
        match self.prove(&shape, presented, now).map(|proof| proof.subject) {
            Ok(ProvenSubject::Key(id, kind)) => {
                self.explain_record(id, presented, now, VerificationSteps::new(kind, Some(Ok(())))).await
            }
            Ok(ProvenSubject::Token(token)) => self.explain_token(token, presented, now).await,
            Err(denial) => VerificationSteps::new(kind, Some(Err(denial))),
        }
    }

    /// Explains what the verification of a key would find if its text was presented. The credential in `presented` is not read.
    pub async fn explain_key(&self, id: KeyId, presented: &Presented<'_>) -> VerificationSteps {
        let kind = match id.kind() {
            KeyKind::Issued => CredentialKind::Issued,
            KeyKind::Imported => CredentialKind::Imported,
        };
        let presented = &Presented { cache: READ_ONLY, lookup_charge: None, ..*presented };
        self.explain_record(id, presented, self.clock.now(), VerificationSteps::new(kind, None)).await
    }

    /// The rate limit of the key behind a credential; for a token, that of its parent.
    ///
    /// # Errors
    /// [`Denial::Unavailable`] if the record of the parent cannot be read.
    pub async fn explain_rate_limit(
        &self,
        bearer: &Verdict,
        presented: &Presented<'_>,
    ) -> Result<Option<RateLimitPolicy>, Denial> {
        if let Some(key) = bearer.record() {
            return Ok(key.rate_limit());
        }
        let lookup = Lookup { policy: READ_ONLY, ..Lookup::new((bearer.tenant(), bearer.key_id()), presented.arrived) };
        let record = self.resolver.find(lookup).await.0.map_err(|error| Denial::unavailable(&error))?;
        Ok(record.and_then(|record| record.rate_limit()))
    }

    async fn explain_record(
        &self,
        id: KeyId,
        presented: &Presented<'_>,
        now: Timestamp,
        steps: VerificationSteps,
    ) -> VerificationSteps {
        let lookup = Lookup { policy: READ_ONLY, ..Lookup::new((presented.tenant, id), presented.arrived) };
        match existing(self.resolver.find(lookup).await.0) {
            Ok(record) => VerificationSteps {
                record: Some(Ok(())),
                status: Some(check_status(&record, now)),
                address: Some(check_record_address(&record, presented)),
                audience: Some(check_record_audience(presented)),
                bearer: Some(Verdict::of_key(record, steps.kind)),
                ..steps
            },
            Err(denial) => VerificationSteps { record: Some(Err(denial)), ..steps },
        }
    }

    async fn explain_token(
        &self,
        token: Arc<ProvenToken>,
        presented: &Presented<'_>,
        now: Timestamp,
    ) -> VerificationSteps {
        let status = match self.check_parent_now(&token, presented, now) {
            Some(status) => status,
            None => self.judge_parent_record(&token, presented, now).await,
        };
        VerificationSteps {
            status: Some(status),
            address: Some(check_token_address(&token, presented)),
            audience: Some(check_token_audience(&token, presented)),
            bearer: Some(Verdict::of_token(Arc::clone(&token))),
            ..VerificationSteps::new(token.kind, Some(Ok(())))
        }
    }
}
