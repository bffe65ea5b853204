//! Roles of admin keys. They are stored as scopes, and no role includes another.

use std::fmt;

/// A role of an admin key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Reads keys: get, list.
    Read,
    /// Judges credentials on behalf of other services: verify, batch verify, introspect.
    Verify,
    /// Changes keys: issue, import, update, rotate, revoke, delete, derive.
    Manage,
    /// Manages admin keys.
    Admin,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 4] = [Self::Read, Self::Verify, Self::Manage, Self::Admin];

    /// The name, which is the scope.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Verify => "verify",
            Self::Manage => "manage",
            Self::Admin => "admin",
        }
    }

    /// Parses a name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parsed_back() {
        for role in Role::ALL {
            assert_eq!(Role::parse(role.name()), Some(role));
        }
        for text in ["", "Read", "owner", "read "] {
            assert_eq!(Role::parse(text), None, "{text}");
        }
    }
}
