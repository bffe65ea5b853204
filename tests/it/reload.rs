//! Reload of the configuration while requests are served: at a change of the files and at SIGHUP.

mod files;
mod settings;
mod under_load;

use std::io::{BufRead, BufReader, Read, Write};

use serde_json::{Value, json};

use crate::support::client_stream::ClientStream;
use crate::support::keygate::{Keygate, merge, write_private};
use crate::support::upstream::Upstream;
use crate::support::wait::wait_for;

/// A connection that is kept.
struct KeptConnection(BufReader<ClientStream>);

/// A response.
#[derive(Debug)]
struct Answer {
    status: u16,
    /// In lower case.
    head: String,
    body: String,
}

impl KeptConnection {
    fn open(url: &str) -> Self {
        let port = url.rsplit(':').next().unwrap().parse().unwrap();
        Self(BufReader::new(ClientStream::tcp(port)))
    }

    /// Sends a GET request with more fields, each with its line end.
    fn get(&mut self, path: &str, fields: &str) -> Answer {
        write!(self.0.get_mut(), "GET {path} HTTP/1.1\r\nHost: api.example.com\r\n{fields}\r\n").unwrap();
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(self.0.read_line(&mut head).unwrap() > 0, "the connection was closed after {head:?}");
        }
        let head = head.to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        self.0.read_exact(&mut body).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head, body: String::from_utf8(body).unwrap() }
    }
}

/// One open route, `/a`.
fn gateway(upstream: &Upstream) -> Value {
    json!({
        "routes": [{"name": "a", "path_prefix": "/a", "upstream": "one", "auth": "none"}],
        "upstreams": {"one": {"endpoints": [upstream.url]}}
    })
}

/// The configuration file as it is.
fn configuration(keygate: &Keygate) -> Value {
    serde_json::from_str(&std::fs::read_to_string(keygate.path().join("keygate.json")).unwrap()).unwrap()
}

/// Merges settings into the configuration file, which is replaced in one step.
fn change(keygate: &Keygate, settings: &Value) {
    let mut config = configuration(keygate);
    merge(&mut config, settings);
    replace(keygate, &config.to_string());
}

fn replace(keygate: &Keygate, text: &str) {
    let new = keygate.path().join("new.json");
    write_private(&new, text);
    std::fs::rename(&new, keygate.path().join("keygate.json")).unwrap();
}

/// Merges settings into the configuration file, and waits until they are in effect.
async fn reload(keygate: &Keygate, settings: &Value) {
    let before = hash(keygate).await;
    change(keygate, settings);
    wait_for(async || match hash(keygate).await {
        hash if hash == before => Err(format!("no reload: {}", keygate.log())),
        _ => Ok(()),
    })
    .await;
}

async fn hash(keygate: &Keygate) -> u64 {
    // Metrics are served before the configuration is watched.
    wait_for(async || keygate.count("keygate_config_hash").await.ok_or("no hash".to_owned())).await
}

/// Waits until the log contains a text a number of times.
async fn logged(keygate: &Keygate, text: &str, times: usize) {
    wait_for(async || match keygate.log().matches(text).count() {
        count if count >= times => Ok(()),
        count => Err(format!("{count} times {text:?} in {}", keygate.log())),
    })
    .await;
}
