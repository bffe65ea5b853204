//! The attacks of other web sites, forms without the token, markup in names, secrets in logs.

use serde_json::json;

use super::visitor::Visitor;
use super::{PAGES, assert_shown};
use crate::admin_auth::serve;

/// Markup that runs a script if it is not escaped.
const MARKUP: &str = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>";

#[tokio::test]
async fn request_of_another_site_is_refused() {
    let keygate = serve(&json!({}));
    let mut visitor = Visitor::signed_in(&keygate, &keygate.admin_key).await;
    let page = visitor.get("/console/keys/new").await;
    let mut fields = page.hidden_fields("/console/keys/new");
    fields.extend([("name", "n"), ("actor_id", "a")].map(|(name, value)| (name.into(), value.into())));
    let body = fields.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&");
    let own = keygate.admin.as_str();
    for (headers, status) in [
        (&[("origin", "https://evil.test")][..], 403),
        (&[("origin", "null")], 403),
        (&[("sec-fetch-site", "cross-site")], 403),
        (&[("sec-fetch-site", "same-site")], 403),
        (&[("origin", own), ("sec-fetch-site", "cross-site")], 403),
        (&[("origin", own), ("sec-fetch-site", "same-origin")], 200),
    ] {
        let mut request = visitor.request("POST /console/keys/new").body(body.clone());
        request = request.header("content-type", "application/x-www-form-urlencoded");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        assert_eq!(request.send().await.unwrap().status(), status, "{headers:?}");
    }
    let page = visitor.get("/console/keys").await;
    assert_eq!(page.html.matches("data-label=\"Actor\">a<").count(), 1, "{}", page.html);
}

#[tokio::test]
async fn origins_of_cors_may_not_use_the_console() {
    let cors = json!({"enabled": true, "allowed_origins": ["https://app.test"], "allow_credentials": true});
    let keygate = serve(&json!({"serve": {"http": {"cors": cors}}}));
    let visitor = Visitor::signed_in(&keygate, &keygate.admin_key).await;
    let request = visitor.request("GET /console/keys").header("origin", "https://app.test");
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 403);
    assert!(!response.headers().contains_key("access-control-allow-origin"));
}

#[tokio::test]
async fn link_of_another_site_opens_the_page_in_a_second_step() {
    let keygate = serve(&json!({}));
    let visitor = Visitor::signed_in(&keygate, &keygate.admin_key).await;
    let request = visitor.request("GET /console/keys?q=%22%3E%3Cb%3E").header("sec-fetch-site", "cross-site");
    let request = request.header("sec-fetch-mode", "navigate").header("sec-fetch-dest", "document");
    let page = request.send().await.unwrap().text().await.unwrap();
    assert!(page.contains("content=\"0;url=/console/keys?q=%22%3E%3Cb%3E\"") && !page.contains("Search"), "{page}");
    let framed = visitor.request("GET /console/keys").header("sec-fetch-site", "cross-site");
    let framed = framed.header("sec-fetch-mode", "navigate").header("sec-fetch-dest", "iframe");
    assert_eq!(framed.send().await.unwrap().status(), 403);
}

#[tokio::test]
async fn form_without_the_token_of_the_session_changes_nothing() {
    let keygate = serve(&json!({}));
    let (id, _) = keygate.issue(json!({})).await;
    let mut visitor = Visitor::signed_in(&keygate, &keygate.admin_key).await;
    let mut other = Visitor::signed_in(&keygate, &keygate.admin_key).await;
    let foreign = other.get("/console/").await.hidden_fields("/console/sign-out");
    for token in [vec![], vec![("token".to_owned(), String::new())], foreign] {
        for action in [
            "/console/keys/new",
            "/console/keys/revoke",
            "/console/import",
            "/console/explain",
            "/console/sign-out",
            &format!("/console/keys/{id}/edit"),
            &format!("/console/keys/{id}/rotate"),
            &format!("/console/keys/{id}/derive"),
            &format!("/console/keys/{id}/delete"),
        ] {
            let mut fields = token.clone();
            fields.extend([("id", &*id), ("name", "n"), ("actor_id", "a")].map(|(a, b)| (a.into(), b.into())));
            let page = visitor.post(action, &fields).await;
            assert_eq!(page.status, 403, "{action}: {}", page.html);
            assert!(page.html.contains("This form has expired"), "{}", page.html);
        }
    }
    let keys = keygate.list("issued", "").await;
    assert!(keys.len() == 1 && keys[0]["status"] == "KEY_STATUS_ACTIVE", "{keys:?}");
}

