//! Stops and upgrades in the middle of a constant load over HTTP/2.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use h2::{Reason, client};
use http::Request;
use keygate_test_servers::{WAIT_TIMEOUT, eventually};
use serde_json::json;
use tokio::net::TcpStream;

use super::gateway;
use super::upgrade::{has_ended, upgrade};
use crate::support::keygate::Keygate;
use crate::support::upstream::Upstream;
use crate::support::wait::wait_for;

const CONNECTIONS: usize = 8;
/// Concurrent requests of a connection.
const STREAMS: usize = 4;
const REQUESTS: usize = 500;

/// What the clients share.
#[derive(Default)]
pub(super) struct Load {
    pub(super) count: AtomicUsize,
    /// Whether they are to end. Until then it is a failure if no server accepts connections.
    pub(super) is_over: AtomicBool,
    pub(super) kind: Kind,
}

/// What the clients send.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    #[default]
    Get,
    /// Calls of `/test.Echo/Unary` with an empty message.
    Grpc,
}

impl Kind {
    fn request(self) -> Request<()> {
        match self {
            Self::Get => Request::get("http://localhost/a").body(()).unwrap(),
            Self::Grpc => {
                let call = Request::post("http://localhost/test.Echo/Unary").header("te", "trailers");
                call.header("content-type", "application/grpc").body(()).unwrap()
            }
        }
    }

    fn body(self) -> Option<Bytes> {
        (self == Self::Grpc).then(|| Bytes::from_static(&[0; 5]))
    }
}

impl Load {
    /// Connects again after GOAWAY, and sends no request a second time.
    pub(super) async fn client(self: Arc<Self>, address: String) -> Result<(), String> {
        loop {
            let stream = match TcpStream::connect(&address).await {
                Ok(stream) => stream,
                Err(error) if error.kind() == ErrorKind::ConnectionRefused && self.is_over() => return Ok(()),
                Err(error) => return Err(format!("connect: {error}")),
            };
            // A server that stops may close a connection on which nothing was requested.
            let Ok((send, connection)) = client::handshake(stream).await else { continue };
            let driver = tokio::spawn(connection);
            let streams: Vec<_> =
                (0..STREAMS).map(|_| tokio::spawn(Arc::clone(&self).requests(send.clone()))).collect();
            drop(send);
            for stream in streams {
                stream.await.map_err(|error| error.to_string())??;
            }
            drop(driver);
        }
    }

    /// Sends requests until the connection takes no more.
    async fn requests(self: Arc<Self>, mut send: client::SendRequest<Bytes>) -> Result<(), String> {
        loop {
            let Ok(mut ready) = send.ready().await else { return Ok(()) };
            let request_body = self.kind.body();
            // The connection may have got GOAWAY since it was ready; the request was not sent then.
            let begun = ready.send_request(self.kind.request(), request_body.is_none());
            let Ok((response, mut stream)) = begun else { return Ok(()) };
            if let Some(data) = request_body {
                // Its error is that of the response.
                let _ = stream.send_data(data, true);
            }
            let response = match response.await {
                Ok(response) => response,
                // It was sent after the last stream of GOAWAY, and is not processed (RFC 9113 section 6.8); the end of the test checks that.
                Err(error) if error.is_go_away() && error.reason() == Some(Reason::NO_ERROR) => return Ok(()),
                Err(error) => return Err(format!("response: {error}")),
            };
            let (head, mut body) = response.into_parts();
            while let Some(data) = body.data().await {
                let data = data.map_err(|error| format!("body: {error}"))?;
                let _ = body.flow_control().release_capacity(data.len());
            }
            let trailers = body.trailers().await.map_err(|error| format!("trailers: {error}"))?;
            let grpc_status = trailers.as_ref().unwrap_or(&head.headers).get("grpc-status");
            let is_grpc_ok = self.kind == Kind::Get || grpc_status.is_some_and(|status| status == "0");
            if head.status != 200 || !is_grpc_ok {
                return Err(format!("{head:?}, {trailers:?}"));
            }
            self.count.fetch_add(1, Ordering::Relaxed);
            send = ready;
        }
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    async fn more(&self) {
        let before = self.count.load(Ordering::Relaxed);
        wait_for(async || match self.count.load(Ordering::Relaxed) - before {
            REQUESTS.. => Ok(()),
            requests => Err(format!("{requests} requests")),
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_over_http2_fails_through_upgrades_and_a_stop() {
    let upstream = Upstream::start();
    let mut keygate = Keygate::serve(&gateway(&upstream), &json!({"serve": {"shutdown_idle_timeout": "5s"}}));
    let load = Arc::new(Load::default());
    let address = keygate.gateway.trim_start_matches("http://").to_owned();
    let clients: Vec<_> = (0..CONNECTIONS).map(|_| tokio::spawn(Arc::clone(&load).client(address.clone()))).collect();
    load.more().await;
    let first = upgrade(&keygate, keygate.process.id());
    load.more().await;
    assert!(keygate.process.wait(WAIT_TIMEOUT).success());
    let second = upgrade(&keygate, first.0);
    load.more().await;
    load.is_over.store(true, Ordering::Relaxed);
    second.signal("TERM");
    for client in clients {
        assert_eq!(client.await.unwrap(), Ok(()));
    }
    eventually("the processes end", || has_ended(first.0) && has_ended(second.0));
    let processed = upstream.heads().len();
    assert_eq!(processed, load.count.load(Ordering::Relaxed), "each request that was processed has its response");
}
