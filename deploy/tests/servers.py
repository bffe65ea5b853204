"""Servers that the examples need: PostgreSQL, Redis, Prometheus, an application."""

import glob
import http.server
import json
import os
import pwd
import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from deploy.tests.container import get
from deploy.tests.image import can_change_owner

DEADLINE = 60


class Server:
    """A server in a folder of its own: `with Server(…) as server`. Ends with the block."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="keygate-server-"))
        self.process = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        if self.process:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder)

    def spawn(self, command):
        with open(self.folder / "log", "wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/")

    def wait_until(self, is_ready):
        end = time.monotonic() + DEADLINE
        while not is_ready():
            log = (self.folder / "log").read_text()
            assert self.process.poll() is None and time.monotonic() < end, f"the server is not ready: {log}"
            time.sleep(0.05)


class Postgres(Server):
    """PostgreSQL at an address, with a role and a database `keygate`."""

    # Its programs refuse to run as root, also as root of a user namespace.
    IS_POSSIBLE = can_change_owner()

    def __init__(self, address="127.0.0.1", password=None):
        super().__init__()
        self.address, self.password = address, password
        self.programs = Path(sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))[-1]).parent
        self.dsn = f"postgres://keygate{f':{password}' if password else ''}@{address}/keygate"

    def start(self):
        account = pwd.getpwnam("postgres")
        user = ["setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
        os.chown(self.folder, account.pw_uid, account.pw_gid)
        data = str(self.folder / "data")
        options = ["--no-sync", "--auth=trust", "--username=keygate", "--encoding=UTF8", "--locale=C.UTF-8"]
        subprocess.run([*user, self.programs / "initdb", *options, data], check=True, stdout=subprocess.DEVNULL, cwd="/")
        settings = ["-k", str(self.folder), "-h", self.address, "-c", "fsync=off"]
        self.spawn([*user, self.programs / "postgres", "-D", data, *settings])
        ready = [self.programs / "pg_isready", "--quiet", "--host", self.address]
        self.wait_until(lambda: subprocess.run(ready).returncode == 0)
        subprocess.run([self.programs / "createdb", "--host", self.address, "--username", "keygate", "keygate"], check=True)


class Redis(Server):
    def __init__(self, address, *options):
        super().__init__()
        self.address, self.options = address, options

    def start(self):
        self.spawn(["redis-server", "--bind", self.address, "--dir", str(self.folder), "--save", "", *self.options])
        self.wait_until(lambda: b"Ready to accept connections" in (self.folder / "log").read_bytes())


class Prometheus(Server):
    def __init__(self, address, config):
        super().__init__()
        self.url, self.config = f"http://{address}:9090", config

    def start(self):
        data = f"--storage.tsdb.path={self.folder}/data"
        self.spawn(["prometheus", f"--config.file={self.config}", f"--web.listen-address={self.url[7:]}", data])
        self.wait_until(lambda: getattr(get(f"{self.url}/-/ready"), "status", None) == 200)


class Application:
    """An HTTP server that answers each request with its path and its headers, as JSON."""

    def __init__(self, address="127.0.0.1", port=9000):
        self.server = http.server.ThreadingHTTPServer((address, port), Echo)

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


class Echo(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"path": self.path, "headers": {name.lower(): value for name, value in self.headers.items()}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """The tests print no access log."""
