//! The audit trail.

use std::sync::Arc;

use serde_json::{Value, json};

use super::fixtures::{OTHER, audit_keys, compromise, context, context_of, issued, key, long_ago, system};
use crate::audit::{Anchor, AuditEvent, AuditRow, ChainHead, ChainVerification, Heads, Recorder, to_json};
use crate::clock::SystemClock;
use crate::id::{KeyId, TenantId};
use crate::key::ApiKey;
use crate::request_context::{ActorScope, Administrator, Principal, RequestContext};
use crate::store::{AuditQuery, AuditStore, Inserted, KeyStore, Unsealed};

const IMPORTED: KeyId = KeyId::Imported([3; 32]);

fn trail(store: &Arc<dyn KeyStore>) -> Arc<dyn AuditStore> {
    Arc::clone(store).audit().unwrap()
}

/// All rows, the oldest first.
async fn rows(store: &Arc<dyn KeyStore>, tenant: TenantId) -> Vec<AuditRow> {
    let query = AuditQuery { ascending: true, ..AuditQuery::new(tenant, 1000) };
    trail(store).audit_page(&query).await.unwrap()
}

fn recorder() -> Recorder {
    Recorder::new(audit_keys(), Arc::new(SystemClock))
}

/// Seals the rows as a process with this name; returns the rows and the new end of the chain.
async fn seal(store: &Arc<dyn KeyStore>, head: &ChainHead, writer: &str, limit: u32) -> (Vec<AuditRow>, ChainHead) {
    let mut next = head.clone();
    let mut plan = |rows: &[AuditRow]| {
        let (head, plan) = head.seal(&audit_keys(), rows);
        next = head;
        plan
    };
    let selection = Unsealed { writer, orphaned: long_ago(0), limit };
    let sealed = trail(store).seal(&selection, &mut plan).await.unwrap();
    (sealed, next)
}

pub(super) async fn every_write_leaves_a_row_with_what_it_changed(store: Arc<dyn KeyStore>) {
    let first = key(issued(1));
    store.insert(&context(), &first, None).await.unwrap();
    store.insert_many(&context(), &[key(IMPORTED), first.clone()]).await.unwrap();
    let renamed = ApiKey { name: "renamed".into(), version: 2, ..first.clone() };
    store.replace(&context(), &renamed, &first).await.unwrap();
    store.rotate(&context(), &renamed, &key(issued(2)), long_ago(5), None).await.unwrap().unwrap();
    store.revoke(&context(), issued(2), &compromise(), long_ago(6)).await.unwrap();
    store.delete(&context(), IMPORTED, long_ago(7)).await.unwrap();
    store.insert(&context(), &ApiKey { expire_time: Some(long_ago(0)), ..key(issued(3)) }, None).await.unwrap();
    store.purge(&system(), long_ago(1), 10).await.unwrap();

    let rows = rows(&store, TenantId::NIL).await;
    // The rows of one write have no order among them.
    let mut found: Vec<_> = rows
        .iter()
        .map(|row| {
            let row = to_json(row);
            (row["event"].as_str().unwrap().to_owned(), row["key_id"].clone(), row)
        })
        .collect();
    found.sort_by_key(|(event, id, _)| (event.clone(), id.to_string()));
    let events: Vec<_> = found.iter().map(|(event, id, _)| (event.as_str(), id.as_str().unwrap())).collect();
    let [one, two, three] = [1, 2, 3].map(|number| issued(number).to_string());
    let imported = IMPORTED.to_string();
    let expected = [
        ("ImportedAPIKeyCreated", &*imported),
        ("ImportedAPIKeyDeleted", &*imported),
        ("IssuedAPIKeyCreated", &*one),
        ("IssuedAPIKeyCreated", &*three),
        ("IssuedAPIKeyPurged", &*three),
        ("IssuedAPIKeyRevoked", &*one),
        ("IssuedAPIKeyRevoked", &*two),
        ("IssuedAPIKeyRotated", &*two),
        ("IssuedAPIKeyUpdated", &*one),
    ];
    assert_eq!(events, expected);
    let of = |event: &str, id: &str| {
        let found = found.iter().find(|(name, key, _)| name == event && key == id);
        found.map(|(_, _, row)| row.clone()).unwrap()
    };
    let created = of("IssuedAPIKeyCreated", &one);
    assert_eq!(created["after"]["name"], first.name);
    assert_eq!(created["after"]["metadata"], Value::Object(first.metadata.clone()));
    assert_eq!((&created["before"], &created["actor_id"]), (&Value::Null, &json!("actor")));
    let updated = of("IssuedAPIKeyUpdated", &one);
    assert_eq!(updated["before"], json!({"name": first.name}));
    assert_eq!(updated["after"], json!({"name": "renamed"}));
    let rotated = of("IssuedAPIKeyRotated", &two);
    assert_eq!(rotated["details"]["old_key_id"], *one);
    let replaced = of("IssuedAPIKeyRevoked", &one);
    assert_eq!(
        (&replaced["details"]["replaced_by"], &replaced["after"]["status"]),
        (&json!(two), &json!("KEY_STATUS_REVOKED"))
    );
    let revoked = of("IssuedAPIKeyRevoked", &two);
    assert_eq!(revoked["before"]["status"], "KEY_STATUS_ACTIVE");
    assert_eq!(revoked["after"]["revocation_reason"], "REVOCATION_REASON_KEY_COMPROMISE");
    assert_eq!(of("ImportedAPIKeyDeleted", &imported)["before"]["actor_id"], "actor");
    assert_eq!(of("IssuedAPIKeyPurged", &three)["principal"], "system");
    assert!(rows.iter().all(|row| audit_keys().is_row(row) && row.seal.is_none()), "{rows:?}");
}

