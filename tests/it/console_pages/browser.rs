//! The console in a real browser: the whole story with the script, and every page checked for accessibility in both themes and at two
//! widths. With `KEYGATE_SCREENSHOTS` pictures of the pages are written to that folder (`make screenshots`).

use std::path::{Path, PathBuf};

use serde_json::json;

use super::data::fill;
use super::story::{BOOTSTRAP, serve};
use super::webdriver::WebDriver;
use crate::support::keygate::Keygate;
use crate::support::upstream::Upstream;
use crate::support::wait::wait_for;

/// Themes, and widths and heights of the window.
const THEMES: [&str; 2] = ["light", "dark"];
const SIZES: [(&str, u32, u32); 2] = [("wide", 1280, 860), ("narrow", 390, 844)];

/// The pages in the documentation.
const PICTURED: [&str; 7] = ["overview", "keys", "key", "secret", "revoke", "explained", "audit"];

/// axe-core; `None` if it is not installed.
fn axe() -> Option<String> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(target);
    let script = std::fs::read_to_string(root.join("axe/node_modules/axe-core/axe.min.js")).ok();
    if script.is_none() {
        eprintln!("SKIPPED: axe-core is not installed; deploy/ci/ensure.sh test installs it");
    }
    script
}

/// Asserts that axe finds nothing on the page.
async fn assert_accessible(browser: &WebDriver, axe: &str, what: &str) {
    browser.run(axe, json!([])).await;
    let script = "const done = arguments[arguments.length - 1]; \
                  axe.run().then(result => done(result.violations.map(found => found.id + ': ' + \
                  found.nodes.map(node => node.html + ' ' + node.failureSummary).join(' | '))), error => done([String(error)]))";
    let violations = browser.run_async(script).await;
    assert_eq!(violations, json!([]), "{what}");
}

/// Asserts that the page has not violated its policy and that all it has loaded is from the console.
async fn assert_own(browser: &WebDriver, keygate: &Keygate, what: &str) {
    let mut complaints = browser.complaints().await;
    // A page of an error has its status.
    complaints.retain(|complaint| !complaint.contains("the server responded with a status of 4"));
    assert!(complaints.is_empty(), "{what}: {complaints:?}");
    let script = "return performance.getEntriesByType('resource').map(entry => entry.name)";
    let loaded = browser.run(script, json!([])).await;
    for url in loaded.as_array().unwrap() {
        assert!(url.as_str().unwrap().starts_with(&format!("{}/console/", keygate.admin)), "{what}: {url}");
    }
}

async fn sign_in(browser: &WebDriver, keygate: &Keygate) {
    browser.open(&format!("{}/console/", keygate.admin)).await;
    browser.fill("#admin_key", BOOTSTRAP).await;
    browser.press("Sign in").await;
    browser.wait_for_text("This node").await;
}

/// Waits until an element has a text, and returns it.
async fn text_of(browser: &WebDriver, selector: &str) -> String {
    wait_for(async || match browser.text(selector).await {
        text if text.is_empty() => Err(format!("{selector} has no text")),
        text => Ok(text),
    })
    .await
}

#[tokio::test]
async fn whole_story_in_chromium() {
    let upstream = Upstream::start();
    let keygate = serve(&upstream);
    let Some(browser) = WebDriver::start().await else { return };
    let open = async |path: &str| browser.open(&format!("{}{path}", keygate.admin)).await;
    sign_in(&browser, &keygate).await;

    browser.press("Keys").await;
    browser.press("Issue the first key").await;
    browser.fill("#name", "Orders of Acme").await;
    browser.fill("#actor_id", "acme").await;
    browser.fill("#ttl", "30d").await;
    browser.press("Issue the key").await;
    let old_secret = text_of(&browser, "#secret-text").await;
    let origin = json!({"permission": {"name": "clipboard-read"}, "setting": "granted", "origin": keygate.admin});
    browser.devtools("Browser.setPermission", origin).await;
    browser.press("Copy the secret").await;
    let read = "navigator.clipboard.readText().then(arguments[0], error => arguments[0](String(error)))";
    let copied = wait_for(async || match browser.run_async(read).await {
        text if text == old_secret.as_str() => Ok(text),
        text => Err(format!("the clipboard has {text}")),
    });
    copied.await;
    browser.press("I have stored it").await;
    browser.wait_for_text("Orders of Acme").await;
    let old_page = browser.url().await;

    assert_eq!(keygate.call("/orders/1", &old_secret).await.status(), 200);
    let used = wait_for(async || {
        browser.open(&old_page).await;
        match browser.text("main").await {
            text if text.contains("1 request, 0 refused") && text.contains("today") => Ok(()),
            text => Err(text),
        }
    });
    used.await;

    browser.press("Rotate").await;
    browser.click("#o15m").await;
    browser.press("Rotate the key").await;
    let new_secret = text_of(&browser, "#secret-text").await;
    for secret in [&old_secret, &new_secret] {
        assert_eq!(keygate.call("/orders/1", secret).await.status(), 200);
    }
    browser.press("I have stored it").await;
    browser.wait_for_text("Replaces").await;

    browser.press("Revoke").await;
    browser.press("Revoke the key").await;
    browser.wait_for_text("The key is revoked").await;
    assert_eq!(keygate.call("/orders/1", &new_secret).await.status(), 401);

    browser.press("Explain").await;
    browser.fill("#credential", &new_secret).await;
    browser.fill("#url", "/orders/1").await;
    browser.click("main form .primary").await;
    browser.wait_for_text("credential_revoked").await;

    // The search begins while a person types.
    open("/console/keys").await;
    browser.fill("#q", "acm").await;
    browser.wait_for_text("Orders of Acme").await;
    browser.fill("#q", "nobody").await;
    browser.wait_for_text("No key matches").await;
    assert!(browser.url().await.ends_with("?q=nobody"));

    browser.press("Audit").await;
    browser.fill("#actor_id", "acme").await;
    browser.wait_for_text("Key issued by a rotation").await;
    let events = browser.text("#results").await;
    assert!(events.contains("Key revoked") && events.contains("admin:bootstrap"), "{events}");
    assert_own(&browser, &keygate, "the story").await;

    browser.press("Sign out").await;
    browser.wait_for_text("You have signed out").await;
    browser.open(&old_page).await;
    browser.wait_for_text("Admin key").await;
    assert!(browser.url().await.contains("/console/sign-in?next="));
    browser.quit().await;
}

