//! The temporary servers of the tests work, and their processes and folders are removed on drop, also when a test panics.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use keygate_test_servers::{PeerProgram, Postgres, Redis, eventually, free_port};

fn assert_removed((id, folder): (u32, PathBuf)) {
    eventually("the process has ended", || !Path::new(&format!("/proc/{id}")).exists());
    assert!(!folder.exists(), "{} exists", folder.display());
}

#[test]
fn postgres_serves_and_is_removed_on_drop() {
    let server = Postgres::start();
    assert_eq!(server.query("SELECT 6 * 7").as_deref(), Some("42"));
    let process_and_folder = server.process_and_folder();
    drop(server);
    assert_removed(process_and_folder);
}

#[test]
fn redis_serves_and_is_removed_on_drop() {
    let server = Redis::start();
    let mut connection = server.connect();
    connection.write_all(b"PING\r\n").unwrap();
    let mut reply = [0; 7];
    connection.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"+PONG\r\n");
    let process_and_folder = server.process_and_folder();
    drop(server);
    assert_removed(process_and_folder);
}

#[test]
fn peers_serve_their_configuration_and_are_removed_on_drop() {
    let envoy = r#"
static_resources:
  listeners:
  - address: { socket_address: { address: 127.0.0.1, port_value: PORT } }
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: test
          route_config:
            virtual_hosts:
            - { name: test, domains: ["*"], routes: [{ match: { prefix: / }, direct_response: { status: 418 } }] }
          http_filters:
          - name: envoy.filters.http.router
            typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }
"#;
    for (program, config) in [
        (PeerProgram::Nginx, "events {} http { server { listen 127.0.0.1:PORT; return 418; } }"),
        (PeerProgram::Caddy, "http://:PORT {\n bind 127.0.0.1\n respond 418\n}"),
        (PeerProgram::Envoy, envoy),
        (
            PeerProgram::Haproxy,
            "defaults\n mode http\n timeout connect 9s\n timeout client 9s\n timeout server 9s\n\
             frontend test\n bind 127.0.0.1:PORT\n http-request return status 418\n",
        ),
        (
            PeerProgram::Apache,
            "LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so\n\
             LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so\n\
             LoadModule alias_module /usr/lib/apache2/modules/mod_alias.so\n\
             User nobody\nGroup nogroup\nServerName test\nListen 127.0.0.1:PORT\nRedirect gone /\n",
        ),
        (PeerProgram::Varnish, "vcl 4.1; backend default none; sub vcl_recv { return (synth(418)); }"),
        (
            PeerProgram::Python,
            "from http.server import BaseHTTPRequestHandler, HTTPServer\n\
             class Handler(BaseHTTPRequestHandler):\n \
             protocol_version = 'HTTP/1.1'\n \
             do_GET = lambda self: (self.send_response(418), self.end_headers())\n\
             HTTPServer(('127.0.0.1', PORT), Handler).serve_forever()\n",
        ),
        (
            PeerProgram::Node,
            "require('node:http').createServer((_, response) => response.writeHead(418).end()).listen(PORT, '127.0.0.1')",
        ),
    ] {
        let port = free_port();
        let Some(peer) = program.start(&config.replace("PORT", &port.to_string()), port) else { continue };
        let mut connection = TcpStream::connect(("127.0.0.1", port)).unwrap();
        connection.write_all(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").unwrap();
        let mut response = String::new();
        connection.read_to_string(&mut response).unwrap();
        // Apache has no status 418.
        let status = if program == PeerProgram::Apache { 410 } else { 418 };
        assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{program:?}: {response}");
        let process_and_folder = peer.process_and_folder();
        drop(peer);
        assert_removed(process_and_folder);
    }
}

#[test]
fn server_of_a_panicking_test_is_removed() {
    let mut process_and_folder = None;
    let failed = catch_unwind(AssertUnwindSafe(|| {
        let server = Redis::start();
        process_and_folder = Some(server.process_and_folder());
        panic!("the test fails");
    }));
    assert!(failed.is_err());
    assert_removed(process_and_folder.unwrap());
}
