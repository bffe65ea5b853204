//! An authenticated caller of the admin API.

use std::sync::Arc;

/// An administrator, as the request was authenticated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Administrator {
    /// The id of the admin key, or `bootstrap` for the key in the configuration.
    pub name: Arc<str>,
    /// The names of its roles.
    pub roles: Arc<[&'static str]>,
}

impl Administrator {
    /// An administrator with a name and roles.
    pub fn new(name: impl Into<Arc<str>>, roles: impl Into<Arc<[&'static str]>>) -> Self {
        Self { name: name.into(), roles: roles.into() }
    }
}
