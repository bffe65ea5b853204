//! Verifies the credential of a request again that is still in progress, by the rules of [`Verifier::verify`].

use std::time::Instant;

use super::{Verifier, judge_record};
use crate::clock::Timestamp;
use crate::credential::DerivedToken;
use crate::verifier::denial::{Denial, UnknownReason};
use crate::verifier::resolver::Lookup;
use crate::verifier::verdict::Verdict;
use crate::verifier::verification::Presented;

impl Verifier {
    /// Judges a credential that was accepted before, with the current record of its key. For a token, its expiry and its parent are judged.
    /// The text in `presented` is not read, because it was verified before.
    ///
    /// # Errors
    /// [`Denial`] if the credential is no longer accepted, or if Keygate cannot decide.
    pub async fn recheck(&self, verdict: &Verdict, presented: &Presented<'_>) -> Result<Verdict, Denial> {
        let now = self.clock.now();
        if let Some(token) = verdict.token() {
            return self.recheck_token(token, presented, now).await.map(|()| verdict.clone());
        }
        let key = (verdict.tenant(), verdict.key_id());
        let found = self.resolver.find(Lookup::new(key, Instant::now())).await.0;
        let record = found.map_err(|error| Denial::unavailable(&error))?;
        let record = record.ok_or(Denial::Unknown(UnknownReason::Absent))?;
        judge_record(&record, presented, now).map(|()| Verdict::of_key(record, verdict.kind()))
    }

    async fn recheck_token(
        &self,
        token: &DerivedToken,
        presented: &Presented<'_>,
        now: Timestamp,
    ) -> Result<(), Denial> {
        if token.expire_time.is_some_and(|expiry| now > expiry) {
            return Err(Denial::Expired);
        }
        match self.judge_token(token, presented, now) {
            Some(judged) => judged,
            None => self.judge_parent_record(token, presented, now).await,
        }
    }

    /// The current time of this verifier's clock.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }
}