#[tokio::test]
async fn pages_have_a_strict_policy_and_load_nothing_from_elsewhere() {
    let keygate = serve(&json!({}));
    let (id, _) = keygate.issue(json!({})).await;
    let mut visitor = Visitor::signed_in(&keygate, &keygate.admin_key).await;
    for path in PAGES.map(str::to_owned).into_iter().chain([format!("/console/keys/{id}"), "/console/none".into()]) {
        let page = visitor.get(&path).await;
        let header = |name: &str| page.headers[name].to_str().unwrap();
        let policy = header("content-security-policy");
        assert!(
            policy.starts_with("default-src 'none';") && !policy.contains("unsafe") && !policy.contains('*'),
            "{policy}"
        );
        assert_eq!((header("cache-control"), header("referrer-policy")), ("no-store", "same-origin"));
        assert_eq!((header("x-frame-options"), header("x-content-type-options")), ("DENY", "nosniff"));
        for inline in
            ["<style", " style=", "<script>", " onclick=", " onload=", "javascript:", "src=\"http", "href=\"http"]
        {
            assert!(!page.html.contains(inline), "{path}: {inline}");
        }
    }
}

#[tokio::test]
async fn first_page_is_small_and_its_files_are_kept_by_browsers() {
    let keygate = serve(&json!({}));
    let mut visitor = Visitor::signed_in(&keygate, &keygate.admin_key).await;
    let page = visitor.get("/console/").await;
    let mut size = page.html.len();
    let files: Vec<_> = page.html.split('"').filter(|text| text.starts_with("/console/assets/")).collect();
    assert!(files.len() >= 3, "{files:?}");
    let mut seen = std::collections::BTreeSet::new();
    for file in files.into_iter().filter(|file| seen.insert(*file)) {
        let response = visitor.request(&format!("GET {file}")).send().await.unwrap();
        assert_eq!(response.status(), 200, "{file}");
        assert_eq!(response.headers()["cache-control"], "public, max-age=31536000, immutable");
        assert!(!response.headers().contains_key("set-cookie"));
        size += response.text().await.unwrap().len();
    }
    assert!(size <= 60 * 1024, "the first page has {size} bytes");
    assert_eq!(visitor.get("/console/assets/console.0000000000000000.css").await.status, 404);
}

#[tokio::test]
async fn markup_in_names_is_shown_as_text() {
    let keygate = serve(&json!({}));
    let fields = json!({"name": MARKUP, "actor_id": MARKUP, "scopes": [MARKUP], "metadata": {MARKUP: MARKUP}});
    let (id, _) = keygate.issue(fields).await;
    let mut visitor = Visitor::signed_in(&keygate, &keygate.admin_key).await;
    let query = "q=%3Cscript%3Ealert(1)%3C%2Fscript%3E";
    for path in [
        "/console/keys".to_owned(),
        format!("/console/keys?{query}&scope=%3Cscript%3Ealert(1)"),
        format!("/console/keys/{id}"),
        format!("/console/keys/{id}/edit"),
        format!("/console/keys/{id}/rotate"),
        format!("/console/keys/{id}/derive"),
        format!("/console/keys/revoke?id={id}"),
        format!("/console/keys/new?like={id}"),
        "/console/explain?key_id=%3Cscript%3Ealert(1)".to_owned(),
    ] {
        let page = visitor.get(&path).await;
        assert_shown(&page, "alert(1)");
        assert!(!page.html.contains("<script>alert") && !page.html.contains("<img src=x"), "{path}: {}", page.html);
    }
}

#[tokio::test]
async fn secrets_are_neither_in_a_log_nor_in_a_url() {
    let mut keygate = serve(&json!({"log": {"level": "debug"}}));
    let (_, admin_key) = keygate.admin_key(json!({"roles": ["read", "verify", "manage"]})).await;
    let mut visitor = Visitor::signed_in(&keygate, &admin_key).await;
    let form = visitor.get("/console/keys/new").await;
    let page = visitor.submit(&form, "/console/keys/new", &[("name", "n"), ("actor_id", "a")]).await;
    let secret = page.text("secret-text");
    assert!(secret.starts_with("ory_ak_"), "{secret}");
    assert_eq!(page.path, "/console/keys/new");
    let form = visitor.get("/console/explain").await;
    let page = visitor.submit(&form, "/console/explain", &[("credential", &secret), ("url", "/x")]).await;
    assert!(page.status == 200 && !page.html.contains(&secret), "{}", page.html);
    // A person may paste a secret where a key id belongs.
    assert_eq!(visitor.get(&format!("/console/keys/{secret}")).await.status, 404);
    assert_eq!(visitor.get(&format!("/console/keys/{secret}/edit")).await.status, 404);
    let cookie = visitor.cookie.split_once('=').unwrap().1.to_owned();
    let log = keygate.whole_log();
    assert!(log.contains("/console/keys/new"), "{log}");
    for text in [&secret, &admin_key, &cookie] {
        assert!(!log.contains(text.as_str()), "{log}");
    }
}
