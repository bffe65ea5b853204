//! Memory of silent connections, compared with nginx, and of large heads.

use std::io::{Read, Write};
use std::net::TcpStream;

use keygate::listener::Descriptors;
use keygate_test_servers::{PeerProgram, free_port};
use serde_json::json;

use super::{address, connect, open, read_head, resident, start, wait_metric};
use crate::support::upstream::Upstream;
use crate::support::wait::wait_for;

/// How many silent connections are opened, if the limit of open files of this process permits it.
const SILENT: usize = 8_000;
/// Connections that are opened before the measurement, so that memory which is allocated once is not measured.
const WARM: usize = 200;
/// The memory of a silent connection in KiB.
const SILENT_MAX: usize = 8;
/// How much the memory may grow by large heads, in KiB.
const HEADS_MAX: usize = 32 * 1024;

/// Opens silent connections until there are `count`.
fn fill(connections: &mut Vec<TcpStream>, url: &str, count: usize) {
    while connections.len() < count {
        connections.push(TcpStream::connect(address(url)).unwrap());
    }
}

#[tokio::test]
async fn silent_connections_take_little_memory() {
    let silent = SILENT.min((Descriptors::raise().limit() - 1000) / 2);
    let upstream = Upstream::start();
    let caps = json!({"connections": {"max": 20_000, "max_per_client": 20_000, "max_pending": 20_000}});
    let keygate = start(&upstream.url, &json!({"head_timeout": "10m"}), &caps);
    let mut connections = Vec::new();
    fill(&mut connections, &keygate.gateway, WARM);
    wait_metric(&keygate, &open("pending"), |open| open == 200).await;
    let before = resident(keygate.process.id());
    fill(&mut connections, &keygate.gateway, silent);
    wait_metric(&keygate, &open("pending"), |open| open >= silent as u64).await;
    let bytes = |grown: usize| grown * 1024 / (silent - WARM);
    let ours = bytes(resident(keygate.process.id()).saturating_sub(before));
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
    let config = format!(
        "worker_rlimit_nofile {files}; events {{ worker_connections {files}; }}\n\
         http {{ server {{ listen 127.0.0.1:{port}; client_header_timeout 10m; location / {{ return 200; }} \
         location = /status {{ stub_status; }} }} }}",
        // Above 15/16 of its connections, nginx closes those that wait.
        files = silent * 2,
    );
    let nginx = PeerProgram::Nginx.start(&config, port)?;
    let (process, _) = nginx.process_and_folder();
    let url = format!("http://127.0.0.1:{port}");
    let mut connections = Vec::new();
    fill(&mut connections, &url, WARM);
    let before = wait_nginx(&url, WARM, process).await;
    fill(&mut connections, &url, silent);
    let after = wait_nginx(&url, silent, process).await;
    Some(after.saturating_sub(before) * 1024 / (silent - WARM))
}

/// Waits until nginx has accepted all connections; returns its memory in KiB.
async fn wait_nginx(url: &str, count: usize, process: u32) -> usize {
    wait_for(async || {
        let status = reqwest::get(format!("{url}/status")).await.unwrap().text().await.unwrap();
        let active: usize = status.lines().next().unwrap().rsplit(' ').find_map(|word| word.parse().ok()).unwrap_or(0);
        if active > count { Ok(resident(process)) } else { Err(format!("{active} of {count} connections: {status}")) }
    })
    .await
}

#[tokio::test]
async fn large_heads_are_refused_before_they_take_memory() {
    let upstream = Upstream::start();
    let keygate = start(&upstream.url, &json!({}), &json!({}));
    let before = resident(keygate.process.id());
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
    let grown = resident(keygate.process.id()).saturating_sub(before);
    assert!(grown < HEADS_MAX, "{grown} KiB");
    assert!(upstream.heads().is_empty());
}
