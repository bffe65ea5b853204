//! Mixed load while endpoints are killed, keys are revoked and clients break off: each response is that of its request, whole, and no
//! revoked key is accepted.

use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use keygate_test_servers::WAIT_TIMEOUT;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;

use crate::support::keygate::Keygate;
use crate::support::raw_upstream::{read_body, read_head};

/// How long the load lasts, unless `CHAOS_SECONDS` says otherwise.
const SECONDS: u64 = 8;
const CLIENTS: u64 = 12;

/// An endpoint that echoes nonces. Killed, it closes all connections.
struct Endpoint {
    url: String,
    connections: Arc<Mutex<Vec<TcpStream>>>,
}

impl Endpoint {
    fn start(seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let connections = Arc::new(Mutex::new(Vec::new()));
        let open = Arc::clone(&connections);
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let stream = stream.unwrap();
                open.lock().unwrap().push(stream.try_clone().unwrap());
                std::thread::spawn(move || {
                    echo(&stream, seed << 32 | number as u64);
                    // There is another handle of the socket.
                    let _ = stream.shutdown(Shutdown::Both);
                });
            }
        });
        Self { url, connections }
    }

    fn kill_connections(&self) {
        for stream in self.connections.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// The body of the response to a request with this nonce.
fn body_of(nonce: &str) -> Vec<u8> {
    let number: usize = nonce.rsplit('-').next().unwrap().parse().unwrap();
    nonce.as_bytes().repeat(1 + number * 7919 % 900)
}

/// Answers requests in each framing, and breaks off now and then.
fn echo(stream: &TcpStream, seed: u64) {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut reader = BufReader::new(stream);
    let mut writer = stream;
    while let Some(head) = read_head(&mut reader) {
        let Some(received) = read_body(&mut reader, &head) else { return };
        let nonce = head
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("x-nonce: ").map(str::to_owned))
            .unwrap();
        // A body is the nonce of its request.
        assert!(received.is_empty() || received == nonce.as_bytes(), "{nonce}: {received:?}");
        let body = body_of(&nonce);
        let mut response = format!("HTTP/1.1 200 OK\r\nX-Nonce: {nonce}\r\n").into_bytes();
        let is_closed = match random.random_range(0..6) {
            0 => {
                response.extend(b"Connection: close\r\n\r\n");
                response.extend(&body);
                true
            }
            1 | 2 => {
                response.extend(b"Transfer-Encoding: chunked\r\n\r\n");
                for chunk in body.chunks(random.random_range(1..9_000)) {
                    response.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
                    response.extend(chunk);
                    response.extend(b"\r\n");
                }
                response.extend(b"0\r\n\r\n");
                false
            }
            _ => {
                response.extend(format!("Content-Length: {}\r\n\r\n", body.len()).into_bytes());
                response.extend(&body);
                false
            }
        };
        let is_broken = random.random_ratio(1, 40) && !is_closed;
        if is_broken {
            response.truncate(random.random_range(0..response.len()));
        }
        for piece in response.chunks(random.random_range(100..40_000)) {
            if writer.write_all(piece).is_err() {
                return;
            }
        }
        if is_broken || is_closed {
            return;
        }
    }
}

/// A key, and whether its revocation has begun, and whether it was answered.
struct Key {
    id: String,
    secret: String,
    is_being_revoked: AtomicBool,
    is_revoked: AtomicBool,
}

/// What all clients share.
struct Load {
    address: String,
    keys: Mutex<Vec<Arc<Key>>>,
    ends: Instant,
    whole: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
}

impl Load {
    /// Sends requests until the end. Returns what is wrong.
    fn run(&self, client: u64) -> Result<(), String> {
        let mut random = SmallRng::seed_from_u64(client);
        let mut connection: Option<BufReader<TcpStream>> = None;
        let mut number = 0;
        while Instant::now() < self.ends {
            number += 1;
            let nonce = format!("client-{client}-{number}");
            let stream = if let Some(stream) = connection.take() {
                stream
            } else {
                let stream = TcpStream::connect(&self.address).map_err(|error| error.to_string())?;
                stream.set_read_timeout(Some(WAIT_TIMEOUT)).unwrap();
                BufReader::new(stream)
            };
            connection = self.request(stream, &nonce, &mut random)?;
        }
        Ok(())
    }

