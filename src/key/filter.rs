//! Parser of list filters (contract, admin API section 5.2): clauses such as `actor_id = "user 1"`, joined by AND.

use super::status::EffectiveStatus;

const ACTOR_ID_MAX: usize = 256;

/// A parsed list filter. The default matches every key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyFilter {
    /// Matches keys of this actor.
    pub actor_id: Option<String>,
    /// Matches keys with this effective status.
    pub state: Option<EffectiveStatus>,
}

/// A syntax error in a filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid filter: {0}; write for example actor_id=\"user_1\" AND status=KEY_STATUS_ACTIVE")]
pub struct FilterError(&'static str);

impl KeyFilter {
    /// Parses a filter. Blank text is the empty filter. AND inside quotes is part of the value.
    ///
    /// # Errors
    /// [`FilterError`] for text outside the grammar.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        let mut filter = Self::default();
        let mut rest = text.trim_ascii();
        while !rest.is_empty() {
            let (field, value, after) = clause(rest)?;
            filter.set(field, value)?;
            rest = match conjunction(after)? {
                Some(next) => next,
                None => break,
            };
        }
        Ok(filter)
    }

    fn set(&mut self, field: &str, value: &str) -> Result<(), FilterError> {
        match field {
            "actor_id" if self.actor_id.is_some() => Err(FilterError("actor_id is given twice")),
            "actor_id" if value.chars().count() > ACTOR_ID_MAX => {
                Err(FilterError("actor_id must have at most 256 characters"))
            }
            "actor_id" if value.contains('\0') => Err(FilterError("actor_id must not contain NUL characters")),
            "actor_id" => {
                self.actor_id = Some(value.to_owned());
                Ok(())
            }
            "status" if self.state.is_some() => Err(FilterError("status is given twice")),
            "status" => {
                let status = EffectiveStatus::from_name(value);
                self.state = Some(status.ok_or(FilterError(
                    "status must be KEY_STATUS_ACTIVE, KEY_STATUS_REVOKED or KEY_STATUS_EXPIRED",
                ))?);
                Ok(())
            }
            _ => Err(FilterError("only actor_id and status can be filtered by")),
        }
    }
}

/// Parses the clause at the start of `text`: field, value and the rest.
fn clause(text: &str) -> Result<(&str, &str, &str), FilterError> {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len());
    let (field, rest) = text.split_at(end);
    let value = rest.trim_ascii_start().strip_prefix('=').ok_or(FilterError("a clause is field = value"))?;
    let value = value.trim_ascii_start();
    let (value, rest) = match value.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"').ok_or(FilterError("a quote is not closed"))?,
        None => value.split_at(value.find(|c: char| !is_unquoted(c)).unwrap_or(value.len())),
    };
    if value.is_empty() {
        return Err(FilterError("a value is missing"));
    }
    Ok((field, value, rest))
}

fn is_unquoted(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '_' | '.' | '-')
}

/// Parses the AND before the next clause and returns the rest; `None` at the end of the text.
fn conjunction(text: &str) -> Result<Option<&str>, FilterError> {
    const EXPECTED: FilterError = FilterError("clauses are joined by AND, with spaces around it");
    let word = text.trim_ascii_start();
    if word.is_empty() {
        return Ok(None);
    }
    let is_and = word.len() < text.len() && word.get(..3).is_some_and(|and| and.eq_ignore_ascii_case("and"));
    let next = word.get(3..).filter(|_| is_and).ok_or(EXPECTED)?;
    let trimmed = next.trim_ascii_start();
    if trimmed.len() < next.len() && !trimmed.is_empty() { Ok(Some(trimmed)) } else { Err(EXPECTED) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filter(actor_id: &str, state: Option<EffectiveStatus>) -> KeyFilter {
        KeyFilter { actor_id: (!actor_id.is_empty()).then(|| actor_id.to_owned()), state }
    }

    #[test]
    fn valid_filters_are_parsed() {
        for (text, expected) in [
            ("", filter("", None)),
            (" \t ", filter("", None)),
            ("actor_id=user_1", filter("user_1", None)),
            ("  actor_id = \"user 1 AND more\"  ", filter("user 1 AND more", None)),
            ("status=KEY_STATUS_REVOKED", filter("", Some(EffectiveStatus::Revoked))),
            ("status=\"KEY_STATUS_EXPIRED\" and actor_id=a.b-c", filter("a.b-c", Some(EffectiveStatus::Expired))),
            ("actor_id=AND AND status=KEY_STATUS_ACTIVE", filter("AND", Some(EffectiveStatus::Active))),
        ] {
            assert_eq!(KeyFilter::parse(text), Ok(expected), "{text}");
        }
        assert!(KeyFilter::parse(&format!("actor_id={}", "x".repeat(256))).is_ok());
    }

    #[test]
    fn invalid_filters_are_rejected() {
        let too_long = format!("actor_id={}", "x".repeat(257));
        for text in [
            "actor_id",
            "actor_id=",
            "=x",
            "actor_id=\"\"",
            "actor_id=\"open",
            "actor_id!=x",
            "actor_id=a OR actor_id=b",
            "NOT actor_id=a",
            "(actor_id=a)",
            "actor_id=a AND",
            "AND actor_id=a",
            "actor_id=a AND AND status=KEY_STATUS_ACTIVE",
            "actor_id=a  status=KEY_STATUS_ACTIVE",
            "actor_id=\"a\"AND status=KEY_STATUS_ACTIVE",
            "actor_id=a ANDstatus=KEY_STATUS_ACTIVE",
            "actor_id=a AND actor_id=a",
            "status=KEY_STATUS_ACTIVE AND status=KEY_STATUS_ACTIVE",
            "status=KEY_STATUS_UNSPECIFIED",
            "status=ACTIVE",
            "status=key_status_active",
            "name=x",
            "actor_id=a\u{e9}",
            "actor_id=\"a\0\"",
            too_long.as_str(),
        ] {
            assert!(KeyFilter::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "[a-zA-Z_= \"\u{e9}]{0,60}") {
            let _ = KeyFilter::parse(&text);
        }

        #[test]
        fn quoted_actor_id_is_parsed_unchanged(actor in "[^\"\\x00]{1,60}") {
            let parsed = KeyFilter::parse(&format!("actor_id=\"{actor}\" AND status=KEY_STATUS_ACTIVE"));
            prop_assert_eq!(parsed, Ok(filter(&actor, Some(EffectiveStatus::Active))));
        }
    }
}
