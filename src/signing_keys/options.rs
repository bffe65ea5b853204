//! Options of the refresher.

use std::time::Duration;

/// Options of the refresher.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Whether keys may be fetched from internal addresses.
    pub allow_internal: bool,
    /// The time between two loads of all sources.
    pub refresh_every: Duration,
    /// The time between two checks of files for changes.
    pub check_files_every: Duration,
}

impl Default for Options {
    /// Public addresses only, all sources every 15 minutes, files every 5 seconds.
    fn default() -> Self {
        Self {
            allow_internal: false,
            refresh_every: Duration::from_secs(15 * 60),
            check_files_every: Duration::from_secs(5),
        }
    }
}
