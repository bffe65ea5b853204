//! Where the settings of a configuration are from.

use std::collections::BTreeMap;
use std::fmt;

/// Where the settings of a configuration are from. Settings of neither kind have their defaults, or were set by the program.
#[derive(Clone, Default)]
pub struct Sources {
    /// The files by the paths of the settings in them; the last one that has the setting.
    pub(super) in_file: BTreeMap<String, String>,
    /// The environment variables that were applied, by the path of their setting.
    pub(super) variables: BTreeMap<String, String>,
    /// The files of secrets that were read, by the path of the secret.
    pub(super) secret_files: BTreeMap<String, String>,
}

impl fmt::Debug for Sources {
    /// Always the same text: configurations with equal settings are equal in logs and hashes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sources")
    }
}
