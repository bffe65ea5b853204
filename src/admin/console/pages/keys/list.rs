//! The list of keys: search and filters, page by page.

use askama::Template;
use axum::response::Response;
use chrono::{SecondsFormat, TimeDelta};

use crate::admin::console::api::{Api, ApiFailure};
use crate::admin::console::failure::{Failure, sentence};
use crate::admin::console::fields::Fields;
use crate::admin::console::model::{InactiveKeys, Key, KeyPage};
use crate::admin::console::number;
use crate::admin::console::page::{Page, Section, form_html};
use crate::admin::console::signed_in::SignedIn;
use crate::admin::console::time::Moment;
use crate::clock::Timestamp;

const KEYS: &str = "/keygate/v1/keys";
const INACTIVE_KEYS: &str = "/keygate/v1/keys:countInactive";
const PAGE_SIZE: &str = "50";
/// The length of the longest id.
const ID_MAX: usize = 64;
/// The texts that a search compares, with their parameters of the API.
const SEARCHED: [(&str, &str); 3] = [("name", "name_prefix"), ("actor", "actor_prefix"), ("id", "key_id_prefix")];

#[derive(Template)]
#[template(path = "console/keys/list.html")]
struct ListPage {
    page: Page,
    fields: Fields,
    rows: Vec<Row>,
    /// The query of the next page; empty on the last one.
    next: String,
    /// Searches of one text that have more keys.
    more: Vec<MoreOf>,
    /// The text of the link to the inactive keys, with their number; empty if there are none or they are shown.
    inactive: String,
}

/// A key in the list.
pub(super) struct Row {
    pub(super) key: Key,
    pub(super) expires: Option<Moment>,
    pub(super) used: Option<Moment>,
}

/// A search that has more keys than the list shows.
struct MoreOf {
    name: &'static str,
    query: String,
}

/// What a list found.
#[derive(Default)]
struct Found {
    keys: Vec<Key>,
    next: String,
    more: Vec<MoreOf>,
}

/// Shows the list. Unless it is asked for another status, it has active keys.
pub(super) async fn show(who: SignedIn, fields: Fields) -> Result<Response, Failure> {
    let page = who.page(Section::Keys, "Keys").with_notice(fields.text("done"));
    if !who.caller.can_read() {
        let page = ListPage { page, fields, rows: vec![], next: String::new(), more: vec![], inactive: String::new() };
        return Ok(form_html(&page.page, &page));
    }
    let conditions = conditions(&fields, who.now);
    let (found, inactive) =
        tokio::join!(find(&who.api, &fields, &conditions), inactive(&who.api, &fields, &conditions));
    let (found, page) = match found {
        Ok(found) => (found, page),
        Err(failure) if failure.is_correctable() => (Found::default(), page.with_error(sentence(&failure.message))),
        Err(failure) => return Err(failure.into()),
    };
    let Found { keys, next, more } = found;
    let rows = keys.into_iter().map(|key| Row::new(key, who.now)).collect();
    let list = ListPage { page, next, more, rows, inactive: inactive.unwrap_or_default(), fields };
    Ok(form_html(&list.page, &list))
}

/// The conditions of the filters as parameters of the API, without the searched text.
fn conditions(fields: &Fields, now: Timestamp) -> Vec<(&'static str, String)> {
    let days = |name: &str| fields.text(name).parse().ok().and_then(TimeDelta::try_days);
    let time = |time: Timestamp| time.to_rfc3339_opts(SecondsFormat::Secs, true);
    let status = match fields.text("status") {
        "" | "active" => "KEY_STATUS_ACTIVE",
        "revoked" => "KEY_STATUS_REVOKED",
        "expired" => "KEY_STATUS_EXPIRED",
        _ => "",
    };
    let never = if fields.text("use") == "never" { "true" } else { "" };
    vec![
        ("page_size", PAGE_SIZE.to_owned()),
        ("kind", fields.text("kind").to_owned()),
        ("scope", fields.text("scope").to_owned()),
        ("status", status.to_owned()),
        ("expiring_before", days("expires").map_or_else(String::new, |days| time(now + days))),
        ("unused_since", days("use").map_or_else(String::new, |days| time(now - days))),
        ("never_used", never.to_owned()),
    ]
}

