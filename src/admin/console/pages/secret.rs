//! The page with a secret that is shown once, without any other text that could be copied instead.

use askama::Template;

use crate::admin::console::page::Page;

/// The page.
#[derive(Template)]
#[template(path = "console/secret.html")]
pub(super) struct SecretPage {
    pub(super) page: Page,
    pub(super) heading: &'static str,
    /// The credential; empty if an earlier request has returned it.
    pub(super) secret: String,
    /// Where the person goes next.
    pub(super) next: String,
}
