//! Streams end with their keys, on every node.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use keygate_test_servers::Postgres;
use serde_json::{Value, json};
use tonic::Code;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Message, WebSocket};

use super::grpc_service::{Call, GrpcUpstream, Hop};
use super::stream_upstream::StreamUpstream;
use super::{connect, echo, get, live, logged, open_socket, rest};
use crate::support::keygate::Keygate;
use crate::support::wait::{is_machine_quiet, wait_for};

/// How long after the end of its key a stream may go on.
const BOUND: Duration = Duration::from_secs(1);
/// The same while other programs use the processors.
const BOUND_ON_BUSY_MACHINE: Duration = Duration::from_secs(10);

/// Two nodes on one PostgreSQL.
struct Nodes {
    admin: Keygate,
    gateway: Keygate,
    upstream: StreamUpstream,
    _grpc: GrpcUpstream,
    _postgres: Postgres,
}

/// A stream of each kind with one key.
struct Streams {
    socket: WebSocket<TcpStream>,
    events: TcpStream,
    call: Call,
}

impl Nodes {
    async fn start() -> Self {
        let (postgres, upstream, grpc) = (Postgres::start(), StreamUpstream::start(), GrpcUpstream::start().await);
        let gateway = json!({
            "shutdown_grace": "1s",
            "routes": [
                {"name": "api", "upstream": "api", "scopes": []},
                {"name": "kept", "path_prefix": "/kept", "upstream": "api", "on_revoke": "keep"},
                {"name": "grpc", "path_prefix": "/test.Echo", "upstream": "grpc"}
            ],
            "upstreams": {
                "api": {"endpoints": [upstream.url]},
                "grpc": {"endpoints": [grpc.url], "protocol": "http2"}
            }
        });
        let settings = json!({
            "db": {"dsn": format!("{}?acquire_timeout=10s", postgres.url("postgres")), "auto_migrate": true}
        });
        let [admin, gateway] = [(), ()].map(|()| Keygate::serve(&gateway, &settings));
        Self { admin, gateway, upstream, _grpc: grpc, _postgres: postgres }
    }

    /// Opens streams at the node that is not the one whose admin API is used.
    async fn open(&self, credential: &str) -> Streams {
        let url = &self.gateway.gateway;
        wait_for(async || match self.gateway.call("/", credential).await.status().as_u16() {
            200 => Ok(()),
            status => Err(format!("the node answers {status}")),
        })
        .await;
        let mut socket = open_socket(connect(url), "/socket", credential).unwrap();
        echo(&mut socket, "hello");
        let mut events = connect(url);
        get(&mut events, "/events", credential, "data: 1\n\n\r\n");
        let mut call = Call::open(&Hop::tcp(url), credential).await;
        call.echo("hello").await;
        Streams { socket, events, call }
    }

    async fn bound() -> Duration {
        if is_machine_quiet().await { BOUND } else { BOUND_ON_BUSY_MACHINE }
    }
}

impl Streams {
    /// Waits for the end of all streams, and checks that each ends as its protocol says.
    async fn end(mut self, reason: &str) {
        let Message::Close(Some(close)) = self.socket.read().unwrap() else { panic!("no close frame") };
        assert_eq!((close.code, close.reason.as_str()), (CloseCode::Policy, reason));
        assert_eq!(rest(&mut self.events), "0\r\n\r\n", "the body is complete");
        let status = self.call.end().await;
        assert_eq!(status.code(), Code::Cancelled, "{status}");
    }