/// Searches with these conditions, some of which `more` replaces.
fn search<'a>(
    api: &'a Api,
    conditions: &[(&'static str, String)],
    more: &[(&'static str, &str)],
) -> impl Future<Output = Result<KeyPage, ApiFailure>> + Send + use<'a> {
    let kept = conditions.iter().filter(|(name, _)| !more.iter().any(|(other, _)| other == name));
    let parameters: Vec<(&str, &str)> =
        kept.map(|(name, value)| (*name, value.as_str())).chain(more.iter().copied()).collect();
    api.find(KEYS, &parameters)
}

/// Finds the keys of a page. A text is compared with names, actors and ids, unless one of them is named.
async fn find(api: &Api, fields: &Fields, conditions: &[(&'static str, String)]) -> Result<Found, ApiFailure> {
    let (text, field) = (fields.text("q"), fields.text("in"));
    let named = SEARCHED.iter().find(|(name, _)| *name == field);
    if text.is_empty() || named.is_some() {
        let text_condition = named.filter(|_| !text.is_empty()).map(|(_, parameter)| (*parameter, text));
        let mut more = vec![("page_token", fields.text("page_token"))];
        more.extend(text_condition);
        let KeyPage { keys, next_page_token } = search(api, conditions, &more).await?;
        let next =
            if next_page_token.is_empty() { String::new() } else { fields.query(&[("page_token", &next_page_token)]) };
        return Ok(Found { keys, next, more: Vec::new() });
    }
    let [name, actor, id] = SEARCHED.map(|(_, parameter)| parameter);
    let by = |parameter| search(api, conditions, &[(parameter, text)]);
    // A longer text is no prefix of an id, and the API refuses it.
    let by_id = by(if text.len() <= ID_MAX { id } else { name });
    let (by_name, by_actor, by_id) = tokio::join!(by(name), by(actor), by_id);
    let mut found = Found::default();
    for ((name, _), page) in SEARCHED.into_iter().zip([by_name, by_actor, by_id]) {
        let page = page?;
        if !page.next_page_token.is_empty() {
            found.more.push(MoreOf { name, query: fields.query(&[("in", name)]) });
        }
        for key in page.keys {
            if !found.keys.iter().any(|other| other.id == key.id) {
                found.keys.push(key);
            }
        }
    }
    Ok(found)
}

/// The text of the link to the inactive keys that meet the conditions; `None` on a page without active keys only.
async fn inactive(api: &Api, fields: &Fields, conditions: &[(&'static str, String)]) -> Option<String> {
    if !fields.text("page_token").is_empty() || !matches!(fields.text("status"), "" | "active") {
        return None;
    }
    let (text, field) = (fields.text("q"), fields.text("in"));
    let searched = SEARCHED.iter().find(|(name, _)| *name == field).map_or("any_prefix", |(_, parameter)| *parameter);
    let conditions = conditions.iter().filter(|(name, _)| !matches!(*name, "page_size" | "status"));
    let parameters: Vec<(&str, &str)> =
        conditions.map(|(name, value)| (*name, value.as_str())).chain([(searched, text)]).collect();
    let InactiveKeys { count, is_complete } = api.find(INACTIVE_KEYS, &parameters).await.ok()?;
    match (number::count(count), is_complete) {
        (_, true) if count == 0 => None,
        (_, false) if count == 0 => Some("Show inactive".to_owned()),
        (count, true) => Some(format!("Show inactive ({count})")),
        (count, false) => Some(format!("Show inactive ({count}+)")),
    }
}

impl Row {
    pub(super) fn new(key: Key, now: Timestamp) -> Self {
        Self {
            expires: key.expire_time.map(|time| Moment::new(time, now)),
            used: key.last_used_time.map(|time| Moment::of_day(time, now)),
            key,
        }
    }

    /// The first scopes.
    fn scopes(&self) -> &[String] {
        self.key.scopes.get(..3).unwrap_or(&self.key.scopes)
    }

    /// How many further scopes there are.
    fn further_scopes(&self) -> usize {
        self.key.scopes.len().saturating_sub(3)
    }
}

impl ListPage {
    /// Whether a choice of a filter is selected.
    fn is(&self, name: &str, value: &str) -> bool {
        self.fields.text(name) == value
    }

    /// Whether a filter beside the text is set.
    fn has_filters(&self) -> bool {
        ["kind", "scope", "expires", "use", "in"].iter().any(|name| !self.fields.text(name).is_empty())
            || !matches!(self.fields.text("status"), "" | "active")
    }

    /// What the list has, for people who do not see it.
    fn count(&self) -> String {
        let more = if self.next.is_empty() && self.more.is_empty() { "" } else { ", and more" };
        match self.rows.len() {
            1 => format!("1 key{more}"),
            count => format!("{count} keys{more}"),
        }
    }

    /// The query with keys of every status.
    fn with_inactive(&self) -> String {
        self.fields.query(&[("status", "all")])
    }
}
