//! The replacement of a running process.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use keygate_test_servers::{Process, WAIT_TIMEOUT, eventually, free_port};
use serde_json::{Value, json};

use super::load::client;
use super::{gateway, patient};
use crate::support::kept_connection::KeptConnection;
use crate::support::keygate::{BINARY, HMAC_SECRET, Keygate, command, write_private};
use crate::support::listeners::{ListenerKind, Listeners, Protocol};
use crate::support::upstream::Upstream;
use crate::support::wait::wait_for;

/// A process that has replaced another one; it is killed on drop.
pub(super) struct Successor(pub(super) u32);

impl Successor {
    pub(super) fn signal(&self, name: &str) {
        signal(name, self.0);
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        signal("KILL", self.0);
    }
}

fn signal(name: &str, process: u32) {
    let _ = Command::new("kill").arg(format!("-{name}")).arg(process.to_string()).output();
}

/// The process that the lock of the database names.
fn owner(keygate: &Keygate) -> u32 {
    let text = std::fs::read_to_string(keygate.path().join("keys.db.lock")).unwrap();
    text.parse().unwrap_or_default()
}

/// Has a process replaced, and waits until the other one is ready.
pub(super) fn upgrade(keygate: &Keygate, process: u32) -> Successor {
    signal("USR2", process);
    eventually("another process is ready", || ![0, process].contains(&owner(keygate)));
    Successor(owner(keygate))
}

/// Whether a process has ended; nothing may have waited for it.
pub(super) fn has_ended(process: u32) -> bool {
    let state = std::fs::read_to_string(Path::new("/proc").join(process.to_string()).join("stat"));
    state.map_or(true, |text| text.contains(") Z "))
}

