//! One table of requests through every front of Keygate, with real servers: each front authorizes alike.

mod check;
mod credentials;
mod document;
mod fixture;
mod front;
mod http;
mod layer;
mod peers;
mod row;
mod table;

use std::sync::Arc;

use keygate_test_servers::check_document;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use check::{Sent, differences};
use credentials::{Credentials, Kind, State};
use fixture::Fixture;
use front::{Front, GATEWAY, Listener};
use layer::LAYER;
use peers::{CADDY, ENVOY_GRPC, ENVOY_HTTP, NGINX};
use row::Row;

use crate::support::listeners::{ListenerKind, Protocol};
use crate::support::wait::wait_for_count;

/// How many rows are sent at once.
const CONCURRENCY: usize = 16;

/// Sends all rows through a front and reports each one that differs. A front that cannot be had is skipped.
async fn conforms<F: Front>(credentials: Credentials, front: Option<F>) {
    let Some(front) = front.map(Arc::new) else { return };
    let credentials = Arc::new(credentials);
    let slots = Arc::new(Semaphore::new(CONCURRENCY));
    let mut tasks = JoinSet::new();
    for (number, row) in table::rows().into_iter().enumerate() {
        let (front, credentials, slots) = (Arc::clone(&front), Arc::clone(&credentials), Arc::clone(&slots));
        tasks.spawn(async move {
            let _slot = slots.acquire().await.unwrap();
            (number, report(&*front, &row, number, &credentials).await)
        });
    }
    let mut reports = tasks.join_all().await;
    reports.sort_unstable();
    let differing: Vec<_> = reports.iter().filter_map(|(_, report)| report.as_deref()).collect();
    let (name, count, all) = (front.description().name, differing.len(), reports.len());
    assert!(differing.is_empty(), "{name}: {count} of {all} rows differ\n{}", differing.join("\n"));
}

/// Sends the requests of a row; the differences of the last one, if there are any.
async fn report<F: Front>(front: &F, row: &Row, number: usize, credentials: &Credentials) -> Option<String> {
    let mut found = Vec::new();
    for time in 0..row.preceding {
        let marker = format!("row={number}.{time}.");
        let request = row.request(credentials, &marker, &format!("row-{number}-{time}"));
        let answer = front.send(&request, &marker).await;
        if answer.response.status != 200 || answer.forwarded.is_none() {
            found.push(format!("request {time} was not forwarded: {answer:?}"));
        }
    }
    let (marker, request_id) = (format!("row={number}.last."), format!("row-{number}"));
    let request = row.request(credentials, &marker, &request_id);
    let answer = front.send(&request, &marker).await;
    let credential = row.credential.map(|credential| &credentials[&credential]);
    let sent = Sent { row, request: &request, request_id: &request_id, credential, answer: &answer };
    found.extend(differences(&sent, front.description()));
    (!found.is_empty()).then(|| format!("{}\n    {}", row.title(), found.join("\n    ")))
}

/// Revokes keys through the admin API: each is forwarded before and rejected by the very next request.
async fn revokes<F: Front>(fixture: &Fixture, front: Option<F>) {
    let Some(front) = front else { return };
    for number in 0..10 {
        let (key_id, text) = fixture.keygate.issue(json!({"scopes": ["read:orders"]})).await;
        let credential = credentials::Credential { text, key_id: key_id.clone(), scopes: &["read:orders"] };
        let credentials = Credentials::from([((Kind::Issued, State::Valid), credential)]);
        let row = Row::get("/orders").bearer(Kind::Issued, State::Valid);
        for (row, is_revoked) in
            [(row.clone(), false), (row.clone(), false), (row.rejected("credential_revoked"), true)]
        {
            if is_revoked {
                fixture.keygate.revoke(&key_id).await;
            }
            let marker = format!("key={number}.{is_revoked}.");
            let answer = front.send(&row.request(&credentials, &marker, "revocation"), &marker).await;
            assert_eq!(answer.response.status, if is_revoked { 401 } else { 200 }, "{answer:?}");
            assert_eq!(answer.forwarded.is_some(), !is_revoked, "{answer:?}");
        }
    }
}

/// The two tests of a front.
macro_rules! front_tests {
    ($($name:ident: $start:expr;)*) => {$(
        mod $name {
            use super::*;

            #[tokio::test]
            async fn conforms_to_the_table() {
                let fixture = Fixture::start();
                let start: fn(&Fixture) -> Option<_> = $start;
                let credentials = credentials::make(&fixture.keygate).await;
                conforms(credentials, start(&fixture)).await;
            }

            #[tokio::test]
            async fn rejects_a_key_on_the_next_request_after_its_revocation() {
                let fixture = Fixture::start();
                let start: fn(&Fixture) -> Option<_> = $start;
                revokes(&fixture, start(&fixture)).await;
            }
        }
    )*};
}

