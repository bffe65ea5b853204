//! What both runners share: the stages of a request, and the parts that they are made of.

mod exchange;
mod layer;
pub(crate) mod parts;
pub(crate) mod request;
mod stages;
mod traffic;

pub(crate) use stages::{STAGES, Stage};

use mimalloc::MiMalloc;

/// As in the binary: what an allocation costs is part of what a stage costs.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;