    /// Sends a request. Returns the connection if it can be used again.
    fn request(
        &self,
        mut reader: BufReader<TcpStream>,
        nonce: &str,
        random: &mut SmallRng,
    ) -> Result<Option<BufReader<TcpStream>>, String> {
        let key = {
            let keys = self.keys.lock().unwrap();
            Arc::clone(&keys[random.random_range(0..keys.len())])
        };
        let was_revoked = key.is_revoked.load(Ordering::SeqCst);
        let (line, body) = if random.random_ratio(1, 3) { ("POST", nonce) } else { ("GET", "") };
        let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let request = format!(
            "{line} /{nonce} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {}\r\nX-Nonce: {nonce}\r\n{length}\r\n{body}",
            key.secret
        );
        if reader.get_mut().write_all(request.as_bytes()).is_err() {
            return Ok(None);
        }
        if random.random_ratio(1, 30) {
            // The client breaks off.
            let mut part = [0; 50];
            let _ = reader.read(&mut part);
            return Ok(None);
        }
        let Some(head) = read_head(&mut reader) else { return Ok(None) };
        let lower = head.to_ascii_lowercase();
        let status = head.split(' ').nth(1).unwrap_or_default();
        let closes = lower.contains("connection: close");
        let is_framed = lower.contains("content-length:") || lower.contains("transfer-encoding:");
        let body = if is_framed {
            read_body(&mut reader, &head)
        } else {
            let mut body = Vec::new();
            reader.read_to_end(&mut body).ok().map(|_| body)
        };
        match status {
            "200" => {
                if was_revoked {
                    return Err(format!("{nonce}: a revoked key was accepted"));
                }
                if !lower.contains(&format!("x-nonce: {nonce}\r\n")) {
                    return Err(format!("{nonce}: the response of another request: {head}"));
                }
                let expected = body_of(nonce);
                match body {
                    Some(body) if body == expected => self.whole.fetch_add(1, Ordering::Relaxed),
                    // Without framing, a response that breaks off looks whole.
                    Some(body) if !is_framed && expected.starts_with(&body) => {
                        self.failed.fetch_add(1, Ordering::Relaxed)
                    }
                    Some(_) => return Err(format!("{nonce}: a wrong body")),
                    None => {
                        self.failed.fetch_add(1, Ordering::Relaxed);
                        return Ok(None);
                    }
                };
            }
            "401" if key.is_being_revoked.load(Ordering::SeqCst) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
            }
            "502" | "503" | "504" => {
                self.failed.fetch_add(1, Ordering::Relaxed);
            }
            _ => return Err(format!("{nonce}: an unexpected response: {head}")),
        }
        Ok((!closes && is_framed).then_some(reader))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_response_is_that_of_another_request_and_no_revoked_key_is_accepted() {
    let endpoints: Vec<_> = (0..3).map(Endpoint::start).collect();
    let urls: Vec<_> = endpoints.iter().map(|endpoint| endpoint.url.clone()).collect();
    let gateway = json!({
        "threads": 2,
        "routes": [{"name": "all", "upstream": "api"}],
        "upstreams": {"api": {"endpoints": urls, "retries": {"attempts": 2, "budget_percent": 100}}}
    });
    let keygate = Keygate::serve(&gateway, &json!({}));
    let seconds = std::env::var("CHAOS_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SECONDS);
    let load = Arc::new(Load {
        address: keygate.gateway.trim_start_matches("http://").to_owned(),
        keys: Mutex::default(),
        ends: Instant::now() + Duration::from_secs(seconds),
        whole: AtomicU64::new(0),
        refused: AtomicU64::new(0),
        failed: AtomicU64::new(0),
    });
    let issue = async |number: usize| {
        let key = keygate.issue(json!({"name": format!("chaos {number}"), "actor_id": "chaos"})).await;
        Arc::new(Key {
            id: key.0,
            secret: key.1,
            is_being_revoked: AtomicBool::default(),
            is_revoked: AtomicBool::default(),
        })
    };
    for number in 0..8 {
        let key = issue(number).await;
        load.keys.lock().unwrap().push(key);
    }
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let load = Arc::clone(&load);
            std::thread::spawn(move || load.run(client))
        })
        .collect();
    let mut number = 0;
    while Instant::now() < load.ends {
        number += 1;
        let key = Arc::clone(&load.keys.lock().unwrap()[number % 8]);
        key.is_being_revoked.store(true, Ordering::SeqCst);
        let revoked = keygate.post(&format!("issuedApiKeys/{}:revoke", key.id), &json!({})).await;
        assert!(revoked.status().is_success());
        key.is_revoked.store(true, Ordering::SeqCst);
        endpoints[number % 3].kill_connections();
        let key = issue(number).await;
        // The revoked key stays in use for some time.
        load.keys.lock().unwrap()[(number + 4) % 8] = key;
    }
    for client in clients {
        client.join().unwrap().unwrap();
    }
    let [whole, refused, failed] =
        [&load.whole, &load.refused, &load.failed].map(|count| count.load(Ordering::Relaxed));
    println!("{whole} whole responses, {refused} refused, {failed} failed");
    assert!(whole > 100 && refused > 10, "{whole} {refused} {failed}");
}
