//! Memory of silent connections, in clear text and with TLS, compared with nginx, and of large heads.

use std::io::{Read, Write};
use std::net::TcpStream;

use keygate::listener::Descriptors;
use keygate_test_servers::{Peer, PeerProgram, free_port};
use serde_json::json;

use super::{address, connect, open, read_head, start, wait_metric};
use crate::support::client_stream::ClientStream;
use crate::support::listeners::{ListenerKind, Listeners, Protocol};
use crate::support::memory::anonymous;
use crate::support::upstream::Upstream;
use crate::support::wait::wait_for;

/// How many silent connections are opened, if the limit of open files of this process permits it.
const SILENT: usize = 8_000;
/// Connections that are opened before the measurement, so that memory which is allocated once is not measured.
const WARM: usize = 200;
/// The memory of a silent connection in KiB.
const SILENT_MAX: usize = 8;
/// How many silent connections with TLS are opened: enough that a huge page of the kernel (2 MiB) is a small part of their memory.
const SILENT_TLS: usize = 3_000;
/// How much the memory may grow by large heads, in KiB.
const HEADS_MAX: usize = 32 * 1024;

/// Opens silent connections until there are `count`.
fn fill<C>(connections: &mut Vec<C>, connect: impl Fn() -> C, count: usize) {
    while connections.len() < count {
        connections.push(connect());
    }
}

/// A connection on which nothing is sent.
fn silent_to(url: &str) -> impl Fn() -> TcpStream {
    let address = address(url);
    move || TcpStream::connect(address).unwrap()
}

