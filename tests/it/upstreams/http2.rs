//! HTTP/2 upstreams that refuse requests, on plain frames.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use reqwest::{Client, Method};
use serde_json::{Value, json};

use super::load::send;
use super::{endpoint_metric, start_with};
use crate::support::keygate::merge;
use crate::support::wait::wait_for;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const NO_ERROR: u8 = 0;
const REFUSED_STREAM: u8 = 7;
const ENHANCE_YOUR_CALM: u8 = 11;
/// What a client sends first (RFC 9113 section 3.4).
const PREFACE: usize = 24;

/// What the server does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reply {
    /// A response with status 200 and without a body.
    Ok,
    /// A response with status 500.
    Error,
    /// `RST_STREAM` with a code.
    Reset(u8),
    /// GOAWAY with a code: the request is above the last one that is processed.
    GoAwayBelow(u8),
    /// Nothing.
    Silence,
    /// GOAWAY without an error, and the end of the connection: the request may have been processed.
    GoAwayWith,
}

/// A server that replies to its requests by their number, from 0.
struct Server {
    url: String,
    /// The connection of each request.
    requests: Arc<Mutex<Vec<usize>>>,
}

impl Server {
    fn start(rule: impl Fn(usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::default();
        let (rule, shared) = (Arc::new(rule), Arc::clone(&requests));
        std::thread::spawn(move || {
            for (connection, stream) in listener.incoming().enumerate() {
                let (rule, shared) = (Arc::clone(&rule), Arc::clone(&shared));
                // Ends with an error when the client closes the connection.
                std::thread::spawn(move || serve(&stream.unwrap(), &*rule, connection, &shared));
            }
        });
        Self { url, requests }
    }

    /// The number of requests so far.
    fn count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

fn serve(
    mut stream: &TcpStream,
    rule: &dyn Fn(usize) -> Reply,
    connection: usize,
    requests: &Mutex<Vec<usize>>,
) -> std::io::Result<()> {
    stream.read_exact(&mut [0; PREFACE])?;
    stream.write_all(&frame(SETTINGS, 0, 0, &[]))?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head)?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        stream.read_exact(&mut payload)?;
        let (kind, flags) = (head[3], head[4]);
        let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        match kind {
            SETTINGS if flags & ACK == 0 => stream.write_all(&frame(SETTINGS, ACK, 0, &[]))?,
            PING if flags & ACK == 0 => stream.write_all(&frame(PING, ACK, 0, &payload))?,
            HEADERS | DATA if flags & END_STREAM != 0 => {
                let number = {
                    let mut requests = requests.lock().unwrap();
                    requests.push(connection);
                    requests.len() - 1
                };
                reply(stream, rule(number), id)?;
            }
            _ => {}
        }
    }
}

fn reply(mut stream: &TcpStream, reply: Reply, id: u32) -> std::io::Result<()> {
    let code = |code: u8| [0, 0, 0, code];
    // The statuses 200 and 500 in the static table of HPACK.
    let response = |status: u8| frame(HEADERS, END_HEADERS | END_STREAM, id, &[status]);
    let go_away = |last: u32, error: u8| frame(GOAWAY, 0, 0, &[last.to_be_bytes(), code(error)].concat());
    match reply {
        Reply::Ok => stream.write_all(&response(0x88)),
        Reply::Error => stream.write_all(&response(0x8e)),
        Reply::Reset(error) => stream.write_all(&frame(RST_STREAM, 0, id, &code(error))),
        Reply::GoAwayBelow(error) => stream.write_all(&go_away(id.saturating_sub(2), error)),
        Reply::Silence => Ok(()),
        Reply::GoAwayWith => {
            stream.write_all(&go_away(id, NO_ERROR))?;
            stream.shutdown(Shutdown::Both)
        }
    }
}

fn frame(kind: u8, flags: u8, id: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [length[1], length[2], length[3], kind, flags];
    [&head[..], &id.to_be_bytes(), payload].concat()
}

fn settings(more: &Value) -> Value {
    let mut settings = json!({"protocol": "http2"});
    merge(&mut settings, more);
    settings
}

