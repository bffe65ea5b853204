//! What the pages of keys show and do.

use serde_json::json;

use super::assert_shown;
use super::visitor::Visitor;
use crate::admin_auth::serve;
use crate::support::wait::wait_for;

#[tokio::test]
async fn search_finds_names_actors_and_ids_and_inactive_keys_are_shown_on_demand() {
    let keygate = serve(&json!({}));
    let (id, _) = keygate.issue(json!({"name": "Billing", "actor_id": "acme"})).await;
    keygate.issue(json!({"name": "Export", "actor_id": "Billing team", "scopes": ["read"]})).await;
    let (revoked, _) = keygate.issue(json!({"name": "Old"})).await;
    keygate.revoke(&revoked).await;
    let mut visitor = Visitor::signed_in(&keygate, &keygate.admin_key).await;
    for (query, shown) in [
        ("", &["Billing", "Export"][..]),
        ("q=Bill", &["Billing", "Export"]),
        ("q=Bill&in=name", &["Billing"]),
        ("q=acme", &["Billing"]),
        (&format!("q={}", &id[..13]), &["Billing"]),
        ("scope=read", &["Export"]),
        ("status=revoked", &["Old"]),
        ("status=all", &["Billing", "Export", "Old"]),
        ("use=never&kind=issued", &["Billing", "Export"]),
        ("expires=1", &[]),
        ("kind=imported", &[]),
    ] {
        let page = visitor.get(&format!("/console/keys?{query}")).await;
        assert_eq!(page.status, 200);
        for name in ["Billing", "Export", "Old"] {
            assert_eq!(
                page.html.contains(&format!(">{name}</a>")),
                shown.contains(&name),
                "{query} {name}: {}",
                page.html
            );
        }
    }
    let page = visitor.get("/console/keys").await;
    let page = visitor.get(&page.link("Show inactive (1)")).await;
    assert_shown(&page, ">Old</a>");
    let page = visitor.get(&format!("/console/keys?q={}", "x".repeat(300))).await;
    assert!(page.status == 422 && page.html.contains("role=\"alert\""), "{}", page.html);
}

#[tokio::test]
async fn inactive_keys_are_counted_under_the_filters_of_the_list() {
    let keygate = serve(&json!({}));
    keygate.issue(json!({"name": "active", "actor_id": "acme"})).await;
    // More than a page of the API has.
    for number in 0..120 {
        let name = if number < 7 { "Billing" } else { "export" };
        let actor = if number < 11 { "Billing team" } else { "acme" };
        let scopes = if number == 0 { json!(["read"]) } else { json!([]) };
        let (id, _) = keygate.issue(json!({"name": name, "actor_id": actor, "scopes": scopes})).await;
        keygate.revoke(&id).await;
    }
    let imported = keygate.import(json!({"name": "Bill", "raw_key": "raw key", "ttl": "1s"})).await;
    let mut visitor = Visitor::signed_in(&keygate, &keygate.admin_key).await;
    let has_expired = async || {
        let key = keygate.send(&format!("GET /v2alpha1/admin/importedApiKeys/{imported}"), "").await;
        if key.text("/status") == "KEY_STATUS_EXPIRED" { Ok(()) } else { Err(key.body.to_string()) }
    };
    wait_for(has_expired).await;
    for (query, count) in [
        ("", 121),
        ("kind=issued", 120),
        ("kind=imported", 1),
        ("q=Bill", 12),
        ("q=Billing", 11),
        ("q=Bill&in=name", 8),
        ("q=Bill&in=actor", 11),
        (&format!("q={}", &imported[..9]), 1),
        (&format!("q={}&in=id", &imported[..9]), 1),
        ("scope=read", 1),
        ("use=never", 121),
        ("use=never&scope=read&q=Bill", 1),
        ("expires=1", 1),
        ("expires=91", 121),
    ] {
        let page = visitor.get(&format!("/console/keys?{query}")).await;
        let link = page.link(&format!("Show inactive ({count})"));
        let page = visitor.get(&link).await;
        assert_eq!(page.status, 200, "{query}");
        assert!(!page.html.contains("Show inactive"), "{query}: {}", page.html);
    }
    for query in ["q=none", "scope=none", "kind=imported&q=Billing", "use=30", "status=revoked", "status=all"] {
        let page = visitor.get(&format!("/console/keys?{query}")).await;
        assert!(page.status == 200 && !page.html.contains("Show inactive"), "{query}: {}", page.html);
    }
    let (_, bound) = keygate.admin_key(json!({"roles": ["read"], "actors": ["acme"]})).await;
    let mut visitor = Visitor::signed_in(&keygate, &bound).await;
    visitor.get("/console/keys").await.link("Show inactive (109)");
    visitor.get("/console/keys?q=export").await.link("Show inactive (109)");
}

