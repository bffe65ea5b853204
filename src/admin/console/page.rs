//! What all pages have: the title, the navigation by role, the token of the forms.

use askama::Template;
use axum::response::{Html, IntoResponse, Response};
use http::StatusCode;

use super::assets::{ASSETS, Assets};
use super::model::Caller;
use crate::admin::error::ApiError;

/// A page without navigation.
pub(super) struct Bare {
    pub(super) title: String,
    pub(super) assets: &'static Assets,
}

/// A page of a person who has signed in.
pub(super) struct Page {
    pub(super) title: String,
    pub(super) assets: &'static Assets,
    /// The entry of the navigation that the page belongs to.
    pub(super) section: Section,
    pub(super) caller: Caller,
    /// The token that each form carries.
    pub(super) token: String,
    /// What a step before this page has done; empty for none.
    pub(super) notice: &'static str,
    /// Why a form was not accepted; empty if it was.
    pub(super) error: String,
}

/// The entries of the navigation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    Overview,
    Keys,
    Explain,
    Audit,
    AdminKeys,
    Routes,
    Configuration,
}

/// An entry of the navigation.
pub(super) struct NavigationEntry {
    pub(super) path: &'static str,
    pub(super) name: &'static str,
    pub(super) is_current: bool,
}

impl Bare {
    pub(super) fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), assets: &ASSETS }
    }
}

impl Page {
    /// A page of a section for a caller, with the token of its session.
    pub(super) fn new(title: String, section: Section, caller: Caller, token: String) -> Self {
        Self { title, assets: &ASSETS, section, caller, token, notice: "", error: String::new() }
    }

    /// The entries that the roles of the caller permit.
    pub(super) fn navigation(&self) -> Vec<NavigationEntry> {
        let caller = &self.caller;
        [
            (Section::Overview, "/console/", "Overview", true),
            (Section::Keys, "/console/keys", "Keys", caller.can_read() || caller.can_manage()),
            (Section::Explain, "/console/explain", "Explain", caller.can_verify()),
            (Section::Audit, "/console/audit", "Audit", caller.can_read()),
            (Section::Routes, "/console/routes", "Routes", caller.can_read()),
            (Section::AdminKeys, "/console/admin-keys", "Admin keys", caller.can_administrate()),
            (Section::Configuration, "/console/configuration", "Configuration", caller.can_read()),
        ]
        .into_iter()
        .filter(|(.., is_permitted)| *is_permitted)
        .map(|(section, path, name, _)| NavigationEntry { path, name, is_current: section == self.section })
        .collect()
    }

    /// The same page with an error above its form.
    #[must_use]
    pub(super) fn with_error(self, error: String) -> Self {
        Self { error, ..self }
    }

    /// The same page with a notice; `done` names the step that was done.
    #[must_use]
    pub(super) fn with_notice(self, done: &str) -> Self {
        let notice = match done {
            "saved" => "The changes are saved.",
            "revoked" => "The key is revoked. This node refuses it from now on.",
            "deleted" => "The key is deleted.",
            _ => "",
        };
        Self { notice, ..self }
    }
}

/// The response with a page.
pub(super) fn html(template: &impl Template) -> Response {
    html_with(StatusCode::OK, template)
}

/// The response with the page of a form: 422 if the form was not accepted.
pub(super) fn form_html(page: &Page, template: &impl Template) -> Response {
    let status = if page.error.is_empty() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    html_with(status, template)
}

/// The same with a status.
pub(super) fn html_with(status: StatusCode, template: &impl Template) -> Response {
    match template.render() {
        Ok(text) => (status, Html(text)).into_response(),
        Err(error) => ApiError::internal(&error).into_response(),
    }
}
