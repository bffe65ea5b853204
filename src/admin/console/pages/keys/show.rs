//! The page of a key.

use askama::Template;
use axum::extract::Path;
use axum::response::Response;

use crate::admin::console::chart::Chart;
use crate::admin::console::failure::Failure;
use crate::admin::console::fields::Fields;
use crate::admin::console::model::{AuditPage, Key, KeyRateLimit, RateLimitState, Usage, key_path};
use crate::admin::console::number::{count, counted};
use crate::admin::console::page::{Page, Section, html};
use crate::admin::console::pages::audit_row::AuditRow;
use crate::admin::console::signed_in::SignedIn;
use crate::admin::console::time::{Moment, span};

#[derive(Template)]
#[template(path = "console/keys/show.html")]
struct KeyPage {
    page: Page,
    key: Key,
    created: Moment,
    changed: Moment,
    expires: Option<Moment>,
    used: Option<Moment>,
    /// What is left of the rate limit.
    left: Option<String>,
    /// When a replaced key ends.
    ends: Option<Moment>,
    /// The key that this one replaced.
    replaces: Option<String>,
    /// The requests of the last 30 days; `None` if they cannot be read.
    usage: Option<KeyUsage>,
    events: Vec<AuditRow>,
    /// Whether there are more events.
    has_more_events: bool,
}

/// The requests of a key.
struct KeyUsage {
    chart: Chart,
    requests: String,
    refused: String,
    refusals: Vec<(String, String)>,
    /// Requests that a node could not count by key.
    uncounted: u64,
}

/// Shows the page.
pub(super) async fn show(who: SignedIn, Path(id): Path<String>, fields: Fields) -> Result<Response, Failure> {
    let path = key_path(&id).ok_or_else(Failure::not_found)?;
    let usage_path = format!("/keygate/v1/keys/{id}/usage?step=day");
    let events = [("key_id", id.as_str()), ("page_size", "20")];
    let limit_path = format!("/keygate/v1/keys/{id}/rateLimit");
    let (key, limit, usage, events) = tokio::join!(
        who.api.get::<Key>(&path),
        who.api.get::<KeyRateLimit>(&limit_path),
        who.api.get::<Usage>(&usage_path),
        who.api.find::<AuditPage>("/keygate/v1/auditEvents", &events)
    );
    let key = key?;
    // A store may keep neither usage nor an audit trail.
    let events = events.unwrap_or(AuditPage { audit_events: Vec::new(), next_page_token: String::new() });
    let replaces = events.audit_events.iter().find_map(|event| event.detail("old_key_id"));
    let page = KeyPage {
        page: who
            .page(Section::Keys, if key.name.is_empty() { "Key" } else { &key.name })
            .with_notice(fields.text("done")),
        created: Moment::new(key.create_time, who.now),
        changed: Moment::new(key.update_time, who.now),
        expires: key.expire_time.map(|time| Moment::new(time, who.now)),
        used: key.last_used_time.map(|time| Moment::of_day(time, who.now)),
        left: limit.ok().and_then(|limit| limit.rate_limit).map(|limit| left(&limit)),
        ends: key.revoke_time.map(|time| Moment::new(time, who.now)),
        replaces,
        usage: usage.ok().map(KeyUsage::new),
        has_more_events: !events.next_page_token.is_empty(),
        events: events.audit_events.into_iter().map(AuditRow::new).collect(),
        key,
    };
    Ok(html(&page))
}

impl KeyUsage {
    fn new(usage: Usage) -> Self {
        let mut refusals: Vec<_> = usage.total.refusals.into_iter().collect();
        refusals.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let refusals = refusals.into_iter().map(|(code, number)| (code, count(number))).collect();
        Self {
            chart: Chart::of_days(&usage.periods),
            requests: counted(usage.total.requests, "request"),
            refused: count(usage.total.refused),
            refusals,
            uncounted: usage.requests_without_key,
        }
    }
}

impl KeyPage {
    /// The rate limit in words.
    fn limit(&self) -> Option<String> {
        let limit = self.key.rate_limit_policy.as_ref()?;
        let seconds = limit.window.trim_end_matches('s').parse().unwrap_or_default();
        let window = match seconds {
            1 => "second".to_owned(),
            60 => "minute".to_owned(),
            3600 => "hour".to_owned(),
            86_400 => "day".to_owned(),
            seconds => span(seconds),
        };
        let quota = limit.quota.parse().map_or_else(|_| limit.quota.clone(), |quota| counted(quota, "request"));
        Some(format!("{quota} per {window}"))
    }

    /// The metadata as indented JSON.
    fn metadata(&self) -> Option<String> {
        let metadata = self.key.metadata.as_ref().filter(|metadata| !metadata.is_empty())?;
        Some(format!("{:#}", serde_json::json!(metadata)))
    }

    /// The reason of the revocation in words.
    fn reason(&self) -> Option<&str> {
        self.key.revocation_reason.as_deref().map(reason_name)
    }

    fn is_public(&self) -> bool {
        self.key.visibility == "KEY_VISIBILITY_PUBLIC"
    }

    /// Whether the key can be rotated.
    fn can_rotate(&self) -> bool {
        self.key.is_issued() && self.key.is_active() && self.key.replaced_by.is_none()
    }
}

/// What is left of a rate limit in words.
fn left(limit: &RateLimitState) -> String {
    let used = count(limit.quota.saturating_sub(limit.remaining));
    let seconds = format!("{:.0}", limit.reset_seconds.ceil()).parse().unwrap_or(u64::MAX);
    let reset = if seconds == 0 { String::new() } else { format!(", resets in {}", span(seconds)) };
    format!("{used} of {} used{reset}", count(limit.quota))
}

/// A reason of a revocation in words.
fn reason_name(reason: &str) -> &str {
    match reason {
        "REVOCATION_REASON_KEY_COMPROMISE" => "the secret is known to others",
        "REVOCATION_REASON_AFFILIATION_CHANGED" => "the holder has left",
        "REVOCATION_REASON_SUPERSEDED" => "replaced by another key",
        "REVOCATION_REASON_PRIVILEGE_WITHDRAWN" => "the permission is withdrawn",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limit_is_shown_as_what_is_used_and_when_it_resets() {
        let limit = |remaining, reset_seconds| RateLimitState { quota: 6000, remaining, reset_seconds };
        assert_eq!(left(&limit(5997, 0.03)), "3 of 6,000 used, resets in 1 second");
        assert_eq!(left(&limit(6000, 0.0)), "0 of 6,000 used");
        assert_eq!(left(&limit(0, 60.0)), "6,000 of 6,000 used, resets in 60 seconds");
    }
}
