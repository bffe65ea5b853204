//! The table as Markdown: `docs/conformance.md`.

use std::fmt::Write;

use super::check::expected_status;
use super::front::Description;
use super::row::{Outcome, Row};

const INTRODUCTION: &str = "\
# Conformance of the fronts

What each front answers to one table of requests. `tests/it/conformance.rs` sends every request through the real servers, with the
configurations in [external-auth.md](external-auth.md), and compares status, rejection code, challenge, `Retry-After`, rate-limit
fields and body of the response, and identity and credential in what the upstream receives. The column of the gateway holds for each
kind of listener: HTTP/1.1 and HTTP/2, in clear text and with TLS, on TCP, on a Unix socket, and behind a proxy with the PROXY protocol.
This file is generated from the table: `make documents`.

";

/// Whether a front has a property.
type Property = fn(&Description) -> bool;

/// The whole document.
pub(crate) fn document(rows: &[Row], fronts: &[&Description]) -> String {
    let mut text = INTRODUCTION.to_owned();
    capabilities(&mut text, fronts);
    matrix(&mut text, rows, fronts);
    text
}

fn capabilities(text: &mut String, fronts: &[&Description]) {
    let properties: [(&str, Property); 4] = [
        ("the client gets the body of a rejection as Keygate wrote it, otherwise one with status and code", |front| {
            front.keeps_bodies
        }),
        ("the `X-Request-Id` of the client is kept, otherwise the server generates one", |front| {
            front.keeps_request_id
        }),
        (
            "on routes with `auth: none` the upstream gets the client's `Authorization`, otherwise it is removed",
            |front| front.keeps_authorization,
        ),
        ("Keygate matches the route, otherwise the service does and its 404 is its own", |front| front.matches_routes),
    ];
    text.push_str("## Differences\n\n");
    table_head(text, &["property"], fronts);
    for (property, has) in properties {
        line(text, [property.to_owned()], fronts.iter().map(|front| if has(front) { "yes" } else { "no" }.to_owned()));
    }
    text.push('\n');
    for front in fronts {
        for exception in front.exceptions {
            let (name, note, status) = (front.name, exception.note, exception.status);
            let _ = writeln!(text, "- {name}: a request \"{note}\" gets {status}: {}.", exception.reason);
        }
    }
}

fn matrix(text: &mut String, rows: &[Row], fronts: &[&Description]) {
    text.push_str(
        "\n## Requests\n\n\
        `identified`: the upstream receives the identity of the credential, and not the credential. `anonymous`: it receives no identity\n\
        and no credential. `untouched`: Keygate does not look at credentials. Any other outcome is the code of a rejection. The columns of the\n\
        fronts have the status that the client gets.\n\n",
    );
    table_head(text, &["request", "credential", "outcome"], fronts);
    for row in rows {
        let statuses = fronts.iter().map(|front| expected_status(row, front).to_string());
        line(text, [row.request_text(), row.credential_text(), outcome_text(row)], statuses);
    }
}

fn outcome_text(row: &Row) -> String {
    let mut text = match row.outcome {
        Outcome::Identified => "identified".to_owned(),
        Outcome::Anonymous => "anonymous".to_owned(),
        Outcome::Untouched => "untouched".to_owned(),
        Outcome::Rejected(rejection) => format!("`{}`", rejection.code),
    };
    if row.policy.is_some() {
        text.push_str(", `RateLimit`");
    }
    if matches!(row.outcome, Outcome::Rejected(rejection) if rejection.has_retry_after) {
        text.push_str(", `Retry-After`");
    }
    text
}

fn table_head(text: &mut String, columns: &[&str], fronts: &[&Description]) {
    line(text, columns.iter().map(|column| (*column).to_owned()), fronts.iter().map(|front| front.name.to_owned()));
    line(text, columns.iter().map(|_| "---".to_owned()), fronts.iter().map(|_| "---".to_owned()));
}

fn line(text: &mut String, columns: impl IntoIterator<Item = String>, more: impl Iterator<Item = String>) {
    let cells: Vec<_> = columns.into_iter().chain(more).collect();
    let _ = writeln!(text, "| {} |", cells.join(" | "));
}
