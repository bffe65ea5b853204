//! Endpoints with a host name, and Unix sockets.

use std::net::TcpListener;
use std::process::Command;

use keygate_test_servers::PeerProgram;
use reqwest::{Client, Method};
use serde_json::json;
use tempfile::TempDir;

use super::instance::{Instance, Reply};
use super::load::{Statuses, burst, send};
use super::{endpoint_metric, start_with};
use crate::support::keygate::Keygate;
use crate::support::wait::wait_for;

#[tokio::test]
async fn name_that_does_not_resolve_does_not_affect_other_endpoints() {
    let instance = Instance::healthy();
    let mut keygate = start_with(&["http://nothing.invalid:80".into(), instance.url.clone()], &json!({}));
    for method in [Method::GET, Method::POST] {
        assert_eq!(burst(&keygate, &method, 10).await, Statuses::from([(200, 160)]));
    }
    let log = keygate.whole_log();
    assert_eq!(log.lines().filter(|line| line.contains("nothing.invalid cannot be resolved")).count(), 1, "{log}");
}

#[tokio::test]
async fn name_without_any_address_is_an_unreachable_upstream() {
    let keygate = start_with(&["http://nothing.invalid:80".into()], &json!({}));
    assert_eq!(burst(&keygate, &Method::GET, 1).await, Statuses::from([(502, 16)]));
}

#[tokio::test]
async fn start_waits_for_the_first_resolution() {
    let instance = Instance::healthy();
    let port = instance.url.rsplit(':').next().unwrap();
    let folder = TempDir::new().unwrap();
    let [hosts, gate] = ["hosts", "gate"].map(|name| folder.path().join(name));
    std::fs::write(&hosts, "127.0.0.1 slow.test\n").unwrap();
    // The first resolution reads this file, and so waits until the test writes to it.
    assert!(Command::new("mkfifo").arg(&gate).status().unwrap().success());
    let upstreams = json!({
        "api": {
            "endpoints": [format!("http://slow.test:{port}")],
            "dns": {"refresh": "1h", "max_stale": "1h"},
            "connect_timeout": "1m"
        },
        "other": {"endpoints": [instance.url]}
    });
    let routes = json!([
        {"name": "all", "upstream": "api", "auth": "none"},
        {"name": "other", "path_prefix": "/other", "upstream": "other", "auth": "none"}
    ]);
    let gateway = json!({"routes": routes, "upstreams": upstreams});
    let files = [(hosts.as_path(), "/etc/hosts"), (gate.as_path(), "/etc/host.conf")];
    let Some(keygate) = Keygate::serve_with_files(&gateway, &files) else { return };
    let ready = async || {
        let response = keygate.http.get(format!("{}/health/ready", keygate.metrics)).send().await.unwrap();
        response.status().as_u16()
    };
    assert_eq!(ready().await, 503);
    let url = keygate.gateway.clone();
    let first = tokio::spawn(async move { send(&Client::new(), &Method::POST, &url).await });
    assert_eq!(send(&keygate.http, &Method::GET, &format!("{}/other", keygate.gateway)).await, 200);
    assert!(!first.is_finished());
    std::fs::write(&gate, "multi on\n").unwrap();
    assert_eq!(first.await.unwrap(), 200);
    wait_for(async || match ready().await {
        200 => Ok(()),
        status => Err(format!("/health/ready is {status}")),
    })
    .await;
}

#[tokio::test]
async fn all_addresses_of_a_name_are_used_and_followed() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let others = ["127.0.0.2", "127.0.0.3"].map(|address| TcpListener::bind((address, port)).unwrap());
    let healthy = |listener| Instance::listen(listener, |_| Reply::Status(200));
    let instances: Vec<_> = std::iter::once(listener).chain(others).map(healthy).collect();
    let folder = TempDir::new().unwrap();
    let hosts = folder.path().join("hosts");
    // Written in place: a mount keeps the file that it began with.
    let write = |addresses: &[&str]| {
        let lines: String = addresses.iter().flat_map(|address| [*address, " many.test\n"]).collect();
        std::fs::write(&hosts, lines).unwrap();
    };
    write(&["127.0.0.1", "127.0.0.2"]);
    let dns = json!({"refresh": "100ms", "max_stale": "500ms"});
    let upstream = json!({"endpoints": [format!("http://many.test:{port}")], "dns": dns});
    let routes = json!([{"name": "all", "upstream": "api", "auth": "none"}]);
    let gateway = json!({"routes": routes, "upstreams": {"api": upstream}});
    let Some(keygate) = Keygate::serve_with_hosts(&gateway, &hosts) else { return };
    let counts = || instances.iter().map(Instance::count).collect::<Vec<_>>();
    assert_eq!(burst(&keygate, &Method::GET, 10).await, Statuses::from([(200, 160)]));
    assert_eq!(counts(), [80, 80, 0]);
    let answered = async |instance: &Instance| {
        endpoint_metric(&keygate, "keygate_upstream_requests_total", &instance.url, r#"outcome="2xx","#).await
    };
    assert_eq!(answered(&instances[1]).await, 80);

    write(&["127.0.0.2", "127.0.0.3"]);
    let is_used =
        async |instance: &Instance| endpoint_metric(&keygate, "keygate_upstream_healthy", &instance.url, "").await == 1;
    wait_for(async || match (is_used(&instances[0]).await, is_used(&instances[2]).await) {
        (false, true) => Ok(()),
        used => Err(format!("the old and the new address are used: {used:?}")),
    })
    .await;
    let before = counts();
    assert_eq!(burst(&keygate, &Method::GET, 10).await, Statuses::from([(200, 160)]));
    let after = counts();
    assert_eq!((after[0], after[1] - before[1], after[2]), (before[0], 80, 80));

    // The last addresses are used for a time, which is tested with the code, then none.
    write(&[]);
    wait_for(async || if is_used(&instances[1]).await { Err("still used".into()) } else { Ok(()) }).await;
    assert_eq!(burst(&keygate, &Method::GET, 1).await, Statuses::from([(502, 16)]));
}

#[tokio::test]
async fn unix_socket_is_an_endpoint() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("orders.sock");
    let port = keygate_test_servers::free_port();
    let script = format!(
        "import http.server, socketserver, threading
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def address_string(self): return 'unix'
    def do_GET(self):
        body = self.headers['Host'].encode()
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
unix = Server('{}', Handler)
threading.Thread(target=unix.serve_forever, daemon=True).start()
http.server.HTTPServer(('127.0.0.1', {port}), Handler).serve_forever()
",
        path.display()
    );
    let Some(_python) = PeerProgram::Python.start(&script, port) else { return };
    for policy in ["round_robin", "least_requests", "consistent_hash"] {
        let endpoints = [format!("unix:{}", path.display())];
        let check = json!({"interval": "50ms"});
        let settings = json!({"load_balancing": {"policy": policy}, "health_check": check});
        let keygate = start_with(&endpoints, &settings);
        let response = keygate.http.get(&keygate.gateway).send().await.unwrap();
        assert_eq!((response.status().as_u16(), response.text().await.unwrap()), (200, "localhost".to_owned()));
        assert_eq!(endpoint_metric(&keygate, "keygate_upstream_healthy", &endpoints[0], "").await, 1);
    }
}