    /// Checks that all streams go on.
    async fn go_on(&mut self) {
        echo(&mut self.socket, "still there");
        self.call.echo("still there").await;
        self.events.set_nonblocking(true).unwrap();
        let peeked = self.events.peek(&mut [0]);
        assert_eq!(peeked.unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "nothing arrives");
        self.events.set_nonblocking(false).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_end_within_a_second_of_the_revocation_on_another_node() {
    let mut nodes = Nodes::start().await;
    let (id, key) = nodes.admin.issue(json!({})).await;
    let (_, other) = nodes.admin.issue(json!({})).await;
    let mut others = nodes.open(&other).await;
    let streams = nodes.open(&key).await;
    assert_eq!(live(&nodes.gateway).await, 6);
    let (bound, open) = (Nodes::bound().await, nodes.upstream.open());
    nodes.admin.revoke(&id).await;
    let revoked = Instant::now();
    streams.end("credential_revoked").await;
    let after = revoked.elapsed();
    println!("all streams ended {after:?} after the revocation");
    assert!(after < bound, "{after:?}");
    others.go_on().await;
    wait_for(async || match live(&nodes.gateway).await {
        3 => Ok(()),
        live => Err(format!("{live} streams are live")),
    })
    .await;
    let ended = nodes.gateway.count("keygate_live_streams_ended_total{reason=\"credential_revoked\"}").await;
    assert_eq!(ended, Some(3));
    nodes.upstream.has_open(open - 2).await;
    let log = nodes.gateway.whole_log();
    let revoked = |status| (status, "credential_revoked".to_owned(), false);
    for (path, status) in [("/socket", 101), ("/events", 200), ("/test.Echo", 200)] {
        assert!(logged(&log, path).contains(&revoked(status)), "{path}: {:?}", logged(&log, path));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_end_with_the_deletion_or_rotation_of_their_key_and_not_with_its_update() {
    let nodes = Nodes::start().await;
    let id = nodes.admin.import(json!({"raw_key": "sk_live_streams"})).await;
    let streams = nodes.open("sk_live_streams").await;
    assert_eq!(nodes.admin.send(&format!("DELETE /v2alpha1/admin/importedApiKeys/{id}"), "").await.status, 204);
    streams.end("credential_invalid").await;

    let (id, key) = nodes.admin.issue(json!({})).await;
    let mut streams = nodes.open(&key).await;
    let path = format!("/v2alpha1/admin/issuedApiKeys/{id}?update_mask=metadata");
    let updated = nodes.admin.send_json(&format!("PATCH {path}"), &json!({"metadata": {"team": "a"}})).await;
    assert_eq!(updated.status, 200);
    // The node has applied the update when it has applied a later change.
    let (_, later) = nodes.admin.issue(json!({})).await;
    wait_for(async || match nodes.gateway.call("/", &later).await.status().as_u16() {
        200 => Ok(()),
        status => Err(format!("the node answers {status}")),
    })
    .await;
    streams.go_on().await;
    let rotated: Value =
        nodes.admin.post(&format!("issuedApiKeys/{id}:rotate"), &json!({})).await.json().await.unwrap();
    assert!(rotated["secret"].is_string(), "{rotated}");
    streams.end("credential_revoked").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_a_token_end_with_its_parent() {
    let nodes = Nodes::start().await;
    let (id, key) = nodes.admin.issue(json!({})).await;
    let request = json!({"credential": key, "algorithm": "TOKEN_ALGORITHM_MACAROON"});
    let token = nodes.admin.send_json("POST /v2alpha1/admin/apiKeys:derive", &request).await.text("/token/token");
    let streams = nodes.open(&token).await;
    nodes.admin.revoke(&id).await;
    streams.end("credential_revoked").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_end_when_their_credential_expires() {
    let nodes = Nodes::start().await;
    let (_, key) = nodes.admin.issue(json!({})).await;
    let request = json!({"credential": key, "algorithm": "TOKEN_ALGORITHM_MACAROON", "ttl": "3s"});
    let begun = Instant::now();
    let token = nodes.admin.send_json("POST /v2alpha1/admin/apiKeys:derive", &request).await.text("/token/token");
    let derived = Instant::now();
    let streams = nodes.open(&token).await;
    let bound = Nodes::bound().await;
    streams.end("credential_expired").await;
    // The expiry of a token has whole seconds.
    assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
    assert!(derived.elapsed() < Duration::from_secs(3) + bound, "{:?}", derived.elapsed());

    let begun = Instant::now();
    let (_, key) = nodes.admin.issue(json!({"ttl": "3s"})).await;
    let issued = Instant::now();
    let streams = nodes.open(&key).await;
    streams.end("credential_expired").await;
    assert!(begun.elapsed() >= Duration::from_secs(3), "{:?}", begun.elapsed());
    assert!(issued.elapsed() < Duration::from_secs(3) + bound, "{:?}", issued.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn route_can_keep_streams_of_revoked_keys() {
    let nodes = Nodes::start().await;
    let (id, key) = nodes.admin.issue(json!({})).await;
    let mut streams = nodes.open(&key).await;
    let mut kept = open_socket(connect(&nodes.gateway.gateway), "/kept/socket", &key).unwrap();
    echo(&mut kept, "hello");
    streams.go_on().await;
    nodes.admin.revoke(&id).await;
    streams.end("credential_revoked").await;
    echo(&mut kept, "still there");
    assert_eq!(live(&nodes.gateway).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_within_a_frame_is_closed_without_another_frame() {
    let nodes = Nodes::start().await;
    let (id, key) = nodes.admin.issue(json!({})).await;
    nodes.open(&key).await;
    let mut socket = connect(&nodes.gateway.gateway);
    let upgrade = "/half-frame HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\nX-Rest:";
    get(&mut socket, upgrade, &key, "\x0aabc");
    nodes.admin.revoke(&id).await;
    assert_eq!(rest(&mut socket), "");
}