async fn logged(keygate: &Keygate, text: &str) {
    wait_for(async || if keygate.log().contains(text) { Ok(()) } else { Err(keygate.log()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_fails_through_two_upgrades() {
    let upstream = Upstream::start();
    let mut keygate = Keygate::serve(&gateway(&upstream), &json!({"serve": {"shutdown_idle_timeout": "5s"}}));
    let (count, end) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let address = keygate.gateway.trim_start_matches("http://").to_owned();
    let clients: Vec<_> =
        (0..20).map(|_| tokio::spawn(client(address.clone(), Arc::clone(&count), Some(Arc::clone(&end))))).collect();
    let more = async || {
        let before = count.load(Ordering::Relaxed);
        wait_for(async || match count.load(Ordering::Relaxed) - before {
            500.. => Ok(()),
            requests => Err(format!("{requests} requests")),
        })
        .await;
    };
    more().await;
    let first = upgrade(&keygate, keygate.process.id());
    more().await;
    assert!(keygate.process.wait(WAIT_TIMEOUT).success());
    let second = upgrade(&keygate, first.0);
    more().await;
    eventually("the first successor ends", || has_ended(first.0));
    more().await;
    end.store(true, Ordering::Relaxed);
    for client in clients {
        assert_eq!(client.await.unwrap(), Ok(()));
    }
    signal("TERM", second.0);
    eventually("the second successor ends", || has_ended(second.0));
    assert_eq!(keygate.log().matches("replaces this one, which stops").count(), 2, "{}", keygate.log());
}

#[tokio::test]
async fn sockets_of_every_kind_are_passed_on_by_the_command() {
    let upstream = Upstream::start();
    let listeners = Listeners::new();
    let mut keygate = listeners.serve_with(&gateway(&upstream), &json!({}), &json!({}));
    let id = keygate.process.id().to_string();
    let output = command().args(["upgrade", "--pid", &id]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(keygate.process.wait(WAIT_TIMEOUT).success());
    let successor = Successor(owner(&keygate));
    assert_ne!(successor.0.to_string(), id);
    for kind in ListenerKind::each() {
        let answer = KeptConnection::on(listeners.connect(kind, Protocol::Http1)).get("/a", "");
        assert!(answer.status == 200 && !answer.is_last(), "{answer:?}");
    }
    for url in [&keygate.admin, &keygate.metrics] {
        assert_eq!(KeptConnection::open(url).get("/health/ready", "").status, 200);
    }
    let wrong = command().args(["upgrade", "--pid", &std::process::id().to_string()]).output().unwrap();
    assert!(!wrong.status.success() && String::from_utf8_lossy(&wrong.stderr).contains("not keygate"));
}

/// The commands of docs/operations.md, with a program in a folder of the test.
#[tokio::test]
async fn documented_commands_start_the_program_that_has_the_place_of_the_old_one() {
    const DOCUMENT: &str = include_str!("../../../docs/operations.md");
    let section = DOCUMENT.split("## Upgrade of a running process").nth(1).unwrap();
    let commands = section.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    let (upstream, folder) = (Upstream::start(), tempfile::tempdir().unwrap());
    let program = folder.path().join("keygate");
    std::fs::copy(BINARY, &program).unwrap();
    std::fs::copy(BINARY, folder.path().join("keygate.new")).unwrap();
    let mut keygate = Keygate::serve_program(&program, &gateway(&upstream));
    let id = keygate.process.id();
    let commands = commands.replace("/usr/bin", folder.path().to_str().unwrap());
    let commands = commands.replace("$(pidof -s keygate)", &id.to_string());
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("sh");
    let output = shell.args(["-ec", &commands]).current_dir(folder.path()).env("PATH", path).output().unwrap();
    assert!(output.status.success(), "{commands}: {}", String::from_utf8_lossy(&output.stderr));
    assert!(keygate.process.wait(WAIT_TIMEOUT).success());
    let successor = Successor(owner(&keygate));
    let executable = std::fs::read_link(Path::new("/proc").join(successor.0.to_string()).join("exe")).unwrap();
    assert_eq!(executable, program.canonicalize().unwrap(), "and not a file that was deleted");
    assert_eq!(KeptConnection::open(&keygate.gateway).get("/a", "").status, 200);
}

/// The first resolution of each process reads a FIFO, and so waits until the test writes to it.
#[tokio::test]
async fn successor_accepts_no_connection_before_it_is_ready() {
    let upstream = Upstream::start();
    let port = upstream.url.rsplit(':').next().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let [hosts, gate] = ["hosts", "gate"].map(|name| folder.path().join(name));
    std::fs::write(&hosts, "127.0.0.1 slow.test\n").unwrap();
    assert!(Command::new("mkfifo").arg(&gate).status().unwrap().success());
    let settings = json!({
        "routes": [{"name": "all", "upstream": "api", "auth": "none"}],
        "upstreams": {"api": {"endpoints": [format!("http://slow.test:{port}")], "dns": {"refresh": "1h", "max_stale": "1h"}}}
    });
    let files = [(hosts.as_path(), "/etc/hosts"), (gate.as_path(), "/etc/host.conf")];
    let Some(mut keygate) = Keygate::serve_with_files(&settings, &files) else { return };
    let ready = |keygate: &Keygate| KeptConnection::open(&keygate.metrics).get("/health/ready", "").status;
    std::fs::write(&gate, "multi on\n").unwrap();
    eventually("the first process is ready", || ready(&keygate) == 200);
    let id = keygate.process.id();
    signal("USR2", id);
    // The successor has started all its parts, and waits for the name.
    wait_for(async || match keygate.log().matches("is serving").count() {
        2 => Ok(()),
        _ => Err(keygate.log()),
    })
    .await;
    for _ in 0..50 {
        assert_eq!(ready(&keygate), 200, "the first process answers");
        assert_eq!(KeptConnection::open(&keygate.gateway).get("/a", "").status, 200);
    }
    assert_eq!(owner(&keygate), id);
    std::fs::write(&gate, "multi on\n").unwrap();
    eventually("the successor is ready", || owner(&keygate) != id);
    let _successor = Successor(owner(&keygate));
    assert!(keygate.process.wait(WAIT_TIMEOUT).success());
    assert_eq!(ready(&keygate), 200);
    assert_eq!(KeptConnection::open(&keygate.gateway).get("/a", "").status, 200);
}

#[tokio::test]
async fn process_goes_on_if_its_successor_does_not_become_ready() {
    let upstream = Upstream::start();
    let keygate = Keygate::serve(&gateway(&upstream), &json!({}));
    let (path, id) = (keygate.path().join("keygate.json"), keygate.process.id());
    let good = std::fs::read_to_string(&path).unwrap();
    write_private(&path, "{");
    signal("USR2", id);
    logged(&keygate, "this process was not replaced and goes on: process").await;
    assert!(keygate.log().contains("has ended before it was ready (exit status: 1)"), "{}", keygate.log());
    let mut connection = KeptConnection::open(&keygate.gateway);
    for _ in 0..2 {
        let answer = connection.get("/a", "");
        assert!(answer.status == 200 && !answer.is_last(), "{answer:?}");
    }
    assert_eq!(owner(&keygate), id);
    write_private(&path, &good);
    let successor = upgrade(&keygate, id);
    assert_eq!(KeptConnection::open(&keygate.gateway).get("/a", "").status, 200);
    drop(successor);
}

#[tokio::test]
async fn no_revocation_is_lost_while_two_processes_use_the_file() {
    let upstream = Upstream::start();
    let mut settings = gateway(&upstream);
    settings["routes"][0]["auth"] = json!("required");
    let mut keygate = Keygate::serve(&settings, &patient());
    let (id, key) = keygate.issue(json!({})).await;
    let (other_id, other) = keygate.issue(json!({})).await;
    let fields = |key: &str| format!("Authorization: Bearer {key}\r\n");
    // The old process goes on while a request is held.
    let mut held = KeptConnection::open(&keygate.gateway);
    held.send("/held", &fields(&key));
    upstream.holds(1).await;
    let mut idle: Vec<_> = (0..200).map(|_| KeptConnection::open(&keygate.gateway)).collect();
    for connection in &mut idle {
        for key in [&key, &other] {
            assert_eq!(connection.get("/a", &fields(key)).status, 200);
        }
    }
    let mut old_admin = KeptConnection::open(&keygate.admin);
    assert_eq!(old_admin.get("/health/ready", "").status, 200);
    let successor = upgrade(&keygate, keygate.process.id());
    let revoke = |connection: &mut KeptConnection, id: &str| {
        connection.post(&format!("/v2alpha1/admin/issuedApiKeys/{id}:revoke"), "{}")
    };
    // Both have the keys in their caches.
    let call = |key: &str| KeptConnection::open(&keygate.gateway).get("/a", &fields(key)).status;
    assert_eq!((call(&key), call(&other)), (200, 200));
    // Through the new process: the old one rejects it. Each of its connections is served once more.
    wait_for(async || match KeptConnection::open(&keygate.admin).get("/health/ready", "") {
        answer if answer.is_last() => Err("the old process accepts connections".to_owned()),
        _ => Ok(()),
    })
    .await;
    assert_eq!(revoke(&mut KeptConnection::open(&keygate.admin), &id), 204);
    let mut accepted = 0;
    let is_rejected = |connection: &mut KeptConnection| {
        let answer = connection.get("/a", &fields(&key));
        assert!(answer.is_last() && [200, 401].contains(&answer.status), "{answer:?}");
        answer.status == 401
    };
    eventually("the old process rejects the key", || {
        let is_rejected = is_rejected(&mut idle.pop().expect("the key is accepted by the old process"));
        accepted += usize::from(!is_rejected);
        is_rejected
    });
    println!("{accepted} requests were accepted after the revocation");
    assert!(idle.iter_mut().take(20).all(is_rejected), "the key stays rejected");
    // Through the old process: the new one rejects it.
    assert_eq!(revoke(&mut old_admin, &other_id), 204);
    eventually("the new process rejects the key", || call(&other) == 401);
    upstream.release();
    assert_eq!(held.answer().status, 200);
    drop(idle);
    assert!(keygate.process.wait(WAIT_TIMEOUT).success());
    assert_eq!((call(&key), call(&other)), (401, 401));
    drop(successor);
}

#[tokio::test]
async fn sockets_of_systemd_are_used() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let config: Value = json!({
        "serve": {"http": {"port": free_port()}, "metrics": {"host": "127.0.0.1", "port": free_port()}},
        "credentials": {"issuer": "https://keys.example.com"},
        "secrets": {"hmac": {"current": HMAC_SECRET}},
        "db": {"dsn": "sqlite://:memory:"},
        "gateway": {
            "address": address.to_string(),
            "routes": [{"name": "all", "auth": "none", "respond": {"status": 200, "body": "ok"}}]
        }
    });
    let path = folder.path().join("keygate.json");
    write_private(&path, &config.to_string());
    // As systemd does it: the socket is descriptor 3. Without it, the address would be in use.
    let script = r#"LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" serve --config "$1" 3<&0"#;
    let mut shell = Command::new("sh");
    shell.args(["-c", script, BINARY]).arg(&path).stdin(Stdio::from(OwnedFd::from(listener)));
    let _process = Process::adopt(shell.spawn().unwrap());
    let mut connection = KeptConnection::open(&format!("http://{address}"));
    assert_eq!(connection.get("/", "").status, 200);
}
