//! The pages of the console at `/console/`.

mod administration;
mod browser;
mod data;
mod long;
mod pages;
mod safety;
mod sessions;
mod story;
pub(crate) mod visitor;
mod webdriver;

use visitor::PageSeen;

/// The paths of pages that show something without a key.
const PAGES: [&str; 5] = ["/console/", "/console/keys", "/console/keys/new", "/console/import", "/console/explain"];

/// Asserts that a page was shown.
#[track_caller]
fn assert_shown(page: &PageSeen, text: &str) {
    assert!(page.status == 200 && page.html.contains(text), "{} {}: {}", page.status, page.path, page.html);
}
