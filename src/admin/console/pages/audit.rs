//! The audit trail: filters, pages, the state of the chains, export.

use askama::Template;
use axum::response::{IntoResponse, Response};
use chrono::NaiveDate;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use serde::Deserialize;
use serde_json::Value;

use super::audit_row::AuditRow;
use crate::admin::console::api::{Api, ApiFailure};
use crate::admin::console::failure::{Failure, sentence};
use crate::admin::console::fields::Fields;
use crate::admin::console::model::{AuditChain, AuditPage};
use crate::admin::console::page::{Page, Section, form_html};
use crate::admin::console::signed_in::SignedIn;
use crate::admin::console::streamed::{Writer, streamed};
use crate::admin::console::time::Moment;

const EVENTS: &str = "/keygate/v1/auditEvents";
const CHAIN: &str = "/keygate/v1/auditChain";
/// The operations that the filter offers.
const OPERATIONS: [(&str, &str); 11] = [
    ("issue", "Keys issued"),
    ("rotate", "Keys rotated"),
    ("update", "Keys changed"),
    ("revoke", "Keys revoked"),
    ("import", "Keys imported"),
    ("delete", "Keys deleted"),
    ("purge", "Keys removed after their expiry"),
    ("derive", "Tokens derived"),
    ("verify", "Verifications failed"),
    ("refuse", "Calls refused"),
    ("checkpoint", "Checkpoints"),
];
/// The rows of an export that are in memory at once.
const EXPORT_ROWS: &str = "1000";

#[derive(Template)]
#[template(path = "console/audit.html")]
struct AuditTrail {
    page: Page,
    fields: Fields,
    events: Vec<AuditRow>,
    /// The query of the next page; empty on the last one.
    next: String,
    /// The state of the latest rows; `None` if none is sealed yet, or it cannot be read.
    chain: Option<AuditChain>,
    /// The last checkpoint of the chains; `None` if there is none yet.
    checkpoint: Option<Checkpoint>,
}

/// A checkpoint: the state of the chains that was recorded.
struct Checkpoint {
    time: Moment,
    heads: String,
}

/// A page of rows as the API returns them.
#[derive(Deserialize)]
struct RawPage {
    audit_events: Vec<Value>,
    next_page_token: String,
}

/// Shows a page of the trail.
pub(super) async fn show(who: SignedIn, fields: Fields) -> Result<Response, Failure> {
    let page = who.page(Section::Audit, "Audit trail");
    let checkpoints = [("operation", "checkpoint"), ("page_size", "1")];
    let (events, checkpoint, chain) = tokio::join!(
        find::<AuditPage>(&who.api, &fields, "50", fields.text("page_token")),
        who.api.find::<AuditPage>(EVENTS, &checkpoints),
        who.api.get::<AuditChain>(CHAIN)
    );
    let chain = chain.ok().filter(|chain| chain.last_row > 0);
    let (events, page) = match events {
        Ok(events) => (events, page),
        Err(failure) if failure.is_correctable() => (AuditPage::default(), page.with_error(sentence(&failure.message))),
        Err(failure) => return Err(failure.into()),
    };
    let AuditPage { audit_events, next_page_token } = events;
    let next =
        if next_page_token.is_empty() { String::new() } else { fields.query(&[("page_token", &next_page_token)]) };
    let checkpoint = checkpoint.ok().and_then(|page| page.audit_events.into_iter().next()).map(|event| Checkpoint {
        time: Moment::new(event.time, who.now),
        heads: event.details.map(|details| format!("{details:#}")).unwrap_or_default(),
    });
    let events = audit_events.into_iter().map(AuditRow::new).collect();
    let trail = AuditTrail { page, fields, events, next, chain, checkpoint };
    Ok(form_html(&trail.page, &trail))
}

/// Returns the rows that the filters leave as lines of JSON, the latest first. Rows that are added meanwhile are not among them.
pub(super) async fn export(who: SignedIn, fields: Fields) -> Result<Response, Failure> {
    // The first rows are read before the head of the response, so that it has the status of an error.
    let first = find(&who.api, &fields, EXPORT_ROWS, "").await?;
    let (writer, body) = streamed();
    tokio::spawn(write_rows(who.api, fields, first, writer));
    let headers = [
        (CONTENT_TYPE, "application/x-ndjson"),
        (CONTENT_DISPOSITION, "attachment; filename=\"keygate-audit.ndjson\""),
    ];
    Ok((headers, body).into_response())
}

/// Writes all pages from a first one. If a page cannot be read, the body has no end, and the browser reports that the download failed.
async fn write_rows(api: Api, fields: Fields, mut page: RawPage, writer: Writer) {
    loop {
        let lines: String = page.audit_events.iter().flat_map(|event| [event.to_string(), "\n".to_owned()]).collect();
        if !writer.write(lines).await {
            return;
        }
        if page.next_page_token.is_empty() {
            return writer.end().await;
        }
        match find(&api, &fields, EXPORT_ROWS, &page.next_page_token).await {
            Ok(next) => page = next,
            Err(failure) => {
                tracing::warn!(message = failure.message, "an export of the audit trail was not completed");
                return;
            }
        }
    }
}

fn find<'a, T: serde::de::DeserializeOwned>(
    api: &'a Api,
    fields: &Fields,
    size: &str,
    token: &str,
) -> impl Future<Output = Result<T, ApiFailure>> + Send + use<'a, T> {
    let (from, to) = (begin_of_day(fields.text("from"), 0), begin_of_day(fields.text("to"), 1));
    let parameters = [
        ("page_size", size),
        ("page_token", token),
        ("operation", fields.text("operation")),
        ("principal", fields.text("principal")),
        ("key_id", fields.text("key_id")),
        ("actor_id", fields.text("actor_id")),
        ("from", &from),
        ("to", &to),
    ];
    api.find(EVENTS, &parameters)
}

/// The begin of a day, some days later, as a time. Another text stays as it is, and the API says what is wrong with it.
fn begin_of_day(text: &str, later: u64) -> String {
    let day = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok();
    let day = day.and_then(|day| day.checked_add_days(chrono::Days::new(later)));
    day.map_or_else(|| text.to_owned(), |day| format!("{day}T00:00:00Z"))
}

impl AuditTrail {
    /// The operations, and whether they are selected.
    fn operations(&self) -> Vec<(&'static str, &'static str, bool)> {
        let selected = self.fields.text("operation");
        OPERATIONS.into_iter().map(|(name, words)| (name, words, name == selected)).collect()
    }

    /// The query of the export.
    fn export(&self) -> String {
        self.fields.query(&[("page_token", "")])
    }

    fn has_filters(&self) -> bool {
        !self.fields.0.iter().all(|(_, value)| value.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_whole_days_in_utc() {
        assert_eq!(begin_of_day("2026-11-30", 0), "2026-11-30T00:00:00Z");
        assert_eq!(begin_of_day("2026-11-30", 1), "2026-12-01T00:00:00Z");
        assert_eq!((begin_of_day("", 1), begin_of_day("x", 0)), (String::new(), "x".to_owned()));
    }
}
