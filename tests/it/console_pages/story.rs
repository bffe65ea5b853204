//! The whole story without a script, by a plain HTTP client: sign in, issue, call the gateway, see the use, rotate with an overlap, revoke,
//! see the refusal explained, find it all in the audit trail, sign out.

use serde_json::json;

use super::assert_shown;
use super::visitor::Visitor;
use crate::support::keygate::Keygate;
use crate::support::upstream::Upstream;
use crate::support::wait::wait_for;

/// The bootstrap key of the server.
pub(super) const BOOTSTRAP: &str = "a-bootstrap-key-for-tests-0123456789abcdef";

/// A gateway in front of an upstream, which writes usage and last uses often.
pub(super) fn serve(upstream: &Upstream) -> Keygate {
    let gateway = json!({
        "routes": [{"name": "orders", "path_prefix": "/orders", "upstream": "api"}],
        "upstreams": {"api": {"endpoints": [upstream.url]}},
    });
    let settings = json!({
        "serve": {"http": {"auth": {"bootstrap_key": BOOTSTRAP}}},
        "usage": {"flush_interval": "100ms"},
        "last_used": {"flush_interval": "100ms"},
    });
    let mut keygate = Keygate::serve(&gateway, &settings);
    keygate.admin_key = BOOTSTRAP.into();
    keygate
}

#[tokio::test]
async fn whole_story_without_a_script() {
    let upstream = Upstream::start();
    let keygate = serve(&upstream);
    let mut visitor = Visitor::signed_in(&keygate, BOOTSTRAP).await;

    let form = visitor.get("/console/keys/new").await;
    let fields = [("name", "Orders of Acme"), ("actor_id", "acme"), ("ttl", "30d"), ("scopes", "orders:read")];
    let page = visitor.submit(&form, "/console/keys/new", &fields).await;
    let old_secret = page.text("secret-text");
    let old_page = page.link("I have stored it");

    assert_eq!(keygate.call("/orders/1", &old_secret).await.status(), 200);
    let used = wait_for(async || match visitor.get(&old_page).await {
        page if page.html.contains("1 request, 0 refused") && page.html.contains(">today</time>") => Ok(page),
        page => Err(page.html),
    });
    let page = used.await;
    assert!(page.html.contains("class=\"accepted\"") && page.html.contains("orders:read"), "{}", page.html);

    let form = visitor.get(&page.link("Rotate")).await;
    assert_shown(&form, "The old secret was last used: <time");
    let rotate = form.path.clone();
    let page = visitor.submit(&form, &rotate, &[("overlap", "1h")]).await;
    let (new_secret, new_page) = (page.text("secret-text"), page.link("I have stored it"));
    assert_ne!(new_secret, old_secret);
    for secret in [&old_secret, &new_secret] {
        assert_eq!(keygate.call("/orders/1", secret).await.status(), 200, "both are accepted");
    }
    let page = visitor.get(&old_page).await;
    assert_shown(&page, "A rotation replaced this key by");
    assert!(page.html.contains("Its secret is accepted until <time"), "{}", page.html);
    let page = visitor.get(&new_page).await;
    assert_eq!(page.link(old_page.rsplit('/').next().unwrap()), old_page, "the new key names the one that it replaces");

    for key in [&old_page, &new_page] {
        let page = visitor.get(key).await;
        let form = visitor.get(&page.link("Revoke")).await;
        let reason = [("reason", "REVOCATION_REASON_KEY_COMPROMISE")];
        let page = visitor.submit(&form, "/console/keys/revoke", &reason).await;
        assert_shown(&page, "The key is revoked");
        assert!(page.html.contains("the secret is known to others"), "{}", page.html);
    }
    assert_eq!(keygate.call("/orders/1", &new_secret).await.status(), 401);

    let form = visitor.get("/console/explain").await;
    let fields = [("credential", &*new_secret), ("method", "GET"), ("url", "/orders/1")];
    let page = visitor.submit(&form, "/console/explain", &fields).await;
    assert_shown(&page, "Refused");
    assert!(page.html.contains("401") && page.html.contains("credential_revoked"), "{}", page.html);

    let page = visitor.get("/console/audit?actor_id=acme").await;
    for words in ["Key issued<", "Key issued by a rotation<", "Key changed<", "Key revoked<"] {
        assert!(page.html.contains(words), "{words}: {}", page.html);
    }
    assert!(page.html.contains("<code>admin:bootstrap</code>"), "{}", page.html);
    let export = visitor.get("/console/audit/export?actor_id=acme").await;
    assert_eq!(export.headers["content-type"], "application/x-ndjson");
    assert!(export.html.lines().count() >= 4, "{}", export.html);
    for line in export.html.lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(event["actor_id"], "acme");
    }

    let page = visitor.submit(&page, "/console/sign-out", &[]).await;
    assert_shown(&page, "You have signed out");
    assert!(visitor.get(&new_page).await.path.starts_with("/console/sign-in"));
}
