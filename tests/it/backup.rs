//! The commands of `docs/operations.md` for backups, while keys are issued: what was acknowledged before a backup is there after the restore.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use keygate_test_servers::Postgres;
use reqwest::Client;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::documentation::documented;
use crate::support::keygate::{BINARY, Keygate, command_of};
use crate::support::upstream::Upstream;
use crate::support::wait::wait_for;

const CALLERS: usize = 3;

/// Callers that issue keys all the time.
struct Issuers {
    acknowledged: Arc<Mutex<Vec<String>>>,
    is_done: Arc<AtomicBool>,
    callers: JoinSet<()>,
}

impl Issuers {
    fn start(keygate: &Keygate) -> Self {
        let (acknowledged, is_done) = (Arc::new(Mutex::default()), Arc::new(AtomicBool::new(false)));
        let url = format!("{}/v2alpha1/admin/issuedApiKeys", keygate.admin);
        let callers = (0..CALLERS).map(|_| issue(url.clone(), Arc::clone(&acknowledged), Arc::clone(&is_done)));
        Self { callers: callers.collect(), acknowledged, is_done }
    }

    /// The keys whose issue was answered by now.
    fn acknowledged(&self) -> Vec<String> {
        self.acknowledged.lock().unwrap().clone()
    }

    /// Waits until more keys are issued.
    async fn progress(&self) -> Vec<String> {
        let before = self.acknowledged().len();
        wait_for(async || match self.acknowledged() {
            keys if keys.len() >= before + 30 => Ok(keys),
            keys => Err(format!("{} keys are issued", keys.len() - before)),
        })
        .await
    }

    async fn stop(self) -> Vec<String> {
        self.is_done.store(true, Ordering::Relaxed);
        self.callers.join_all().await;
        std::mem::take(&mut *self.acknowledged.lock().unwrap())
    }
}

async fn issue(url: String, acknowledged: Arc<Mutex<Vec<String>>>, is_done: Arc<AtomicBool>) {
    let http = Client::new();
    while !is_done.load(Ordering::Relaxed) {
        let body = json!({"name": "backup", "actor_id": "tester"}).to_string();
        let response = http.post(&url).body(body).send().await.unwrap();
        assert_eq!(response.status(), 201);
        let issued: Value = response.json().await.unwrap();
        acknowledged.lock().unwrap().push(issued["secret"].as_str().unwrap().to_owned());
    }
}

/// Runs the commands of the documentation, with other names of databases, in a folder.
fn run(file: &str, names: &[(&str, &str)], folder: &Path) -> String {
    let commands = documented("operations.md", file);
    let commands = names.iter().fold(commands, |commands, (documented, own)| {
        assert!(commands.contains(documented), "{documented} is not in {commands}");
        commands.replace(documented, own)
    });
    let path = format!("{}:{}", Path::new(BINARY).parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut shell = command_of("sh", &["-euxc", &commands]);
    let output = shell.env("PATH", path).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{commands}{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn gateway(upstream: &Upstream) -> Value {
    json!({"routes": [{"name": "api", "upstream": "api"}], "upstreams": {"api": {"endpoints": [upstream.url]}}})
}

/// The number of keys that the gateway accepts.
async fn accepted(keygate: &Keygate, keys: &[String]) -> usize {
    let mut count = 0;
    for key in keys {
        count += usize::from(keygate.call("/", key).await.status() == 200);
    }
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_backup_has_every_key_that_was_acknowledged_before_it() {
    let (upstream, folder) = (Upstream::start(), tempfile::tempdir().unwrap());
    let source = Keygate::serve(&gateway(&upstream), &json!({}));
    let (revoked_id, revoked) = source.issue(json!({})).await;
    source.revoke(&revoked_id).await;
    let issuers = Issuers::start(&source);
    let before = issuers.progress().await;
    let database = source.path().join("keys.db").display().to_string();
    let checked = run("backup-sqlite.sh", &[("/var/lib/keygate/keygate.db", &database)], folder.path());
    assert_eq!(checked.trim(), "ok");
    issuers.progress().await;
    let all = issuers.stop().await;
    drop(source);

    let mut target = Keygate::serve(&gateway(&upstream), &json!({}));
    target.process.signal("TERM");
    target.process.wait(keygate_test_servers::WAIT_TIMEOUT);
    let database = target.path().join("keys.db").display().to_string();
    run("restore-sqlite.sh", &[("/var/lib/keygate/keygate.db", &database)], folder.path());
    target.start_again();
    assert_eq!(accepted(&target, &before).await, before.len());
    assert!(accepted(&target, &all).await < all.len(), "keys that were issued after the backup are unknown");
    assert_eq!(target.call("/", &revoked).await.status(), 401);
    let (_, key) = target.issue(json!({})).await;
    assert_eq!(target.call("/", &key).await.status(), 200);
}

/// What a server that has run for long has, and a new one has not: a high number of transactions, and changes that were removed.
fn age(postgres: &Postgres) {
    for statement in [
        "DO $$ BEGIN FOR number IN 1..20000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$",
        "INSERT INTO change_marks (time, xid) SELECT now() - interval '1 day', pg_snapshot_xmin(pg_current_snapshot())",
        "UPDATE pruned_changes SET xid = pg_snapshot_xmin(pg_current_snapshot())",
    ] {
        assert!(postgres.query(statement).is_some(), "{statement}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_backup_has_every_key_that_was_acknowledged_before_it() {
    let (upstream, folder) = (Upstream::start(), tempfile::tempdir().unwrap());
    let (old, new) = (Postgres::start(), Postgres::start());
    let on = |postgres: &Postgres| json!({"db": {"dsn": postgres.url("postgres"), "auto_migrate": true}});
    let source = Keygate::serve(&gateway(&upstream), &on(&old));
    age(&old);
    let (revoked_id, revoked) = source.issue(json!({})).await;
    source.revoke(&revoked_id).await;
    let issuers = Issuers::start(&source);
    let before = issuers.progress().await;
    let dsn = |host: &str| format!("postgres://keygate:PASSWORD@{host}.example.com/keygate");
    run("backup-postgres.sh", &[(&dsn("db"), &old.url("postgres"))], folder.path());
    issuers.progress().await;
    let all = issuers.stop().await;
    drop((source, old));

    run("restore-postgres.sh", &[(&dsn("new-db"), &new.url("postgres"))], folder.path());
    let nodes = [(); 2].map(|()| Keygate::serve(&gateway(&upstream), &on(&new)));
    for node in &nodes {
        assert_eq!(accepted(node, &before).await, before.len());
        assert!(accepted(node, &all).await < all.len(), "keys that were issued after the backup are unknown");
        assert_eq!(node.call("/", &revoked).await.status(), 401);
    }
    // The feed of changes works on the new server.
    let (id, key) = nodes[0].issue(json!({})).await;
    assert_eq!(nodes[1].call("/", &key).await.status(), 200);
    nodes[0].revoke(&id).await;
    wait_for(async || match nodes[1].call("/", &key).await.status().as_u16() {
        401 => Ok(()),
        status => Err(format!("the revoked key gets {status}")),
    })
    .await;
    for node in nodes {
        assert!(node.count("keygate_feed_propagation_seconds_count").await.is_some_and(|count| count >= 2));
        assert!(!node.log().contains("changes of keys were missed"), "{}", node.log());
    }
}
