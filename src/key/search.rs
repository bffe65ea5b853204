//! Searches over keys of both kinds: their conditions, the order of their pages, and positions in that order.

use super::api_key::ApiKey;
use super::limits::{InvalidField, NAME_MAX, SCOPE_MAX, length};
use super::status::EffectiveStatus;
use crate::clock::Timestamp;
use crate::id::{KeyId, KeyKind};

/// The maximum length of a prefix of an id, which is that of the id of an imported key.
pub(crate) const KEY_ID_MAX: usize = 64;

/// Conditions on keys, all of which must hold. The default matches every key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeySearch {
    /// Keys of this kind; both kinds if absent.
    pub kind: Option<KeyKind>,
    /// Keys whose name begins with this text, compared byte by byte.
    pub name_prefix: Option<String>,
    /// Keys whose actor begins with this text, compared byte by byte.
    pub actor_prefix: Option<String>,
    /// Keys whose id begins with this text.
    pub key_id_prefix: Option<String>,
    /// Keys that have this scope.
    pub scope: Option<String>,
    /// Keys with this effective status.
    pub state: Option<EffectiveStatus>,
    /// Keys whose `expire_time` is before this time.
    pub expiring_before: Option<Timestamp>,
    /// Keys that were neither used nor created at this time or later.
    pub unused_since: Option<Timestamp>,
    /// Keys that were never used.
    pub never_used: bool,
}

/// The order in which the keys of one kind are searched. Keys that are equal in it are ordered by their ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SearchOrder {
    /// By id.
    KeyId,
    /// By name.
    Name,
    /// By actor.
    Actor,
    /// By expiry; keys that do not expire are left out.
    Expiry,
    /// By the last use, or by the creation for keys that were never used.
    LastUse,
    /// Keys that were never used, by id.
    NeverUsed,
    /// Revoked keys, by id.
    Revoked,
}

/// A position in a search: after this key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SearchPosition {
    /// The value of the key by which the search is ordered; `None` in an order by id.
    pub value: Option<OrderValue>,
    /// The key.
    pub id: KeyId,
}

/// A value by which a search is ordered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum OrderValue {
    /// A name or an actor.
    Text(String),
    /// A time.
    Time(Timestamp),
}

impl KeySearch {
    /// Checks the lengths of the texts.
    ///
    /// # Errors
    /// [`InvalidField`] for the violated limit.
    pub fn check(&self) -> Result<(), InvalidField> {
        for (field, text, max) in [
            ("name_prefix", &self.name_prefix, NAME_MAX),
            ("actor_prefix", &self.actor_prefix, NAME_MAX),
            ("key_id_prefix", &self.key_id_prefix, KEY_ID_MAX),
            ("scope", &self.scope, SCOPE_MAX),
        ] {
            text.iter().try_for_each(|text| length(field, text, 1, max))?;
        }
        Ok(())
    }

    /// The order of the pages: that of the condition which probably leaves the fewest keys. `is_bound` is whether the caller is bound to
    /// actors.
    pub fn order(&self, is_bound: bool) -> SearchOrder {
        if self.key_id_prefix.is_some() {
            SearchOrder::KeyId
        } else if self.name_prefix.is_some() {
            SearchOrder::Name
        } else if self.actor_prefix.is_some() || is_bound {
            SearchOrder::Actor
        } else if self.expiring_before.is_some() || self.state == Some(EffectiveStatus::Expired) {
            SearchOrder::Expiry
        } else if self.unused_since.is_some() {
            SearchOrder::LastUse
        } else if self.state == Some(EffectiveStatus::Revoked) {
            SearchOrder::Revoked
        } else if self.never_used {
            SearchOrder::NeverUsed
        } else {
            SearchOrder::KeyId
        }
    }

    /// Whether all conditions hold for a key at `now`.
    pub fn matches(&self, key: &ApiKey, now: Timestamp) -> bool {
        let begins =
            |prefix: &Option<String>, text: &str| prefix.as_ref().is_none_or(|prefix| text.starts_with(prefix));
        self.kind.is_none_or(|kind| kind == key.id.kind())
            && begins(&self.name_prefix, &key.name)
            && begins(&self.actor_prefix, &key.actor_id)
            && begins(&self.key_id_prefix, &key.id.to_string())
            && self.scope.as_ref().is_none_or(|scope| key.scopes.iter().any(|own| own == scope))
            && self.state.is_none_or(|state| state == key.effective_status(now))
            && self.expiring_before.is_none_or(|before| key.expire_time.is_some_and(|expiry| expiry < before))
            && self.unused_since.is_none_or(|since| last_use(key) < since)
            && (!self.never_used || key.last_used_time.is_none())
    }
}

impl SearchOrder {
    /// All orders.
    pub const ALL: [Self; 7] =
        [Self::KeyId, Self::Name, Self::Actor, Self::Expiry, Self::LastUse, Self::NeverUsed, Self::Revoked];

    /// The position of a key.
    pub fn position(self, key: &ApiKey) -> SearchPosition {
        let value = match self {
            Self::KeyId | Self::NeverUsed | Self::Revoked => None,
            Self::Name => Some(OrderValue::Text(key.name.clone())),
            Self::Actor => Some(OrderValue::Text(key.actor_id.clone())),
            // A key without an expiry is not in this order.
            Self::Expiry => Some(OrderValue::Time(key.expire_time.unwrap_or_default())),
            Self::LastUse => Some(OrderValue::Time(last_use(key))),
        };
        SearchPosition { value, id: key.id }
    }

    /// The name in page tokens.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::KeyId => "id",
            Self::Name => "name",
            Self::Actor => "actor",
            Self::Expiry => "expiry",
            Self::LastUse => "use",
            Self::NeverUsed => "never",
            Self::Revoked => "revoked",
        }
    }

    /// Formats the value of a position.
    pub(super) fn value_text(position: &SearchPosition) -> String {
        match &position.value {
            None => String::new(),
            Some(OrderValue::Text(text)) => text.clone(),
            Some(OrderValue::Time(time)) => time.timestamp_micros().to_string(),
        }
    }

    /// Parses the value of a position; `None` if it is not one of this order.
    pub(super) fn parse_position(self, id: KeyId, value: &str) -> Option<SearchPosition> {
        let value = match self {
            Self::KeyId | Self::NeverUsed | Self::Revoked => None,
            Self::Name | Self::Actor => Some(OrderValue::Text(value.to_owned())),
            Self::Expiry | Self::LastUse => {
                Some(OrderValue::Time(Timestamp::from_timestamp_micros(value.parse().ok()?)?))
            }
        };
        Some(SearchPosition { value, id })
    }
}

/// The last use of a key, or its creation if it was never used.
fn last_use(key: &ApiKey) -> Timestamp {
    key.last_used_time.unwrap_or(key.create_time)
}