#[tokio::test]
async fn every_page_is_accessible_in_both_themes_and_at_two_widths() {
    let upstream = Upstream::start();
    let keygate = serve(&upstream);
    let Some(browser) = WebDriver::start().await else { return };
    let Some(axe) = axe() else { return };
    let (key, revoked) = fill(&keygate).await;
    browser.open(&format!("{}/console/sign-in", keygate.admin)).await;
    check(&browser, &keygate, &axe, "sign-in").await;
    sign_in(&browser, &keygate).await;
    for (name, path) in [
        ("overview", "/console/".to_owned()),
        ("keys", "/console/keys".into()),
        ("keys-inactive", "/console/keys?status=all&kind=issued".into()),
        ("keys-none", "/console/keys?q=nothing".into()),
        ("key", format!("/console/keys/{key}")),
        ("key-revoked", format!("/console/keys/{revoked}")),
        ("issue", "/console/keys/new?template=service".into()),
        ("edit", format!("/console/keys/{key}/edit")),
        ("rotate", format!("/console/keys/{key}/rotate")),
        ("revoke", format!("/console/keys/revoke?id={key}")),
        ("derive", format!("/console/keys/{key}/derive")),
        ("import", "/console/import".into()),
        ("explain", "/console/explain".into()),
        ("audit", "/console/audit".into()),
        ("admin-keys", "/console/admin-keys".into()),
        ("admin-key-new", "/console/admin-keys/new".into()),
        ("routes", "/console/routes".into()),
        ("configuration", "/console/configuration".into()),
        ("not-found", "/console/nothing".into()),
    ] {
        browser.open(&format!("{}{path}", keygate.admin)).await;
        check(&browser, &keygate, &axe, name).await;
    }
    browser.open(&format!("{}/console/keys/new", keygate.admin)).await;
    browser.fill("#name", "A new key").await;
    browser.fill("#actor_id", "acme").await;
    browser.fill("#ttl", "1000y").await;
    browser.press("Issue the key").await;
    browser.find("#form-error").await;
    check(&browser, &keygate, &axe, "issue-error").await;
    browser.fill("#ttl", "30d").await;
    browser.press("Issue the key").await;
    browser.find("#secret-text").await;
    check(&browser, &keygate, &axe, "secret").await;
    browser.open(&format!("{}/console/explain?key_id={key}", keygate.admin)).await;
    browser.fill("#url", "/orders/1").await;
    browser.click("main form .primary").await;
    browser.find(".steps").await;
    check(&browser, &keygate, &axe, "explained").await;
    browser.open(&format!("{}/console/keys/{key}/edit", keygate.admin)).await;
    browser.fill("#name", "Another name").await;
    browser.press("Review the changes").await;
    browser.find("table.diff").await;
    check(&browser, &keygate, &axe, "review").await;
    browser.quit().await;
}

/// Checks a page in every theme and at every width, and takes pictures if they are asked for.
async fn check(browser: &WebDriver, keygate: &Keygate, axe: &str, name: &str) {
    let folder = std::env::var_os("KEYGATE_SCREENSHOTS").map(PathBuf::from);
    for (size, width, height) in SIZES {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        browser.devtools("Emulation.setDeviceMetricsOverride", metrics).await;
        for theme in THEMES {
            let what = format!("{name} {theme} {size}");
            let media = json!({"features": [{"name": "prefers-color-scheme", "value": theme}]});
            browser.devtools("Emulation.setEmulatedMedia", media).await;
            assert_accessible(browser, axe, &what).await;
            let script = "const root = document.documentElement; return root.scrollWidth - root.clientWidth";
            assert_eq!(browser.run(script, json!([])).await, 0, "{what}: the page is wider than the window");
            if let Some(folder) = folder.as_ref().filter(|_| PICTURED.contains(&name)) {
                let file = folder.join(format!("{name}-{theme}-{size}.png"));
                std::fs::write(file, browser.screenshot().await).unwrap();
            }
        }
    }
    assert_own(browser, keygate, name).await;
}