pub(super) async fn a_rotation_with_an_overlap_changes_the_old_key(store: Arc<dyn KeyStore>) {
    store.insert(&context(), &key(issued(1)), None).await.unwrap();
    let end = long_ago(3600);
    store.rotate(&context(), &key(issued(1)), &key(issued(2)), long_ago(0), Some(end)).await.unwrap().unwrap();
    store.revoke(&context(), issued(1), &compromise(), long_ago(5)).await.unwrap();
    let query =
        AuditQuery { key_id: Some(issued(1).to_string()), ascending: true, ..AuditQuery::new(TenantId::NIL, 10) };
    let rows = trail(&store).audit_page(&query).await.unwrap();
    let rows: Vec<_> = rows.iter().map(to_json).collect();
    let events: Vec<_> = rows.iter().map(|row| row["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["IssuedAPIKeyCreated", "IssuedAPIKeyUpdated", "IssuedAPIKeyRevoked"]);
    let time = end.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true);
    assert_eq!(rows[1]["after"], json!({"revoke_time": time, "replaced_by": issued(2).to_string()}));
    assert_eq!((&rows[2]["before"]["revoke_time"], &rows[2]["after"]["revoke_time"]), (&json!(time), &Value::Null));
}

pub(super) async fn a_write_that_changes_nothing_leaves_no_row(store: Arc<dyn KeyStore>) {
    store.insert(&context(), &key(issued(1)), Some("r")).await.unwrap();
    store.revoke(&context(), issued(1), &compromise(), long_ago(1)).await.unwrap();
    let before = rows(&store, TenantId::NIL).await;
    assert_eq!(before.len(), 2);
    assert_eq!(store.insert(&context(), &key(issued(1)), None).await.unwrap(), Inserted::Exists);
    assert!(matches!(store.insert(&context(), &key(issued(2)), Some("r")).await.unwrap(), Inserted::Replay(_)));
    store.insert_many(&context(), &[key(issued(1))]).await.unwrap();
    assert!(!store.replace(&context(), &key(issued(1)), &key(issued(1))).await.unwrap());
    store.revoke(&context(), issued(1), &compromise(), long_ago(1)).await.unwrap();
    store.revoke(&context(), issued(9), &compromise(), long_ago(1)).await.unwrap();
    assert_eq!(store.rotate(&context(), &key(issued(1)), &key(issued(2)), long_ago(1), None).await.unwrap(), None);
    assert_eq!(store.delete(&context(), IMPORTED, long_ago(1)).await.unwrap(), None);
    store.record_last_used(&context(), &[(TenantId::NIL, issued(1))], long_ago(1)).await.unwrap();
    store.purge(&system(), long_ago(-1_000_000_000), 10).await.unwrap();
    assert_eq!(rows(&store, TenantId::NIL).await, before);
}

pub(super) async fn a_row_names_who_made_the_request(store: Arc<dyn KeyStore>) {
    let tenant = OTHER;
    let context = RequestContext { client_ip: "192.0.2.7".parse().ok(), ..context_of(tenant) };
    let holder = context.clone().with_principal(Principal::Key(issued(1)));
    store.insert(&context, &ApiKey { tenant, ..key(issued(1)) }, None).await.unwrap();
    store.revoke(&holder, issued(1), &compromise(), long_ago(1)).await.unwrap();
    assert_eq!(rows(&store, TenantId::NIL).await, []);
    let rows = rows(&store, tenant).await;
    let who = |row: &AuditRow| (row.principal.clone(), row.client_ip.clone(), row.request_id.clone());
    let expected = |context: &RequestContext| {
        (context.principal.name().into_owned(), Some("192.0.2.7".to_owned()), context.request_id.to_string())
    };
    assert_eq!(rows.iter().map(who).collect::<Vec<_>>(), [expected(&context), expected(&holder)]);
    assert_eq!(to_json(&rows[1])["details"]["initiated_by"], "self");
}

pub(super) async fn audit_pages_return_every_row_once_in_both_orders(store: Arc<dyn KeyStore>) {
    let keys: Vec<_> = (1..=25).map(|number| key(issued(number))).collect();
    store.insert_many(&context(), &keys).await.unwrap();
    let all: Vec<_> = rows(&store, TenantId::NIL).await.into_iter().map(|row| row.id).collect();
    assert_eq!(all.len(), 25);
    for ascending in [true, false] {
        let (mut after, mut listed) = (None, Vec::new());
        loop {
            let query = AuditQuery { ascending, after: after.clone(), ..AuditQuery::new(TenantId::NIL, 10) };
            let page = trail(&store).audit_page(&query).await.unwrap();
            let Some(last) = page.last() else { break };
            after = Some(last.id.clone());
            listed.extend(page.into_iter().map(|row| row.id));
        }
        if !ascending {
            listed.reverse();
        }
        assert_eq!(listed, all);
    }
}

pub(super) async fn audit_filters_select_rows(store: Arc<dyn KeyStore>) {
    let other = ApiKey { actor_id: "other".into(), ..key(issued(2)) };
    store.insert_many(&context(), &[key(issued(1)), other]).await.unwrap();
    let admin = context().with_principal(Principal::Admin(Administrator::new("root", ["manage", "read"])));
    store.revoke(&admin, issued(2), &compromise(), long_ago(1)).await.unwrap();
    trail(&store).record(&[recorder().checkpoint(TenantId::NIL, &json!([]))]).await.unwrap();
    let all = rows(&store, TenantId::NIL).await;
    let time = all.last().unwrap().time;
    let micro = chrono::TimeDelta::microseconds(1);
    let query = || AuditQuery::new(TenantId::NIL, 10);
    for (query, expected) in [
        (query(), 3),
        (AuditQuery { events: AuditEvent::named("revoke"), ..query() }, 1),
        (AuditQuery { events: AuditEvent::named("checkpoint"), ..query() }, 1),
        (AuditQuery { key_id: Some(issued(2).to_string()), ..query() }, 2),
        (AuditQuery { actor_id: Some("actor".into()), ..query() }, 1),
        (AuditQuery { principal: Some("admin:root".into()), ..query() }, 1),
        (AuditQuery { principal: Some("admin:root' OR '1'='1".into()), ..query() }, 0),
        (AuditQuery { from: Some(time), ..query() }, 1),
        (AuditQuery { from: Some(time + micro), ..query() }, 0),
        (AuditQuery { to: Some(time), ..query() }, 2),
        (AuditQuery { to: Some(time + micro), from: Some(all[0].time), ..query() }, 3),
        (AuditQuery { limit: 2, ..query() }, 2),
        (AuditQuery { tenants: vec![OTHER], ..query() }, 0),
        (AuditQuery { tenants: vec![OTHER, TenantId::NIL], ..query() }, 3),
        (AuditQuery { actors: ActorScope::of_prefixes(["oth"]), ..query() }, 2),
        (AuditQuery { actors: ActorScope::of_prefixes(["x", "act"]), ..query() }, 1),
        (AuditQuery { actors: ActorScope::of_prefixes(["o"]), events: AuditEvent::named("checkpoint"), ..query() }, 0),
    ] {
        let page = trail(&store).audit_page(&query).await.unwrap();
        assert_eq!(page.len(), expected, "{query:?}");
    }
}

pub(super) async fn rows_are_sealed_once_by_concurrent_sealers(store: Arc<dyn KeyStore>) {
    let keys: Vec<_> = (1..=300).map(|number| key(issued(number))).collect();
    store.insert_many(&context(), &keys).await.unwrap();
    let writer = rows(&store, TenantId::NIL).await[0].writer.clone();
    let sealers = (0..4).map(|_| {
        let (store, writer) = (Arc::clone(&store), writer.clone());
        tokio::spawn(async move {
            let (mut head, mut total) = (ChainHead::start(), 0);
            loop {
                let (sealed, next) = seal(&store, &head, &writer, 20).await;
                (head, total) = (next, total + sealed.len());
                if sealed.is_empty() && trail(&store).unsealed("", 1).await.unwrap().is_empty() {
                    return total;
                }
            }
        })
    });
    let mut total = 0;
    for sealer in sealers.collect::<Vec<_>>() {
        total += sealer.await.unwrap();
    }
    assert_eq!(total, 300);
    let keys = audit_keys();
    let records = trail(&store).chains(None, 10).await.unwrap();
    assert_eq!(records.iter().map(|record| record.seq).sum::<i64>(), 300);
    for record in records {
        let chain = record.chain.clone();
        let mut verification = ChainVerification::new(&keys, &chain, Some(record), &Heads::default());
        for row in trail(&store).chain_rows(&chain, 0, 1000).await.unwrap() {
            verification.add(&row);
        }
        assert_eq!(verification.finish(), []);
    }
}

pub(super) async fn rows_of_an_ended_process_are_sealed_by_another_one(store: Arc<dyn KeyStore>) {
    store.insert(&context(), &key(issued(1)), None).await.unwrap();
    let other = recorder();
    let (sealed, head) = seal(&store, &ChainHead::start(), other.writer(), 10).await;
    assert_eq!(sealed, [], "the process may still run");
    let selection =
        Unsealed { writer: other.writer(), orphaned: other.now() + chrono::TimeDelta::seconds(1), limit: 10 };
    let mut plan = |rows: &[AuditRow]| head.seal(&audit_keys(), rows).1;
    let sealed = trail(&store).seal(&selection, &mut plan).await.unwrap();
    assert_eq!(sealed.len(), 1);
    assert_eq!(rows(&store, TenantId::NIL).await, sealed);
}

pub(super) async fn rows_with_a_wrong_code_are_never_sealed(store: Arc<dyn KeyStore>) {
    let recorder = recorder();
    let row = recorder.created(&context(), &key(issued(1)));
    let forged = AuditRow { principal: "admin:other".into(), id: uuid::Uuid::nil().to_string(), ..row.clone() };
    trail(&store).record(&[row, forged.clone()]).await.unwrap();
    let head = ChainHead::start();
    let (sealed, head) = seal(&store, &head, recorder.writer(), 10).await;
    assert_eq!(sealed.len(), 1);
    let unsealed = trail(&store).unsealed("", 10).await.unwrap();
    assert_eq!(unsealed, [forged]);
    assert!(!audit_keys().is_row(&unsealed[0]));
    let next = recorder.created(&context(), &key(issued(2)));
    trail(&store).record(&[next]).await.unwrap();
    let (sealed, _) = seal(&store, &head, recorder.writer(), 1).await;
    assert_eq!(
        sealed[0].seal.as_ref().map(|seal| seal.seq),
        Some(2),
        "a forged row does not keep others from being sealed"
    );
}

pub(super) async fn a_chain_verifies_after_its_first_rows_were_removed(store: Arc<dyn KeyStore>) {
    let keys: Vec<_> = (1..=5).map(|number| key(issued(number))).collect();
    store.insert_many(&context(), &keys).await.unwrap();
    let writer = rows(&store, TenantId::NIL).await[0].writer.clone();
    let (sealed, _) = seal(&store, &ChainHead::start(), &writer, 10).await;
    let third = sealed[2].seal.clone().unwrap();
    let (keys, trail) = (audit_keys(), trail(&store));
    let anchor = Anchor::new(&keys, &third.chain, 3, &third.code);
    trail.prune_chain(&third.chain, &anchor, 7).await.unwrap();
    assert_eq!(trail.chain_rows(&third.chain, 0, 10).await.unwrap().len(), 5, "the anchor was another one");
    trail.prune_chain(&third.chain, &anchor, 0).await.unwrap();
    let left = trail.chain_rows(&third.chain, 0, 10).await.unwrap();
    assert_eq!(left, sealed[3..]);
    let record = trail.chains(None, 10).await.unwrap().pop().unwrap();
    assert_eq!((record.seq, &record.anchor), (5, &anchor));
    let mut verification = ChainVerification::new(&keys, &third.chain, Some(record), &Heads::default());
    for row in &left {
        verification.add(row);
    }
    assert_eq!(verification.finish(), []);
}
