//! Stages that most requests do not have.

use std::pin::Pin;

/// A stage that most requests do not have. The compiler can neither inline its code into that of the frequent stages, which would spread
/// them over more of the instruction cache, nor give their frames room for it.
pub(super) type RareStage<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Boxes a stage that most requests do not have.
#[cold]
#[inline(never)]
pub(super) fn rare_stage<'a, T>(stage: impl Future<Output = T> + Send + 'a) -> RareStage<'a, T> {
    Box::pin(stage)
}
