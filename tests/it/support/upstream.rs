//! An upstream server on plain sockets that records request heads byte for byte.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

use super::wait::wait_for;

/// Records the heads of requests and answers 200 with the path and the length of the body.
///
/// A request whose path ends with `/held` is answered only after [`Upstream::release`].
pub(crate) struct Upstream {
    pub(crate) url: String,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    heads: Mutex<Vec<String>>,
    is_released: Mutex<bool>,
    released: Condvar,
}

impl Upstream {
    /// Starts an upstream; it ends with the test process.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let state = Arc::clone(&shared);
                std::thread::spawn(move || serve(&stream.unwrap(), &state));
            }
        });
        Self { url, state }
    }

    /// All heads received so far.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.state.heads.lock().unwrap().clone()
    }

    /// Waits until a number of requests to `/held` paths have arrived.
    pub(crate) async fn holds(&self, requests: usize) {
        let is_held = |head: &&String| head.split(' ').nth(1).is_some_and(|path| path.ends_with("/held"));
        wait_for(async || match self.heads().iter().filter(is_held).count() {
            count if count == requests => Ok(()),
            count => Err(format!("{count} of {requests} requests are held")),
        })
        .await;
    }

    /// Answers all held requests, also those to come.
    pub(crate) fn release(&self) {
        *self.state.is_released.lock().unwrap() = true;
        self.state.released.notify_all();
    }
}

fn serve(stream: &TcpStream, state: &State) {
    let mut reader = BufReader::new(stream);
    while let Some(head) = read_head(&mut reader) {
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let length = header(&head, "content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        state.heads.lock().unwrap().push(head);
        if path.ends_with("/held") {
            drop(state.released.wait_while(state.is_released.lock().unwrap(), |is_released| !*is_released).unwrap());
        }
        let read = std::io::copy(&mut (&mut reader).take(length), &mut std::io::sink()).unwrap_or(0);
        let body = format!("path={path} body={read}");
        let fields = "Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nX-Kept: 1\r\n";
        let response = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len());
        if (&*stream).write_all(response.as_bytes()).is_err() {
            return;
        }
    }
}

fn read_head(reader: &mut impl BufRead) -> Option<String> {
    let mut head = String::new();
    loop {
        let before = head.len();
        reader.read_line(&mut head).ok().filter(|read| *read > 0)?;
        if head.len() - before == 2 {
            return Some(head);
        }
    }
}

/// The value of a field in a head.
pub(crate) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (field, value) = line.split_once(':')?;
        field.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}
