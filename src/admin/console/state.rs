//! What the pages share.

use std::sync::Arc;

use axum::Router;

use super::session::Sealer;
use crate::clock::{Clock, Timestamp};

/// The state of the console.
#[derive(Clone)]
pub(super) struct Console {
    /// The API with its access log and its metrics, without the rules for browsers.
    pub(super) api: Router,
    pub(super) sealer: Sealer,
    pub(super) clock: Arc<dyn Clock>,
}

impl Console {
    /// The current time.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }
}
