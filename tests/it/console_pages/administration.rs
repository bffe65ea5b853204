//! Admin keys, configuration, routes, audit filters and the overview.

use serde_json::json;

use super::assert_shown;
use super::story::serve;
use super::visitor::Visitor;
use crate::support::upstream::Upstream;
use crate::support::wait::wait_for;

#[tokio::test]
async fn admin_keys_are_created_rotated_and_revoked() {
    let upstream = Upstream::start();
    let keygate = serve(&upstream);
    let mut visitor = Visitor::signed_in(&keygate, &keygate.admin_key).await;
    assert_shown(&visitor.get("/console/admin-keys").await, "remove the bootstrap key");
    let new = "/console/admin-keys/new";
    let form = visitor.get(new).await;
    let refused = visitor.submit(&form, new, &[("name", "Ana")]).await;
    assert!(refused.status == 422 && refused.html.contains("at least one of read"), "{}", refused.html);
    let fields = [("name", "Ana"), ("role", "read"), ("role", "admin"), ("actors", "team-a/"), ("ttl", "1d")];
    let secret = visitor.submit(&form, new, &fields).await.text("secret-text");

    let mut ana = Visitor::signed_in(&keygate, &secret).await;
    let list = ana.get("/console/admin-keys").await;
    assert_shown(&list, "this session");
    let form = ana.get(new).await;
    assert!(!form.html.contains("value=\"manage\""), "only roles of its own: {}", form.html);
    let refused = ana.submit(&form, new, &[("name", "x"), ("role", "manage"), ("actors", "team-a/")]).await;
    assert!(refused.status == 422 && refused.html.contains("lacks the role manage"), "{}", refused.html);

    let id = list.html.split("/console/admin-keys/").find(|rest| rest.contains("/rotate")).unwrap()[..36].to_owned();
    let rotate = format!("/console/admin-keys/{id}/rotate");
    let form = ana.get(&rotate).await;
    assert_shown(&form, "the key of this session");
    let rotated = ana.submit(&form, &rotate, &[]).await.text("secret-text");
    assert_eq!(ana.get("/console/").await.path, "/console/sign-in?why=ended");
    Visitor::signed_in(&keygate, &rotated).await;

    let list = visitor.get("/console/admin-keys").await;
    let id = list.html.split("/console/admin-keys/").find(|rest| rest.contains("/rotate")).unwrap()[..36].to_owned();
    let revoke = format!("/console/admin-keys/{id}/revoke");
    let form = visitor.get(&revoke).await;
    let done = visitor.submit(&form, &revoke, &[]).await;
    assert_shown(&done, "The key is revoked");
    let refused = keygate.send_as(&rotated, "GET /keygate/v1/caller", "").await;
    assert_eq!(refused.status, 401);
}

#[tokio::test]
async fn configuration_is_shown_without_secrets_and_routes_with_their_health() {
    let upstream = Upstream::start();
    let keygate = serve(&upstream);
    let mut visitor = Visitor::signed_in(&keygate, &keygate.admin_key).await;
    // The file is compared with what is in effect from time to time.
    let compared = wait_for(async || match visitor.get("/console/configuration").await {
        page if page.html.contains("as in the file") => Ok(page),
        page => Err(page.html),
    });
    let page = compared.await;
    assert_shown(&page, "usage.flush_interval");
    assert!(page.html.contains("[REDACTED]") && page.html.contains("keygate.json"), "{}", page.html);
    assert!(!page.html.contains(&keygate.admin_key) && !page.html.contains("cache.ttl"), "{}", page.html);
    assert_shown(&visitor.get("/console/configuration?all=yes&q=cache.ttl").await, "cache.ttl");
    let page = visitor.get("/console/routes").await;
    assert_shown(&page, "<code>/orders</code>");
    assert!(page.html.contains("healthy") && page.html.contains(">required<"), "{}", page.html);
}

#[tokio::test]
async fn overview_counts_requests_and_refusals_of_this_node() {
    let upstream = Upstream::start();
    let keygate = serve(&upstream);
    let (_, key) = keygate.issue(json!({})).await;
    for secret in [&key, &key, "wrong"] {
        keygate.call("/orders", secret).await;
    }
    let mut visitor = Visitor::signed_in(&keygate, &keygate.admin_key).await;
    let counted = wait_for(async || match visitor.get("/console/").await {
        page if page.html.contains("3 in all") && page.html.contains("<td class=\"number\">2</td>") => Ok(page),
        page => Err(page.html),
    });
    let page = counted.await;
    for text in ["credential_invalid", "1 in all", "This node", "Database: ok", "api: 1 of 1 available"] {
        assert!(page.html.contains(text), "{text}: {}", page.html);
    }
}

#[tokio::test]
async fn audit_trail_is_filtered_and_goes_on_page_by_page() {
    let upstream = Upstream::start();
    let keygate = serve(&upstream);
    let (id, _) = keygate.issue(json!({"name": "first", "actor_id": "one"})).await;
    for _ in 0..55 {
        keygate.issue(json!({"actor_id": "two"})).await;
    }
    let mut visitor = Visitor::signed_in(&keygate, &keygate.admin_key).await;
    let page = visitor.get(&format!("/console/audit?key_id={id}&operation=issue")).await;
    assert_shown(&page, "1 events");
    assert!(page.html.contains("class=\"after\">first<"), "{}", page.html);
    let page = visitor.get("/console/audit?actor_id=two").await;
    assert_shown(&page, "50 events");
    assert_shown(&visitor.get(&page.link("Older events")).await, "5 events");
    assert_shown(&visitor.get("/console/audit?from=2020-01-01&to=2020-01-02").await, "No event matches");
    let page = visitor.get("/console/audit?from=yesterday").await;
    assert!(page.status == 422 && page.html.contains("must be an RFC 3339 time"), "{}", page.html);
}
