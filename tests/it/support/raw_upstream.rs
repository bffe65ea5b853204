//! An upstream on plain sockets that records whole requests and answers as their path says.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A page whose script fetches paths with and without the key in the fragment of its URL, and shows the status of each and the protocol.
const PAGE: &str = "<!doctype html><link rel=icon href=data:,><body><script>
(async () => {
    const key = location.hash.slice(1);
    const shown = [];
    for (const [path, headers] of [['/a', {}], ['/keys?without', {}], ['/keys?with', { Authorization: `Bearer ${key}` }]]) {
        const answer = await fetch(path, { headers, method: path === '/a' ? 'POST' : 'GET', body: path === '/a' ? 'hi' : undefined });
        await answer.text();
        const entry = performance.getEntriesByType('resource').find((entry) => entry.name.endsWith(path));
        shown.push(`${path} ${answer.status} ${entry?.nextHopProtocol}`);
    }
    document.body.textContent = shown.join('; ');
})().catch((error) => { document.body.textContent = `failed: ${error}`; });
</script>";

/// A page that calls another origin. The fragment of its URL is a key and the other origin, separated by a comma. It shows the outcome of
/// each call: the status, whether the request id can be read, and the body, or its `code` if it is a problem.
const CROSS_ORIGIN_PAGE: &str = "<!doctype html><link rel=icon href=data:,><body><script>
(async () => {
    const [key, other] = location.hash.slice(1).split(',');
    const call = async (path, init) => {
        try {
            const answer = await fetch(other + path, init);
            const body = await answer.text();
            const id = answer.headers.get('x-request-id') ? 'id' : 'no id';
            return `${path} ${answer.status} ${id} ${body.startsWith('{') ? JSON.parse(body).code : body}`;
        } catch (error) {
            return `${path} failed`;
        }
    };
    const headers = { Authorization: `Bearer ${key}`, 'Content-Type': 'application/json' };
    document.body.textContent = [
        await call('/keys/without', {}),
        await call('/keys/with', { method: 'PUT', headers, body: '{}' }),
        await call('/keys/header', { headers: { ...headers, 'X-Other': '1' } }),
        await call('/plain/with', { headers }),
        await call('/plain/without', {}),
    ].join('; ');
})().catch((error) => { document.body.textContent = `failed: ${error}`; });
</script>";

/// Records requests. The path of a request selects the answer, see [`answer`].
#[derive(Debug)]
pub(crate) struct RawUpstream {
    pub(crate) url: String,
    requests: Arc<Mutex<Vec<ReceivedRequest>>>,
}

/// A request as the upstream has received it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReceivedRequest {
    /// The request line and the fields, each line with CR LF.
    pub(crate) head: String,
    /// The decoded body.
    pub(crate) body: Vec<u8>,
}

impl ReceivedRequest {
    /// Method, target and body, as one text.
    pub(crate) fn summary(&self) -> String {
        let line = self.head.lines().next().unwrap_or_default();
        let line = line.trim_end_matches(" HTTP/1.1");
        format!("{line} {}", String::from_utf8_lossy(&self.body)).trim_end().to_owned()
    }

    /// The names of the fields, in lower case.
    pub(crate) fn names(&self) -> Vec<String> {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        fields.map(|(name, _)| name.to_ascii_lowercase()).collect()
    }
}

impl RawUpstream {
    /// Starts an upstream; it ends with the test process.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let requests = Arc::clone(&shared);
                std::thread::spawn(move || serve(&stream.unwrap(), &requests));
            }
        });
        Self { url, requests }
    }

    /// The summaries of the requests since the last call.
    pub(crate) fn take_summaries(&self) -> Vec<String> {
        self.take().iter().map(ReceivedRequest::summary).collect()
    }

    /// The requests since the last call.
    pub(crate) fn take(&self) -> Vec<ReceivedRequest> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }
}

