//! How an authorization was reached: which cache had the key, and how long the steps that waited took.

use std::pin::Pin;
use std::time::Instant;

use crate::verifier::{CacheOutcome, Verification, VerifiedBy};

/// How the result of an authorization was reached.
#[derive(Debug, Default)]
pub struct Steps {
    /// What the caches did; `None` if no credential was verified.
    pub cache: Option<CacheOutcome>,
    /// How the text of the credential was verified.
    pub verified_by: Option<VerifiedBy>,
    /// The times of steps that waited; `None` if none did, or they are not taken.
    pub waits: Option<Box<Waits>>,
}

/// When the steps that waited began and ended.
#[derive(Debug, Default)]
pub struct Waits {
    /// The lookup of a record in the shared cache or the store.
    pub lookup: Option<(Instant, Instant)>,
    /// The charge of limits that are counted elsewhere.
    pub charge: Option<(Instant, Instant)>,
}

impl Steps {
    pub(super) fn of(verification: &Verification) -> Self {
        Self { cache: Some(verification.cache), verified_by: Some(verification.check), waits: None }
    }

    /// The times of steps that waited, to be set.
    pub(super) fn waits(&mut self) -> &mut Waits {
        self.waits.get_or_insert_default()
    }
}

/// The output of a step, and when it began and ended if that is taken. The step is pinned by the caller: an argument of an `async fn` is
/// stored twice.
pub(super) async fn timed<F: Future>(is_timed: bool, step: Pin<&mut F>) -> (F::Output, Option<(Instant, Instant)>) {
    let began = is_timed.then(Instant::now);
    let output = step.await;
    (output, began.map(|began| (began, Instant::now())))
}
