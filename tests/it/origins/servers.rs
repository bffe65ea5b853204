//! The origins, each as lenient as it can be configured, and what they have seen.

use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

use keygate_test_servers::{Peer, PeerProgram, free_port};
use tempfile::TempDir;

use crate::support::raw_upstream::RawUpstream;

// Each log line is `id status method target`; the id is `-` if the request has none, or none was read.

const NGINX: &str = r#"events {}
http {
    log_format seen '$http_x_request_id $status $request';
    keepalive_requests 1000000000;
    client_max_body_size 0;
    ignore_invalid_headers off;
    underscores_in_headers on;
    server {
        listen 127.0.0.1:PORT;
        access_log LOG seen;
        location / { return 200 "$request_uri"; }
    }
}"#;

const APACHE: &str = r#"LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule alias_module /usr/lib/apache2/modules/mod_alias.so
User nobody
Group nogroup
ServerName origin
Listen 127.0.0.1:PORT
KeepAlive On
MaxKeepAliveRequests 0
KeepAliveTimeout 600
HttpProtocolOptions Unsafe LenientMethods Allow0.9
ErrorDocument 410 "%{REQUEST_URI}"
Redirect gone /
LogFormat "%{X-Request-Id}i %>s %m %U%q" seen
CustomLog LOG seen
"#;

const HAPROXY: &str = "defaults
 mode http
 option accept-invalid-http-request
 http-reuse always
 timeout connect 60s
 timeout client 600s
 timeout http-keep-alive 600s
 timeout server 60s
listen origin
 bind 127.0.0.1:PORT
 server backend BACKEND
";

const VARNISH: &str = r#"vcl 4.1;
backend default { .host = "BACKEND_HOST"; .port = "BACKEND_PORT"; }
sub vcl_recv { return (pass); }
"#;

const PYTHON: &str = r#"from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

log = open("LOG", "a", buffering=1)

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def answer(self):
        id = self.headers.get("X-Request-Id", "-")
        log.write(f"{id} 200 {self.command} {self.path}\n")
        self.read_body()
        body = self.path.encode("latin-1")
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def read_body(self):
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                self.rfile.read(size + 2)
            while self.rfile.readline() not in (b"\r\n", b"\n", b""):
                pass
        else:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def __getattr__(self, name):
        if name.startswith("do_"):
            return self.answer
        raise AttributeError(name)

    def send_error(self, code, message=None, explain=None):
        log.write(f"- {code} {self.requestline}\n")
        super().send_error(code, message, explain)

    def log_message(self, *arguments):
        pass

ThreadingHTTPServer.daemon_threads = True
ThreadingHTTPServer.request_queue_size = 128
ThreadingHTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
"#;

const NODE: &str = r#"const http = require("node:http");
const fs = require("node:fs");
const log = fs.openSync("LOG", "a");
const note = (line) => fs.writeSync(log, line + "\n");
const options = { insecureHTTPParser: true, requireHostHeader: false, keepAliveTimeout: 600000 };
const server = http.createServer(options, (request, response) => {
    note(`${request.headers["x-request-id"] ?? "-"} 200 ${request.method} ${request.url}`);
    request.resume();
    request.on("end", () => response.end(request.url));
});
server.on("clientError", (error, socket) => {
    // What precedes the error in the packet. A client that goes away is no request.
    const [, id] = /^x-request-id: (\S+)/im.exec(error.rawPacket) ?? [, "-"];
    if (error.code.startsWith("HPE_") && error.code !== "HPE_INVALID_EOF_STATE") note(`${id} 400 - ${error.code}`);
    socket.destroy();
});
server.listen(PORT, "127.0.0.1");
"#;

/// A server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Nginx,
    Apache,
    /// In front of an upstream that records what it receives.
    Haproxy,
    /// The same.
    Varnish,
    Python,
    Node,
    /// Python with a handler that does not read bodies, so that they are taken for requests.
    Careless,
}

/// A running server.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) kind: Kind,
    port: u16,
    log: PathBuf,
    /// How much of the log was read.
    position: u64,
    backend: Option<RawUpstream>,
    _peer: Peer,
    _folder: TempDir,
}

/// A request as the server has understood it.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) id: Option<String>,
    pub(super) status: u16,
    pub(super) method: String,
    pub(super) target: String,
}

impl Kind {
    fn program(self) -> (PeerProgram, &'static str) {
        match self {
            Self::Nginx => (PeerProgram::Nginx, NGINX),
            Self::Apache => (PeerProgram::Apache, APACHE),
            Self::Haproxy => (PeerProgram::Haproxy, HAPROXY),
            Self::Varnish => (PeerProgram::Varnish, VARNISH),
            Self::Python | Self::Careless => (PeerProgram::Python, PYTHON),
            Self::Node => (PeerProgram::Node, NODE),
        }
    }
}

impl Origin {
    /// `None` if the program is not installed, after a line on stderr.
    pub(super) fn start(kind: Kind) -> Option<Self> {
        let folder = TempDir::new().unwrap();
        let log = folder.path().join("seen");
        let port = free_port();
        let backend = matches!(kind, Kind::Haproxy | Kind::Varnish).then(RawUpstream::start);
        let (program, config) = kind.program();
        let mut config = config.replace("LOG", log.to_str().unwrap());
        if matches!(kind, Kind::Careless) {
            config = config.replace("        self.read_body()\n", "");
        }
        if let Some(backend) = &backend {
            let address = backend.url.trim_start_matches("http://");
            let (host, backend_port) = address.split_once(':').unwrap();
            config = config.replace("BACKEND_HOST", host).replace("BACKEND_PORT", backend_port);
            config = config.replace("BACKEND", address);
        }
        let peer = program.start(&config.replace("PORT", &port.to_string()), port)?;
        Some(Self { kind, port, log, position: 0, backend, _peer: peer, _folder: folder })
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The requests since the last call.
    pub(super) fn take(&mut self) -> Vec<Seen> {
        if let Some(backend) = &self.backend {
            return backend.take().iter().map(|request| Seen::recorded(&request.head)).collect();
        }
        let Ok(mut file) = std::fs::File::open(&self.log) else { return Vec::new() };
        file.seek(SeekFrom::Start(self.position)).unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        // The last line may not be complete.
        let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        self.position += end as u64;
        String::from_utf8_lossy(&bytes[..end]).lines().map(Seen::logged).collect()
    }
}

impl Seen {
    /// A line of a log.
    fn logged(line: &str) -> Self {
        let mut parts = line.splitn(4, ' ');
        let mut part = || parts.next().unwrap_or_default().to_owned();
        let (id, status, method, target) = (part(), part(), part(), part());
        // nginx logs the whole request line.
        let target = target.split(" HTTP/").next().unwrap_or_default().to_owned();
        Self { id: (id != "-").then_some(id), status: status.parse().unwrap_or_default(), method, target }
    }

    /// A head that an upstream has recorded.
    fn recorded(head: &str) -> Self {
        let mut line = head.lines().next().unwrap_or_default().split(' ');
        let mut part = || line.next().unwrap_or_default().to_owned();
        let fields = head.lines().filter_map(|line| line.split_once(": "));
        let mut ids = fields.filter(|(name, _)| name.eq_ignore_ascii_case("x-request-id"));
        let id = ids.next().map(|(_, value)| value.to_owned());
        Self { id, status: 200, method: part(), target: part() }
    }

    /// Whether the server took it for a whole request. Apache answers these with 410.
    pub(super) fn is_accepted(&self) -> bool {
        matches!(self.status, 200 | 410)
    }
}
