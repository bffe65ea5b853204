//! The audit trail: what a row contains, how rows are authenticated and chained, and how a stored trail is verified. No I/O.
//!
//! `docs/audit.md` describes the chain and what it protects against.

mod chain;
mod event;
mod gathered;
mod json;
mod key_members;
mod mac;
mod recorder;
mod row;
mod verification;

pub use chain::{Anchor, ChainHead, ChainRecord, Heads, REJECTED, SealPlan, SealedRow, read_checkpoint, read_line};
pub use event::AuditEvent;
pub use gathered::{Calls, FailedVerifications, Refusal, VerificationFailure};
pub use json::to_json;
pub(crate) use key_members::changed;
pub use mac::AuditKeys;
pub use recorder::Recorder;
pub use row::{AuditRow, Seal, time_text};
pub use verification::{ChainVerification, Problem};