fn serve(stream: &TcpStream, requests: &Mutex<Vec<ReceivedRequest>>) {
    let mut reader = BufReader::new(stream);
    let mut writer = stream;
    let mut is_reused = false;
    while let Some(head) = read_head(&mut reader) {
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        if path == "/early" {
            // The body is not read before the answer.
            requests.lock().unwrap().push(ReceivedRequest { head, body: Vec::new() });
            let _ = writer.write_all(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 5\r\n\r\nlarge");
            let _ = std::io::copy(&mut reader, &mut std::io::sink());
            return;
        }
        if path == "/continue" {
            let _ = writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        let Some(body) = read_body(&mut reader, &head) else { return };
        requests.lock().unwrap().push(ReceivedRequest { head: head.clone(), body });
        if path == "/once" && std::mem::replace(&mut is_reused, true) {
            return;
        }
        let (response, is_kept) = answer(&head, &path);
        if writer.write_all(&response).is_err() || !is_kept {
            let _ = stream.shutdown(Shutdown::Write);
            return;
        }
        if path == "/upgrade" {
            let _ = std::io::copy(&mut reader, &mut writer);
            let _ = stream.shutdown(Shutdown::Write);
            return;
        }
    }
}

/// The answer to a request, and whether the connection is kept. A field `X-Answer: STATUS; NAME: VALUE; …` asks for a status and fields.
fn answer(head: &str, path: &str) -> (Vec<u8>, bool) {
    if let Some(wanted) = head.lines().find_map(|line| line.strip_prefix("x-answer: ")) {
        let lines: Vec<_> = wanted.split("; ").collect();
        return (format!("HTTP/1.1 {}\r\nContent-Length: 0\r\n\r\n", lines.join("\r\n")).into_bytes(), true);
    }
    let text = match path {
        "/drop" => "",
        "/chunked" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\n\r\n",
        "/malformed-chunk" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n",
        "/close" => "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end",
        "/malformed" => "HTTP/1.1 200 OK\r\nSet-Cookie: session=of-the-upstream\r\nno colon\r\n\r\n",
        "/malformed-length" => "HTTP/1.1 200 OK\r\nContent-Length: of-the-upstream\r\n\r\n",
        "/truncated" => "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nabc",
        "/cors" => {
            "HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nAccess-Control-Allow-Credentials: true\r\nVary: Accept\r\n\
             Content-Length: 2\r\n\r\nok"
        }
        "/204" => "HTTP/1.1 204 No Content\r\n\r\n",
        "/304" => "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n",
        "/hints" => "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "/unasked" => "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        "/upgrade" => "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhello",
        "/head" => "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n",
        _ if head.starts_with("HEAD ") => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",
        _ => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    };
    if path.starts_with("/echo/") {
        let body = if head.starts_with("HEAD ") { "" } else { path };
        return (format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", path.len()).into_bytes(), true);
    }
    let page = match path {
        "/page" => PAGE,
        "/page/cors" => CROSS_ORIGIN_PAGE,
        _ => "",
    };
    if !page.is_empty() {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n", page.len());
        return ([head.as_bytes(), page.as_bytes()].concat(), true);
    }
    if let Some(size) = path.strip_prefix("/big/") {
        let size: usize = size.parse().unwrap();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n");
        return ([head.into_bytes(), vec![b'x'; size]].concat(), true);
    }
    (
        text.as_bytes().to_vec(),
        !matches!(path, "/drop" | "/close" | "/unasked" | "/malformed" | "/malformed-length" | "/truncated"),
    )
}

/// Reads a head, without its last empty line.
pub(crate) fn read_head(reader: &mut impl BufRead) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        reader.read_until(b'\n', &mut head).ok().filter(|read| *read > 0)?;
    }
    head.truncate(head.len() - 2);
    Some(String::from_utf8_lossy(&head).into_owned())
}

/// Reads a body as a strict recipient: a length, or chunks without extensions and trailers.
pub(crate) fn read_body(reader: &mut impl BufRead, head: &str) -> Option<Vec<u8>> {
    let field = |name: &str| {
        let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let mut body = Vec::new();
    if field("transfer-encoding:").is_some() {
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
            let size = usize::from_str_radix(line.trim_end(), 16).ok()?;
            let mut chunk = vec![0; size + 2];
            reader.read_exact(&mut chunk).ok()?;
            body.extend(&chunk[..size]);
            if size == 0 {
                return Some(body);
            }
        }
    }
    let length = field("content-length:").map_or(Some(0), |length| length.parse().ok())?;
    reader.take(length).read_to_end(&mut body).ok()?;
    (body.len() as u64 == length).then_some(body)
}
