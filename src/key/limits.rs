//! Limits of individual fields (contract, admin API section 4.2).

#[cfg(feature = "admin")]
use super::api_key::ApiKey;
use super::api_key::Metadata;
use crate::cidr::CidrSet;

pub(super) const NAME_MAX: usize = 255;
pub(super) const METADATA_MAX: usize = 65_536;
const SCOPES_MAX: usize = 100;
pub(super) const SCOPE_MAX: usize = 100;
const RANGES_MAX: usize = 50;
const RANGE_MAX: usize = 50;

/// A field that violates its limit. The message names the field and the limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidField(pub String);

/// Checks that a text has `min` to `max` characters and no NUL.
pub(super) fn length(field: &str, text: &str, min: usize, max: usize) -> Result<(), InvalidField> {
    if text.contains('\0') {
        return invalid(format!("{field} must not contain NUL characters"));
    }
    // A character has at least one byte, so characters are counted only in texts with more than `max` bytes.
    let fits = text.len() >= min && (text.len() <= max || text.chars().count() <= max);
    if fits { Ok(()) } else { invalid(format!("{field} must have {min} to {max} characters")) }
}

/// Checks the fields of a key that clients set. A name may be empty: an update can remove it.
///
/// # Errors
/// [`InvalidField`] for the first field that violates a limit.
#[cfg(feature = "admin")]
pub(crate) fn check_key(key: &ApiKey) -> Result<(), InvalidField> {
    length("name", &key.name, 0, NAME_MAX)?;
    length("actor_id", &key.actor_id, 1, NAME_MAX)?;
    check_scopes(key.scopes.as_slice())?;
    check_metadata(&key.metadata)?;
    check_networks(&key.networks)
}

fn at_most(field: &str, count: usize, max: usize) -> Result<(), InvalidField> {
    if count <= max { Ok(()) } else { invalid(format!("{field} must have at most {max} items")) }
}

/// Checks that there are at most 100 scopes, each of 1 to 100 characters.
///
/// # Errors
/// [`InvalidField`] for the violated limit.
pub fn check_scopes<T: AsRef<str>>(scopes: &[T]) -> Result<(), InvalidField> {
    at_most("scopes", scopes.len(), SCOPES_MAX)?;
    scopes.iter().try_for_each(|scope| length("scopes", scope.as_ref(), 1, SCOPE_MAX))
}

/// Checks that there are at most 50 ranges, each of 1 to 50 characters.
///
/// # Errors
/// [`InvalidField`] for the violated limit.
pub fn check_ranges<T: AsRef<str>>(ranges: &[T]) -> Result<(), InvalidField> {
    at_most("ip_restriction.allowed_cidrs", ranges.len(), RANGES_MAX)?;
    ranges.iter().try_for_each(|range| length("ip_restriction.allowed_cidrs", range.as_ref(), 1, RANGE_MAX))
}

pub(super) fn check_networks(networks: &CidrSet) -> Result<(), InvalidField> {
    check_ranges(networks.texts())
}

/// Checks that metadata has at most 65536 bytes as JSON.
pub(super) fn check_metadata(metadata: &Metadata) -> Result<(), InvalidField> {
    let size = serde_json::to_vec(metadata).map_or(usize::MAX, |json| json.len());
    if size <= METADATA_MAX {
        Ok(())
    } else {
        invalid(format!("metadata must have at most {METADATA_MAX} bytes as JSON"))
    }
}

/// An [`InvalidField`] with this message.
pub(super) fn invalid<T>(message: impl Into<String>) -> Result<T, InvalidField> {
    Err(InvalidField(message.into()))
}
