//! The stages of a request and their components, shared by the benchmarks `stages`, `instructions` and `growth`.

mod exchange;
mod layer;
pub(crate) mod parts;
pub(crate) mod request;
mod stages;
mod traffic;

pub(crate) use stages::{STAGES, Stage};

use mimalloc::MiMalloc;

/// The allocator of the binary, because the cost of a stage includes its allocations.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;
