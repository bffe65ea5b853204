"""HTTP/1.1 clients of the training: raw sockets that are kept alive, and curl for HTTP/2."""

import shutil
import socket
import subprocess

# Seconds for one response. A longer wait is a failure.
DEADLINE = 60


class Failure(Exception):
    """A response that is not as expected, or none."""


class Connection:
    """A connection that is kept alive, with one request in flight."""

    def __init__(self, port, tls=None):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")
        self.received = b""

    def close(self):
        self.socket.close()

    def send(self, request):
        self.socket.sendall(request)

    def receive(self, has_body=True):
        """The status and the body of the next response."""
        head = self._until(b"\r\n\r\n")
        status, fields = int(head[9:12]), head.lower()
        if not has_body or status in (204, 304):
            return status, b""
        if b"\r\ntransfer-encoding: chunked" in fields:
            return status, self._chunks()
        _, found, length = fields.partition(b"\r\ncontent-length:")
        if not found:
            raise Failure(f"a response without a length: {head.decode(errors='replace')}")
        return status, self._exactly(int(length.split(b"\r\n", 1)[0]))

    def _chunks(self):
        body = b""
        while size := int(self._until(b"\r\n"), 16):
            body += self._exactly(size + 2)[:-2]
        self._exactly(2)
        return body

    def _until(self, end):
        while (position := self.received.find(end)) < 0:
            self._more()
        position += len(end)
        found, self.received = self.received[:position], self.received[position:]
        return found

    def _exactly(self, count):
        while len(self.received) < count:
            self._more()
        found, self.received = self.received[:count], self.received[count:]
        return found

    def _more(self):
        data = self.socket.recv(65536)
        if not data:
            raise Failure("the connection was closed before the end of a response")
        self.received += data


def has_http2():
    if not shutil.which("curl"):
        return False
    return "HTTP2" in subprocess.run(["curl", "--version"], capture_output=True, text=True, check=True).stdout


def http2(url, key, count, certificate):
    """Sends requests over HTTP/2 and TLS, several at a time on one connection; the status of each."""
    # Not in clear text with prior knowledge: curl 7.88, of Debian 12, fails there when it uses a connection again.
    command = ["curl", "--silent", "--show-error", "--config", "-", "--http2", "--ipv4", "--cacert", certificate, "--noproxy", "*"]
    command += ["--parallel", "--parallel-max", "8", "--output", "/dev/null", "--write-out", "%{http_version} %{http_code}\n"]
    config = f'header = "Authorization: Bearer {key}"\n'
    url = f"{url}?n=[1-{count}]"
    done = subprocess.run([*command, url], input=config, capture_output=True, text=True, timeout=2 * DEADLINE)
    lines = done.stdout.split("\n")[:-1]
    if done.returncode != 0 or len(lines) != count or not all(line.startswith("2 ") for line in lines):
        raise Failure(f"curl over HTTP/2 to {url}: code {done.returncode}, {len(lines)} of {count} responses: {done.stderr}")
    return [int(line[2:]) for line in lines]
