//! What routes change: paths, hosts, headers, addresses in responses; what they limit, and what they answer themselves.

mod body_limit;
mod header_rules;
mod hosts;
mod responses;
mod rewriting;

use std::io::Write;

use keygate_test_servers::WAIT_TIMEOUT;
use reqwest::{Client, Response};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::keygate::Keygate;
use crate::support::listeners::{ListenerKind, Listeners, Protocol};
use crate::support::raw_upstream::RawUpstream;

/// A gateway with each kind of listener, and its upstream `api`.
struct Gateway {
    keygate: Keygate,
    listeners: Listeners,
    upstream: RawUpstream,
}

/// Starts a gateway with routes that need no credential unless they say otherwise, and forward to `api` unless they respond themselves.
fn start(routes: Value) -> Gateway {
    start_with(routes, &json!({}))
}

/// The same with more of the section `gateway`.
fn start_with(mut routes: Value, more: &Value) -> Gateway {
    let upstream = RawUpstream::start();
    for (index, route) in routes.as_array_mut().unwrap().iter_mut().enumerate() {
        let route = route.as_object_mut().unwrap();
        route.entry("name").or_insert_with(|| format!("route-{index}").into());
        route.entry("auth").or_insert("none".into());
        if !route.contains_key("redirect") && !route.contains_key("respond") {
            route.entry("upstream").or_insert("api".into());
        }
    }
    let mut gateway = json!({"routes": routes, "upstreams": {"api": {"endpoints": [upstream.url]}}});
    crate::support::keygate::merge(&mut gateway, more);
    let listeners = Listeners::new();
    Gateway { keygate: listeners.serve(&gateway, &json!({})), listeners, upstream }
}

/// Both protocols, with and without TLS.
const EVERY_WAY: [(ListenerKind, Protocol); 4] = [
    (ListenerKind::Tcp, Protocol::Http1),
    (ListenerKind::Tcp, Protocol::Http2),
    (ListenerKind::Tls, Protocol::Http1),
    (ListenerKind::Tls, Protocol::Http2),
];

/// A client and the URL that it uses.
struct Caller {
    http: Client,
    url: String,
    kind: ListenerKind,
}

impl Gateway {
    /// Clients of both protocols, with and without TLS.
    fn callers(&self) -> Vec<Caller> {
        let caller = |(kind, protocol)| {
            println!("{kind:?} {protocol:?}");
            Caller { http: self.listeners.client(kind, protocol), url: self.listeners.url(kind), kind }
        };
        EVERY_WAY.into_iter().map(caller).collect()
    }

    /// Sends a GET request for a host, which need not be the name of the listener. Returns the status and the body.
    async fn get_of(&self, kind: ListenerKind, protocol: Protocol, host: &str, path: &str) -> (u16, String) {
        let stream = self.listeners.connect_async(kind, protocol).await;
        if protocol == Protocol::Http1 {
            let mut stream = stream;
            let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut response = String::new();
            stream.read_to_string(&mut response).await.unwrap();
            let (head, body) = response.split_once("\r\n\r\n").unwrap();
            return (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned());
        }
        let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let request = http::Request::get(format!("http://{host}{path}")).body(()).unwrap();
        let response = client.send_request(request, true).unwrap().0.await.unwrap();
        let (parts, mut body) = response.into_parts();
        let mut received = Vec::new();
        while let Some(data) = body.data().await {
            received.extend(data.unwrap());
        }
        (parts.status.as_u16(), String::from_utf8(received).unwrap())
    }

    /// Sends a request in HTTP/1.1 as it is written, with `Connection: close`. Returns the whole response.
    fn raw(&self, request: &str) -> String {
        let mut stream = self.listeners.connect(ListenerKind::Tcp, Protocol::Http1);
        stream.write_all(request.as_bytes()).unwrap();
        let mut response = Vec::new();
        std::io::Read::read_to_end(&mut stream, &mut response).unwrap();
        String::from_utf8(response).unwrap()
    }

    /// The status of a GET request for a path as it is written.
    fn status(&self, host: &str, path: &str) -> u16 {
        let response = self.raw(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"));
        response.split(' ').nth(1).unwrap().parse().unwrap()
    }
}

impl Caller {
    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Response {
        let request = headers
            .iter()
            .fold(self.http.get(format!("{}{path}", self.url)), |request, (name, value)| request.header(*name, *value));
        request.timeout(WAIT_TIMEOUT).send().await.unwrap()
    }

    /// The scheme and the authority that the client uses.
    fn authority(&self) -> &str {
        self.url.split_once("://").unwrap().1
    }
}

/// The values of a field.
fn values<'r>(response: &'r Response, name: &str) -> Vec<&'r str> {
    response.headers().get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
}