front_tests! {
    gateway: |fixture| Some(Listener::gateway(fixture, ListenerKind::Tcp, Protocol::Http1));
    gateway_tls: |fixture| Some(Listener::gateway(fixture, ListenerKind::Tls, Protocol::Http1));
    gateway_unix_socket_behind_proxy: |fixture| Some(Listener::gateway(fixture, ListenerKind::UnixBehindProxy, Protocol::Http1));
    gateway_http2: |fixture| Some(Listener::gateway(fixture, ListenerKind::Tcp, Protocol::Http2));
    gateway_http2_tls: |fixture| Some(Listener::gateway(fixture, ListenerKind::Tls, Protocol::Http2));
    gateway_http2_tls_behind_proxy: |fixture| Some(Listener::gateway(fixture, ListenerKind::TlsBehindProxy, Protocol::Http2));
    nginx: |fixture| NGINX.start(fixture);
    caddy: |fixture| CADDY.start(fixture);
    envoy_http: |fixture| ENVOY_HTTP.start(fixture);
    envoy_grpc: |fixture| ENVOY_GRPC.start(fixture);
}

/// That a revocation reaches the layer is tested with its examples: it is made by another process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tower_layer_conforms_to_the_table() {
    let fixture = Fixture::shared();
    let credentials = credentials::make(&fixture.keygate).await;
    conforms(credentials, Some(layer::start(&fixture).await)).await;
}

#[tokio::test]
async fn peers_reject_every_request_while_keygate_does_not_answer() {
    let mut fixture = Fixture::start();
    let (key_id, text) = fixture.keygate.issue(json!({})).await;
    let credential = credentials::Credential { text, key_id, scopes: &[] };
    let credentials = Credentials::from([((Kind::Issued, State::Valid), credential)]);
    let valid = Row::get("/required").bearer(Kind::Issued, State::Valid);
    let peers: Vec<_> = [&NGINX, &CADDY, &ENVOY_HTTP, &ENVOY_GRPC]
        .into_iter()
        .filter_map(|peer| Some((peer, peer.start(&fixture)?)))
        .collect();
    let mut number = 0;
    for keygate_answers in [true, false] {
        if !keygate_answers {
            fixture.keygate.process.kill();
        }
        for (peer, front) in &peers {
            for row in [&valid, &Row::get("/open")] {
                number += 1;
                let marker = format!("request={number}.");
                let answer = front.send(&row.request(&credentials, &marker, "down"), &marker).await;
                let status = if keygate_answers { 200 } else { peer.status_without_keygate };
                assert_eq!(answer.response.status, status, "{}: {answer:?}", peer.description.name);
                assert_eq!(answer.forwarded.is_some(), keygate_answers, "{}: {answer:?}", peer.description.name);
            }
        }
    }
}

/// Caddy may set up a connection for a check that leads to the upstream (docs/external-auth.md). A later check must not be sent on it.
#[tokio::test]
async fn caddy_keeps_no_connection_between_checks() {
    let fixture = Fixture::start();
    let Some(front) = CADDY.start(&fixture) else { return };
    for number in 0..3 {
        let marker = format!("request={number}.");
        let request = Row::get("/open").request(&Credentials::new(), &marker, "kept");
        assert_eq!(front.send(&request, &marker).await.response.status, 200);
    }
    for state in ["pending", "active", "idle"] {
        let open = format!(r#"keygate_connections{{listener="external_auth",state="{state}"}}"#);
        wait_for_count(&fixture.keygate, &open, 0).await;
    }
}

#[test]
fn table_has_no_row_twice() {
    let mut titles: Vec<_> = table::rows().iter().map(Row::title).collect();
    assert!(titles.len() >= 60, "{} rows", titles.len());
    titles.sort_unstable();
    assert_eq!(titles.windows(2).find(|pair| pair[0] == pair[1]), None);
}

#[test]
fn generated_document_is_that_of_the_table() {
    let fronts =
        [&GATEWAY, &LAYER, &NGINX.description, &CADDY.description, &ENVOY_HTTP.description, &ENVOY_GRPC.description];
    let document = document::document(&table::rows(), &fronts);
    println!("{document}");
    check_document("docs/conformance.md", &document);
}
