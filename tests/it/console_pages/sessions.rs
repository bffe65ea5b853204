//! Signing in, roles, and the end of sessions.

use serde_json::json;

use super::visitor::Visitor;
use super::{PAGES, assert_shown};
use crate::admin_auth::serve;
use crate::support::keygate::Keygate;

#[tokio::test]
async fn console_is_served_only_with_authentication_and_if_it_is_enabled() {
    for (settings, is_served) in [
        (json!({}), true),
        (json!({"serve": {"http": {"console": {"enabled": false}}}}), false),
        (json!({"serve": {"http": {"auth": {"mode": "none", "bootstrap_key": null}}}}), false),
    ] {
        let keygate = serve(&settings);
        for path in ["/console", "/console/", "/console/sign-in", "/console/keys"] {
            let status = Visitor::new(&keygate).request(&format!("GET {path}")).send().await.unwrap().status();
            assert_eq!(status != 404, is_served, "{settings} {path} {status}");
        }
    }
}

#[tokio::test]
async fn pages_without_a_session_lead_to_the_sign_in_and_back() {
    let keygate = serve(&json!({}));
    for path in PAGES {
        let mut visitor = Visitor::new(&keygate);
        let form = visitor.get(path).await;
        assert_shown(&form, "Admin key");
        let page = visitor.submit(&form, "/console/sign-in", &[("admin_key", &keygate.admin_key)]).await;
        assert_eq!((page.status, page.path.as_str()), (200, path));
    }
}

#[tokio::test]
async fn wrong_key_is_not_accepted_and_not_shown_again() {
    let keygate = serve(&json!({}));
    let (_, ordinary) = keygate.issue(json!({})).await;
    for key in ["", "wrong-key-that-is-not-repeated", &ordinary, &"x".repeat(2000)] {
        let mut visitor = Visitor::new(&keygate);
        let form = visitor.get("/console/sign-in").await;
        let page = visitor.submit(&form, "/console/sign-in", &[("admin_key", key)]).await;
        assert_eq!(page.status, 422, "{key}: {}", page.html);
        assert!(page.html.contains("role=\"alert\"") && (key.is_empty() || !page.html.contains(key)), "{}", page.html);
        assert!(visitor.get("/console/keys").await.path.starts_with("/console/sign-in?"));
    }
}

#[tokio::test]
async fn session_ends_with_the_key_at_once() {
    let keygate = serve(&json!({}));
    for verb in ["revoke", "rotate"] {
        let (id, key) = keygate.admin_key(json!({"roles": ["read"]})).await;
        let mut visitor = Visitor::signed_in(&keygate, &key).await;
        assert_shown(&visitor.get("/console/keys").await, "No active keys yet");
        let ended = keygate.send(&format!("POST /keygate/v1/adminKeys/{id}:{verb}"), "{}").await;
        assert!(ended.status < 300, "{ended:?}");
        let page = visitor.get("/console/keys").await;
        assert_eq!(page.path, "/console/sign-in?why=ended");
        assert_shown(&page, "The session has ended");
    }
}

#[tokio::test]
async fn sign_out_removes_the_cookie() {
    let keygate = serve(&json!({}));
    let mut visitor = Visitor::signed_in(&keygate, &keygate.admin_key).await;
    let page = visitor.get("/console/").await;
    let page = visitor.submit(&page, "/console/sign-out", &[]).await;
    assert_shown(&page, "You have signed out");
    assert!(visitor.get("/console/").await.path.starts_with("/console/sign-in"));
}

#[tokio::test]
async fn role_sees_no_control_that_it_may_not_use_and_the_server_refuses_it() {
    let keygate = serve(&json!({}));
    let (id, _) = keygate.issue(json!({})).await;
    let (_, reader) = keygate.admin_key(json!({"roles": ["read"]})).await;
    let mut visitor = Visitor::signed_in(&keygate, &reader).await;
    let page = visitor.get(&format!("/console/keys/{id}")).await;
    assert_shown(&page, "Audit trail");
    for control in ["Rotate", "Edit", "Revoke", "Derive a token", "/console/admin-keys", "/console/explain"] {
        assert!(!page.html.contains(control), "{control}: {}", page.html);
    }
    let token = page.hidden_fields("/console/sign-out");
    for action in [
        "/console/keys/new".to_owned(),
        format!("/console/keys/{id}/rotate"),
        format!("/console/keys/revoke?id={id}"),
        "/console/explain".to_owned(),
    ] {
        let mut fields = token.clone();
        fields.extend(
            [("id", &*id), ("name", "n"), ("actor_id", "a"), ("key_id", &*id)].map(|(a, b)| (a.into(), b.into())),
        );
        let refused = visitor.post(&action, &fields).await;
        assert_eq!(refused.status, 403, "{action}: {}", refused.html);
        assert!(refused.html.contains("lacks the role"), "{}", refused.html);
    }
    let (_, verifier) = keygate.admin_key(json!({"roles": ["verify"]})).await;
    let mut visitor = Visitor::signed_in(&keygate, &verifier).await;
    assert_shown(&visitor.get("/console/").await, "does not have the role");
    assert_eq!(visitor.get(&format!("/console/keys/{id}")).await.status, 403);
}

#[tokio::test]
async fn admin_key_of_some_actors_sees_no_other_keys() {
    let keygate = serve(&json!({}));
    let (id, _) = keygate.issue(json!({"name": "of another actor", "actor_id": "team-b/x"})).await;
    let (_, key) = keygate.admin_key(json!({"roles": ["read", "manage"], "actors": ["team-a/"]})).await;
    let mut visitor = Visitor::signed_in(&keygate, &key).await;
    assert!(!visitor.get("/console/keys").await.html.contains("of another actor"));
    assert_eq!(visitor.get(&format!("/console/keys/{id}")).await.status, 404);
}

#[tokio::test]
async fn dev_serves_the_console() {
    let keygate = Keygate::dev(&[]);
    let mut visitor = Visitor::signed_in(&keygate, &keygate.admin_key).await;
    assert_shown(&visitor.get("/console/keys").await, "Demonstration key");
}