#[tokio::test]
async fn list_goes_on_page_by_page() {
    let keygate = serve(&json!({}));
    for number in 0..60 {
        keygate.issue(json!({"name": format!("key-{number:02}")})).await;
    }
    let mut visitor = Visitor::signed_in(&keygate, &keygate.admin_key).await;
    let first = visitor.get("/console/keys?in=name&q=key").await;
    let second = visitor.get(&first.link("Next page")).await;
    let names = |html: &str| html.split(">key-").skip(1).map(|rest| rest[..2].to_owned()).collect::<Vec<_>>();
    let mut all = names(&first.html);
    assert_eq!(all.len(), 50);
    all.extend(names(&second.html));
    assert_eq!(all, (0..60).map(|number| format!("{number:02}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn edit_shows_the_difference_before_it_saves() {
    let keygate = serve(&json!({}));
    let (id, _) = keygate.issue(json!({"name": "before", "scopes": ["a"]})).await;
    let mut visitor = Visitor::signed_in(&keygate, &keygate.admin_key).await;
    let edit = format!("/console/keys/{id}/edit");
    let form = visitor.get(&edit).await;
    let fields = [("name", "after"), ("scopes", "a\r\nb"), ("quota", "5"), ("window", "60"), ("networks", "10.1.2.3")];
    let review = visitor.submit(&form, &edit, &[&fields[..], &[("step", "review")]].concat()).await;
    assert_shown(&review, "Review the changes");
    for text in ["class=\"before\">before<", "class=\"after\">after<", "class=\"after\">a\nb<", "10.1.2.3"] {
        assert!(review.html.contains(text), "{text}: {}", review.html);
    }
    let stored = keygate.send(&format!("GET /v2alpha1/admin/issuedApiKeys/{id}"), "").await;
    assert_eq!(stored.text("/name"), "before");
    let saved = visitor.submit(&review, &edit, &[("step", "save")]).await;
    assert_shown(&saved, "The changes are saved");
    let stored = keygate.send(&format!("GET /v2alpha1/admin/issuedApiKeys/{id}"), "").await.body;
    assert_eq!((&stored["name"], &stored["scopes"]), (&json!("after"), &json!(["a", "b"])));
    assert_eq!(stored["rate_limit_policy"]["quota"], "5");
    assert_eq!(stored["ip_restriction"]["allowed_cidrs"], json!(["10.1.2.3/32"]));
    // The first comparison is outdated now.
    let again = visitor.submit(&review, &edit, &[("step", "save")]).await;
    assert_shown(&again, "has changed the key since");
    for (field, value, message) in [
        ("metadata", "{", "not valid JSON"),
        ("quota", "0", "greater than 0"),
        ("networks", "10.0.0.0/99", "10.0.0.0/99"),
    ] {
        let form = visitor.get(&edit).await;
        let page =
            visitor.submit(&form, &edit, &[("name", "x"), ("window", "60"), (field, value), ("step", "save")]).await;
        assert!(page.html.contains(message), "{field}: {}", page.html);
    }
}

#[tokio::test]
async fn form_that_is_sent_twice_issues_one_key_and_shows_its_secret_once() {
    let keygate = serve(&json!({}));
    let mut visitor = Visitor::signed_in(&keygate, &keygate.admin_key).await;
    let form = visitor.get("/console/keys/new?template=ci").await;
    let fields = [("name", "CI"), ("actor_id", "a"), ("ttl", "30d")];
    let first = visitor.submit(&form, "/console/keys/new", &fields).await;
    assert!(first.text("secret-text").starts_with("ory_ak_"));
    // The id is not on the page as a text that could be copied instead.
    let id = first.link("I have stored it").rsplit('/').next().unwrap().to_owned();
    assert_eq!(first.html.matches(&id).count(), 1, "{}", first.html);
    let second = visitor.submit(&form, "/console/keys/new", &fields).await;
    assert_shown(&second, "The secret was shown before");
    assert_eq!(keygate.list("issued", "").await.len(), 1);
    let refused =
        visitor.submit(&form, "/console/keys/new", &[("name", "kept"), ("actor_id", "a"), ("ttl", "x")]).await;
    assert!(refused.status == 422 && refused.html.contains("value=\"kept\""), "{}", refused.html);
}

#[tokio::test]
async fn selected_keys_are_revoked_after_a_preview() {
    let keygate = serve(&json!({}));
    let mut ids = Vec::new();
    for name in ["one", "two", "three"] {
        ids.push(keygate.issue(json!({"name": name})).await.0);
    }
    let mut visitor = Visitor::signed_in(&keygate, &keygate.admin_key).await;
    let preview = visitor.get(&format!("/console/keys/revoke?id={}&id={}", ids[0], ids[1])).await;
    assert_shown(&preview, "Revoke 2 keys");
    assert!(preview.html.contains(">one<") && !preview.html.contains(">three<"), "{}", preview.html);
    let reason = [("reason", "REVOCATION_REASON_PRIVILEGE_WITHDRAWN"), ("description", "contract has ended")];
    let done = visitor.submit(&preview, "/console/keys/revoke", &reason).await;
    assert_shown(&done, "2 keys are revoked");
    let key = visitor.get(&format!("/console/keys/{}", ids[0])).await;
    assert_shown(&key, "the permission is withdrawn: contract has ended");
    assert_eq!(visitor.get("/console/keys/revoke").await.status, 422);
}

#[tokio::test]
async fn file_is_imported_with_a_result_for_each_row() {
    let keygate = serve(&json!({}));
    let mut visitor = Visitor::signed_in(&keygate, &keygate.admin_key).await;
    let csv = "name,actor_id,raw_key,scopes\r\nfirst,a,raw-key-of-another-system,x y\r\n,a,raw-key-without-a-name,\r\n";
    let form = visitor.get("/console/import").await;
    let page = visitor.upload(&form, "/console/import", ("file", csv)).await;
    assert_shown(&page, "1 of 2 keys are imported, 1 are not");
    assert!(!page.html.contains("raw-key-of") && page.html.contains("Name must have"), "{}", page.html);
    let form = visitor.get("/console/import").await;
    let page = visitor.upload(&form, "/console/import", ("file", csv)).await;
    assert_shown(&page, "0 of 2 keys are imported");
    assert!(page.html.contains("already imported"), "{}", page.html);
    let list = visitor.get("/console/keys?kind=imported").await;
    let page = visitor.get(&list.link("first")).await;
    let delete = format!("{}/delete", page.path);
    assert_eq!(visitor.submit(&page, &delete, &[]).await.status, 422, "it is not confirmed");
    let page = visitor.submit(&page, &delete, &[("sure", "yes")]).await;
    assert_shown(&page, "The key is deleted");
}

#[tokio::test]
async fn token_is_derived_from_the_secret() {
    let keygate = serve(&json!({}));
    let (id, secret) = keygate.issue(json!({"scopes": ["a"]})).await;
    let mut visitor = Visitor::signed_in(&keygate, &keygate.admin_key).await;
    let derive = format!("/console/keys/{id}/derive");
    let form = visitor.get(&derive).await;
    let fields = [("credential", &*secret), ("algorithm", "TOKEN_ALGORITHM_JWT"), ("ttl", "5m")];
    let page = visitor.submit(&form, &derive, &fields).await;
    assert!(page.text("secret-text").starts_with("eyJ"), "{}", page.html);
    let page = visitor.submit(&form, &derive, &[("credential", "wrong")]).await;
    assert!(page.status == 422 && page.html.contains("role=\"alert\""), "{}", page.html);
}