#[tokio::test]
async fn silent_connections_take_little_memory() {
    let silent = SILENT.min((Descriptors::raise().limit() - 1000) / 2);
    let upstream = Upstream::start();
    let caps = json!({"connections": {"max": 20_000, "max_per_client": 20_000, "max_pending": 20_000}});
    let keygate = start(&upstream.url, &json!({"head_timeout": "10m"}), &caps);
    let mut connections = Vec::new();
    fill(&mut connections, silent_to(&keygate.gateway), WARM);
    wait_metric(&keygate, &open("pending"), |open| open == 200).await;
    let before = anonymous(keygate.process.id());
    fill(&mut connections, silent_to(&keygate.gateway), silent);
    wait_metric(&keygate, &open("pending"), |open| open >= silent as u64).await;
    let bytes = |grown: usize| grown * 1024 / (silent - WARM);
    let ours = bytes(anonymous(keygate.process.id()).saturating_sub(before));
    let mut last = connections.pop().unwrap();
    last.write_all(b"GET /open HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    assert!(read_head(&mut last).starts_with("HTTP/1.1 200"));
    drop(connections);
    drop(keygate);
    let nginx = nginx_bytes(silent).await;
    println!("memory of a silent connection: {ours} B, nginx {nginx:?} B");
    assert!(ours <= SILENT_MAX * 1024, "{ours} B, nginx {nginx:?} B");
}

/// The memory of a silent connection of nginx in bytes; `None` if it is not installed.
async fn nginx_bytes(silent: usize) -> Option<usize> {
    let port = free_port();
    let (nginx, url) = start_nginx(silent, port, "")?;
    grown_by(&nginx, &url, silent_to(&format!("http://127.0.0.1:{port}")), silent).await
}

/// Starts nginx for a number of connections on a port and its status on another one, whose URL is returned.
fn start_nginx(connections: usize, port: u16, tls: &str) -> Option<(Peer, String)> {
    let status = free_port();
    let listen = if tls.is_empty() { "" } else { " ssl" };
    let config = format!(
        "worker_rlimit_nofile {files}; events {{ worker_connections {files}; }}\n\
         http {{ server {{ listen 127.0.0.1:{port}{listen}; {tls} client_header_timeout 10m; keepalive_timeout 10m; \
         location / {{ return 200; }} }} server {{ listen 127.0.0.1:{status}; location / {{ stub_status; }} }} }}",
        // Above 15/16 of its connections, nginx closes those that wait.
        files = connections * 2,
    );
    Some((PeerProgram::Nginx.start(&config, port)?, format!("http://127.0.0.1:{status}")))
}

/// How much memory a connection of nginx takes, in bytes.
async fn grown_by<C>(nginx: &Peer, status: &str, connect: impl Fn() -> C, count: usize) -> Option<usize> {
    let (process, _) = nginx.process_and_folder();
    let mut connections = Vec::new();
    fill(&mut connections, &connect, WARM);
    let before = wait_nginx(status, WARM, process).await;
    fill(&mut connections, &connect, count);
    let after = wait_nginx(status, count, process).await;
    Some(after.saturating_sub(before) * 1024 / (count - WARM))
}

/// Waits until nginx has accepted all connections; returns its memory in KiB.
async fn wait_nginx(url: &str, count: usize, process: u32) -> usize {
    wait_for(async || {
        let status = reqwest::get(url).await.unwrap().text().await.unwrap();
        let active: usize = status.lines().next().unwrap().rsplit(' ').find_map(|word| word.parse().ok()).unwrap_or(0);
        if active > count { Ok(anonymous(process)) } else { Err(format!("{active} of {count} connections: {status}")) }
    })
    .await
}

/// With TLS 1.3, after the handshake, and after a request.
#[tokio::test]
async fn silent_tls_connections_take_no_more_memory_than_those_of_nginx() {
    let upstream = Upstream::start();
    let listeners = Listeners::new();
    let gateway = json!({
        "routes": [{"name": "open", "upstream": "api", "auth": "none"}],
        "upstreams": {"api": {"endpoints": [upstream.url]}},
        "connections": {"max_per_client": 20_000},
    });
    let limits = json!({"limits": {"head_timeout": "10m", "idle_timeout": "10m"}});
    let (certificate, key) = listeners.certificate();
    let tls = format!(
        "ssl_certificate {}; ssl_certificate_key {}; ssl_protocols TLSv1.3;",
        certificate.display(),
        key.display()
    );
    let port = free_port();
    for after_a_request in [false, true] {
        let ready = |mut stream: ClientStream| {
            if after_a_request {
                stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
                assert!(read_head(&mut stream).starts_with("HTTP/1.1 200"));
            }
            stream
        };
        let keygate = listeners.serve(&gateway, &limits);
        let state = open(if after_a_request { "idle" } else { "pending" });
        let connect = || ready(listeners.connect(ListenerKind::Tls, Protocol::Http1));
        let mut connections = Vec::new();
        let mut memory = async |count: usize| {
            fill(&mut connections, connect, count);
            wait_metric(&keygate, &state, |open| open >= count as u64).await;
            anonymous(keygate.process.id())
        };
        let before = memory(WARM).await;
        let ours = memory(SILENT_TLS).await.saturating_sub(before) * 1024 / (SILENT_TLS - WARM);
        drop(keygate);
        let Some((nginx, status)) = start_nginx(SILENT_TLS, port, &tls) else { return };
        let nginx = grown_by(&nginx, &status, || ready(listeners.connect_to(port)), SILENT_TLS).await;
        println!("memory of a silent TLS connection, after a request: {after_a_request}: {ours} B, nginx {nginx:?} B");
        assert!(nginx.is_none_or(|nginx| ours <= nginx), "{ours} B, nginx {nginx:?} B");
    }
}

#[tokio::test]
async fn large_heads_are_refused_before_they_take_memory() {
    let upstream = Upstream::start();
    let keygate = start(&upstream.url, &json!({}), &json!({}));
    let before = anonymous(keygate.process.id());
    let head = format!("GET /open HTTP/1.1\r\nHost: h\r\nX-Large: {}\r\n\r\n", "x".repeat(1000 * 1024)).into_bytes();
    let mut connections: Vec<_> = (0..200).map(|_| connect(&keygate.gateway)).collect();
    std::thread::scope(|scope| {
        for stream in &mut connections {
            let head = &head;
            scope.spawn(move || {
                let mut writer = stream.try_clone().unwrap();
                // The gateway closes the connection before it has read everything.
                let writing = std::thread::spawn({
                    let head = head.clone();
                    move || drop(writer.write_all(&head))
                });
                let mut response = Vec::new();
                let _ = stream.read_to_end(&mut response);
                let response = String::from_utf8_lossy(&response);
                assert!(response.starts_with("HTTP/1.1 431") && response.contains("problem+json"), "{response}");
                writing.join().unwrap();
            });
        }
    });
    let grown = anonymous(keygate.process.id()).saturating_sub(before);
    assert!(grown < HEADS_MAX, "{grown} KiB");
    assert!(upstream.heads().is_empty());
}