#[tokio::test]
async fn refused_request_is_sent_again_whatever_its_method_is() {
    for refusal in [Reply::Reset(REFUSED_STREAM), Reply::GoAwayBelow(NO_ERROR), Reply::GoAwayBelow(ENHANCE_YOUR_CALM)] {
        // Each second request is refused, on new connections and on those that have served one.
        let server = Server::start(move |number| if number % 2 == 0 { refusal } else { Reply::Ok });
        let keygate = start_with(std::slice::from_ref(&server.url), &settings(&json!({})));
        let client = Client::new();
        for (number, method) in [Method::POST, Method::GET, Method::PATCH].iter().enumerate() {
            assert_eq!(send(&client, method, &keygate.gateway).await, 200, "{refusal:?} {method}");
            assert_eq!(server.count(), 2 * (number + 1), "{refusal:?} {method}");
        }
        let ejections = endpoint_metric(&keygate, "keygate_upstream_ejections_total", &server.url, "").await;
        assert_eq!(ejections, 0, "{refusal:?}");
    }
}

#[tokio::test]
async fn refused_request_is_sent_as_often_as_configured() {
    for refusal in [Reply::Reset(REFUSED_STREAM), Reply::GoAwayBelow(NO_ERROR)] {
        for attempts in [0, 1, 3] {
            let server = Server::start(move |_| refusal);
            let keygate =
                start_with(std::slice::from_ref(&server.url), &settings(&json!({"retries": {"attempts": attempts}})));
            assert_eq!(send(&Client::new(), &Method::POST, &keygate.gateway).await, 502, "{refusal:?} {attempts}");
            assert_eq!(server.count(), 1 + attempts, "{refusal:?}");
        }
    }
}

#[tokio::test]
async fn request_that_may_have_been_processed_is_not_refused() {
    const CANCEL: u8 = 8;
    for failure in [Reply::GoAwayWith, Reply::Reset(CANCEL)] {
        let servers = [(); 2].map(|()| Server::start(move |_| failure));
        let urls = servers.each_ref().map(|server| server.url.clone());
        let keygate = start_with(&urls, &settings(&json!({})));
        assert_eq!(send(&Client::new(), &Method::POST, &keygate.gateway).await, 502, "{failure:?}");
        assert_eq!(servers.iter().map(Server::count).sum::<usize>(), 1, "{failure:?}");
        assert_eq!(send(&Client::new(), &Method::GET, &keygate.gateway).await, 502, "{failure:?}");
        assert_eq!(servers.iter().map(Server::count).sum::<usize>(), 3, "{failure:?}");
    }
}

#[tokio::test]
async fn health_is_checked_over_http2() {
    let is_healthy = Arc::new(Mutex::new(true));
    let shared = Arc::clone(&is_healthy);
    let server = Server::start(move |_| if *shared.lock().unwrap() { Reply::Ok } else { Reply::Error });
    let check = json!({"path": "/health", "interval": "30ms", "unhealthy_after": 1, "healthy_after": 1});
    let keygate = start_with(std::slice::from_ref(&server.url), &settings(&json!({"health_check": check})));
    for healthy in [true, false, true] {
        *is_healthy.lock().unwrap() = healthy;
        let before = server.count();
        wait_for(async || match endpoint_metric(&keygate, "keygate_upstream_healthy", &server.url, "").await {
            shown if (shown == 1) == healthy && server.count() > before => Ok(()),
            shown => Err(format!("keygate_upstream_healthy is {shown}")),
        })
        .await;
    }
}

#[tokio::test]
async fn connection_on_which_a_response_is_late_gets_no_more_requests() {
    // It could be dead.
    let server = Server::start(|number| if number == 1 { Reply::Silence } else { Reply::Ok });
    let more = json!({"first_byte_timeout": "500ms", "retries": {"attempts": 0}});
    let keygate = start_with(std::slice::from_ref(&server.url), &settings(&more));
    for status in [200, 504, 200, 200] {
        assert_eq!(send(&Client::new(), &Method::GET, &keygate.gateway).await, status);
    }
    assert_eq!(*server.requests.lock().unwrap(), [0, 0, 1, 1]);
}
