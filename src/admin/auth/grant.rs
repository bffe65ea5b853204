//! What an admin key permits: roles, and the actors whose keys it may name. Stored as the scopes and the metadata of the key.

use std::time::Duration;

use serde_json::{Value, json};

use super::role::Role;
use crate::cidr::CidrSet;
use crate::key::{KeyDraft, Metadata};
use crate::policy::{RateLimitPolicy, Scopes};
use crate::request_context::ActorScope;

/// The actor of every admin key.
const ACTOR: &str = "admin";
/// The member of the metadata with the prefixes of actors.
const ACTORS: &str = "actors";
/// The maximum number of prefixes.
const ACTORS_MAX: usize = 100;
/// The maximum length of a prefix in characters, that of an actor id.
pub(in crate::admin) const PREFIX_MAX: usize = 255;

/// What an admin key permits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminGrant {
    /// The roles.
    pub roles: Vec<Role>,
    /// The actors whose keys it may name.
    pub actors: ActorScope,
}

/// An admin key to create.
#[derive(Debug, Clone)]
pub struct NewAdminKey {
    /// A display name, 1 to 255 characters.
    pub name: String,
    /// What the key permits.
    pub grant: AdminGrant,
    /// The lifetime; `None` for `credentials.api_keys.default_ttl`.
    pub ttl: Option<Duration>,
    /// The addresses that may use the key; an empty set is every address.
    pub networks: CidrSet,
    /// The rate limit of the key.
    pub rate_limit: Option<RateLimitPolicy>,
    /// An idempotency key: a repeated call returns the key of the first call, without its secret.
    pub request_id: Option<String>,
}

impl AdminGrant {
    /// Every role, for every actor.
    pub fn full() -> Self {
        Self { roles: Role::ALL.to_vec(), actors: ActorScope::All }
    }

    /// Parses names of roles and prefixes of actors. No prefix means every actor.
    ///
    /// # Errors
    /// What is wrong, as a text for the caller.
    pub fn parse(roles: &[String], actors: &[String]) -> Result<Self, String> {
        let role =
            |name: &String| Role::parse(name).ok_or_else(|| "roles must be read, verify, manage or admin".to_owned());
        let mut roles = roles.iter().map(role).collect::<Result<Vec<_>, _>>()?;
        roles.sort_unstable();
        roles.dedup();
        if roles.is_empty() {
            return Err("roles must have at least one of read, verify, manage and admin".into());
        }
        let is_prefix = |text: &String| (1..=PREFIX_MAX).contains(&text.chars().count()) && !text.contains('\0');
        if actors.len() > ACTORS_MAX || !actors.iter().all(is_prefix) {
            return Err(format!("actors must have at most {ACTORS_MAX} prefixes of 1 to {PREFIX_MAX} characters"));
        }
        Ok(Self { roles, actors: ActorScope::of_prefixes(actors.iter().map(String::as_str)) })
    }

    /// The grant in the record of an admin key. What cannot be read permits nothing.
    pub(in crate::admin) fn of_record(scopes: &Scopes, metadata: &Metadata) -> Self {
        let actors = match metadata.get(ACTORS) {
            None => ActorScope::All,
            Some(Value::Array(prefixes)) => {
                ActorScope::Prefixes(prefixes.iter().filter_map(Value::as_str).map(Box::from).collect())
            }
            Some(_) => ActorScope::Prefixes([].into()),
        };
        Self { roles: scopes.iter().filter_map(Role::parse).collect(), actors }
    }

    /// Whether a role is among them.
    pub(in crate::admin) fn has(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// Whether everything that `other` permits is also permitted by this one.
    pub(in crate::admin) fn contains(&self, other: &Self) -> bool {
        other.roles.iter().all(|role| self.has(*role)) && self.actors.contains(&other.actors)
    }

    /// The names of the roles.
    pub(in crate::admin) fn role_names(&self) -> Vec<&'static str> {
        self.roles.iter().map(|role| role.name()).collect()
    }

    fn metadata(&self) -> Metadata {
        let member = self.actors.prefixes().map(|prefixes| (ACTORS.to_owned(), json!(prefixes)));
        member.into_iter().collect()
    }
}

impl NewAdminKey {
    /// A key with a name and a grant, without limits.
    pub fn new(name: impl Into<String>, grant: AdminGrant) -> Self {
        Self { name: name.into(), grant, ttl: None, networks: CidrSet::default(), rate_limit: None, request_id: None }
    }

    /// The key to issue in the reserved tenant.
    pub fn draft(self) -> KeyDraft {
        KeyDraft {
            name: self.name,
            actor_id: ACTOR.into(),
            scopes: self.grant.role_names().into_iter().map(str::to_owned).collect(),
            ttl: self.ttl,
            metadata: self.grant.metadata(),
            rate_limit: self.rate_limit,
            networks: self.networks,
            request_id: self.request_id,
            ..KeyDraft::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(roles: &[&str], actors: &[&str]) -> Result<AdminGrant, String> {
        let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        AdminGrant::parse(&texts(roles), &texts(actors))
    }

    #[test]
    fn grant_is_read_back_from_the_record() {
        for (roles, actors) in [(&["read"][..], &[][..]), (&["admin", "read", "read"], &["team-a/", "b"])] {
            let grant = grant(roles, actors).unwrap();
            let draft = NewAdminKey::new("ops", grant.clone()).draft();
            draft.check().unwrap();
            assert_eq!(AdminGrant::of_record(&draft.scopes.into_iter().collect(), &draft.metadata), grant);
        }
    }

    #[test]
    fn record_that_cannot_be_read_permits_nothing() {
        let metadata = |value: Value| Metadata::from_iter([(ACTORS.to_owned(), value)]);
        for value in [json!("team-a/"), json!(null), json!({}), json!([])] {
            let grant = AdminGrant::of_record(&["owner"].into_iter().collect(), &metadata(value));
            assert!(grant.roles.is_empty() && !grant.actors.allows("team-a/x"));
        }
    }

    #[test]
    fn grant_contains_only_what_it_permits() {
        let mine = grant(&["admin", "read"], &["team-a/"]).unwrap();
        for (roles, actors, is_contained) in [
            (&["read"][..], &["team-a/"][..], true),
            (&["read", "admin"], &["team-a/x"], true),
            (&["manage"], &["team-a/"], false),
            (&["read"], &[], false),
            (&["read"], &["team-b/"], false),
        ] {
            assert_eq!(mine.contains(&grant(roles, actors).unwrap()), is_contained, "{roles:?} {actors:?}");
        }
        assert!(AdminGrant::full().contains(&mine));
    }

    #[test]
    fn unusable_grants_are_rejected() {
        for (roles, actors) in [(&[][..], &[][..]), (&["owner"], &[]), (&["read"], &[""])] {
            assert!(grant(roles, actors).is_err(), "{roles:?} {actors:?}");
        }
        assert!(grant(&["read"], &["x"; 101]).is_err() && grant(&["read"], &[&"x".repeat(256)]).is_err());
    }
}
