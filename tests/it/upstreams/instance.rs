//! An instance of an upstream on plain sockets, which fails as a test says.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use keygate_test_servers::eventually;

use crate::support::upstream::header;

/// What an instance does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reply {
    /// A response with a status; the connection stays open.
    Status(u16),
    /// The connection is closed without a response.
    Close,
    /// The connection is closed after a part of a head.
    PartialHead,
    /// Nothing until [`Instance::release`], then 200.
    Hold,
    /// The head of a response; its body comes after [`Instance::release`].
    Stall,
}

/// A request. The rule of an instance sees it before its `reply` is known.
#[derive(Debug, Clone)]
pub(super) struct Received {
    pub(super) method: String,
    pub(super) path: String,
    /// 1 for the first request of a connection.
    pub(super) on_connection: usize,
    /// What the rule has said.
    pub(super) reply: Reply,
}

type Rule = Box<dyn Fn(&Received) -> Reply + Send + Sync>;

/// A running instance; its connections are closed on drop.
pub(crate) struct Instance {
    pub(crate) url: String,
    state: Arc<State>,
}

struct State {
    rule: Rule,
    received: Mutex<Vec<Received>>,
    connections: Mutex<Vec<TcpStream>>,
    is_stopped: AtomicBool,
    is_released: Mutex<bool>,
    released: Condvar,
}

impl Instance {
    /// An instance that answers 200.
    pub(crate) fn healthy() -> Self {
        Self::start(|_| Reply::Status(200))
    }

    /// An instance with a rule.
    pub(super) fn start(rule: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        Self::listen(TcpListener::bind("127.0.0.1:0").unwrap(), rule)
    }

    /// An instance that answers 200, on the address of one that has ended.
    pub(crate) fn healthy_at(url: &str) -> Self {
        let address = url.trim_start_matches("http://");
        let mut listener = None;
        eventually("the address is free", || {
            listener = TcpListener::bind(address).ok();
            listener.is_some()
        });
        Self::listen(listener.unwrap(), |_| Reply::Status(200))
    }

    /// An instance on a listening socket.
    pub(super) fn listen(listener: TcpListener, rule: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(State {
            rule: Box::new(rule),
            received: Mutex::default(),
            connections: Mutex::default(),
            is_stopped: AtomicBool::new(false),
            is_released: Mutex::default(),
            released: Condvar::new(),
        });
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.is_stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (stream, state) = (stream.unwrap(), Arc::clone(&shared));
                state.connections.lock().unwrap().push(stream.try_clone().unwrap());
                std::thread::spawn(move || serve(&stream, &state));
            }
        });
        Self { url, state }
    }

    /// All requests so far.
    pub(super) fn received(&self) -> Vec<Received> {
        self.state.received.lock().unwrap().clone()
    }

    /// The number of requests so far.
    pub(super) fn count(&self) -> usize {
        self.state.received.lock().unwrap().len()
    }

    /// How often each path was requested.
    pub(super) fn by_path(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for request in self.received() {
            *counts.entry(request.path).or_insert(0) += 1;
        }
        counts
    }

    /// Answers all held requests, also those to come.
    pub(super) fn release(&self) {
        *self.state.is_released.lock().unwrap() = true;
        self.state.released.notify_all();
    }
}

impl State {
    fn wait_for_release(&self) {
        let is_released = self.is_released.lock().unwrap();
        drop(self.released.wait_while(is_released, |is_released| !*is_released).unwrap());
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.state.is_stopped.store(true, Ordering::SeqCst);
        self.release();
        // Wakes the accepting thread, which closes the listening socket.
        let _ = TcpStream::connect(self.url.trim_start_matches("http://"));
        for connection in self.state.connections.lock().unwrap().drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

fn serve(stream: &TcpStream, state: &State) {
    let mut reader = BufReader::new(stream);
    for on_connection in 1.. {
        let Some(head) = read_head(&mut reader) else { return };
        let length = header(&head, "content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        let _ = std::io::copy(&mut (&mut reader).take(length), &mut std::io::sink());
        let mut words = head.split(' ').map(str::to_owned);
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let mut received = Received { method, path, on_connection, reply: Reply::Close };
        let reply = (state.rule)(&received);
        received.reply = reply;
        state.received.lock().unwrap().push(received);
        let (text, is_kept) = match reply {
            Reply::Status(status) => (format!("HTTP/1.1 {status} Status\r\nContent-Length: 2\r\n\r\nok"), true),
            Reply::Close => (String::new(), false),
            Reply::PartialHead => ("HTTP/1.1 2".to_owned(), false),
            Reply::Hold => {
                state.wait_for_release();
                ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_owned(), true)
            }
            Reply::Stall => {
                let _ = (&*stream).write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n");
                state.wait_for_release();
                ("ok".to_owned(), true)
            }
        };
        if (&*stream).write_all(text.as_bytes()).is_err() || !is_kept {
            let _ = stream.shutdown(Shutdown::Both);
            return;
        }
    }
}

fn read_head(reader: &mut impl BufRead) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        reader.read_line(&mut head).ok().filter(|read| *read > 0)?;
    }
    Some(head)
}
