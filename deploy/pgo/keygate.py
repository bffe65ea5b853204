"""The Keygate that is trained: its configuration, its process, and calls of its admin API."""

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from client import Failure

# Seconds for the start and for the end. Instrumented code is slow.
DEADLINE = 120
SCOPE = "orders:read"
# No load reaches it.
AMPLE = {"quota": 1_000_000_000, "window": "1h"}
ROUTES = [
    {"name": "orders", "path_prefix": "/orders", "upstream": "api", "scopes": [SCOPE], "limits": ["ample"]},
    {"name": "reports", "path_prefix": "/reports", "upstream": "api", "scopes": ["reports:read"]},
    {"name": "public", "path_prefix": "/public", "upstream": "api", "auth": "none"},
]
# What an access proxy sets at least. The default is all fields.
FEW_FIELDS = ["x-keygate-actor-id", "x-request-id", "x-forwarded-for"]


class Keygate:
    """`keygate serve` in a folder: `with Keygate(…) as keygate`. `variant` says how the section `gateway` differs."""

    def __init__(self, binary, folder, upstream_port, profiles, variant):
        self.binary, self.folder, self.profiles = Path(binary).resolve(), Path(folder), profiles
        self.admin, self.metrics, self.gateway, self.secure, self.authorizer = free_ports(5)
        self.certificate = make_certificate(self.folder)
        self.config = self.folder / "keygate.json"
        self.config.write_text(json.dumps(self._configuration(upstream_port, variant)))
        self.process = None

    def __enter__(self):
        self.log = open(self.folder / "log", "wb")
        command = [self.binary, "serve", "--config", self.config]
        self.process = subprocess.Popen(command, env=self.environment(), stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        try:
            self._wait_until_ready()
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(self, *_):
        self._kill()

    def environment(self):
        """The environment of this process without settings of Keygate, with the place of the profile."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("KEYGATE_", "TALOS_", "LLVM_PROFILE"))}
        return kept | {"LLVM_PROFILE_FILE": f"{self.profiles}/keygate-%p.profraw"} if self.profiles else kept

    def call(self, path, body=None, port=None):
        """The body of a successful response of the admin API, or of another port."""
        data = None if body is None else json.dumps(body).encode()
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"http://127.0.0.1:{port or self.admin}{path}", data=data, timeout=DEADLINE) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            raise Failure(f"{path}: {error.code} {error.read().decode(errors='replace')}") from error

    def call_json(self, path, body=None):
        return json.loads(self.call(path, body))

    def tls(self):
        """Clients that trust the certificate, over TLS 1.3."""
        context = ssl.create_default_context(cafile=self.certificate[0])
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        return context

    def stop(self):
        """Ends the process as its users do, so that it writes its profile."""
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            raise Failure(f"Keygate does not end after SIGTERM: {self.output()}") from None
        if code != 0:
            raise Failure(f"Keygate ended with {code}: {self.output()}")
        profile = self.profiles and Path(self.profiles, f"keygate-{self.process.pid}.profraw")
        if profile and not (profile.is_file() and profile.stat().st_size):
            raise Failure(f"{self.binary} wrote no profile to {profile}: build it with RUSTFLAGS=-Cprofile-generate={self.profiles}")

    def output(self):
        return (self.folder / "log").read_text(errors="replace")[-4000:]

    def _wait_until_ready(self):
        end = time.monotonic() + DEADLINE
        for port in filter(None, [self.gateway, self.admin, self.authorizer, self.metrics]):
            while not accepts(port):
                if self.process.poll() is not None or time.monotonic() > end:
                    raise Failure(f"Keygate does not listen on port {port}: {self.output()}")
                time.sleep(0.05)

    def _kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.log.close()

    def _configuration(self, upstream_port, variant):
        limits = {"requests_per_connection": 1_000_000_000}
        listeners = [{"address": f"127.0.0.1:{self.gateway}", "limits": limits}]
        if self.certificate:
            certificates = [dict(zip(["certificate", "key"], self.certificate))]
            listeners.append({"address": f"127.0.0.1:{self.secure}", "limits": limits, "tls": {"certificates": certificates}})
        return {
            "serve": {"http": {"port": self.admin}, "metrics": {"host": "127.0.0.1", "port": self.metrics}},
            "credentials": {
                "issuer": "https://keys.example.com",
                "derived_tokens": {"jwt": {"signing_keys": {"urls": [f"file://{self._signing_keys()}"]}}},
            },
            "secrets": {"hmac": {"current": "0123456789abcdef0123456789abcdef"}},
            "db": {"dsn": f"sqlite://{self.folder}/keygate.db"},
            "log": {"level": "warn"},
            "gateway": {
                "listeners": listeners,
                "routes": ROUTES,
                "upstreams": {"api": {"endpoints": [f"http://127.0.0.1:{upstream_port}"]}},
                "limits": {"ample": AMPLE},
                # Otherwise lookups of unknown keys wait to be batched.
                "unknown_keys": {"burst": 1_000_000, "per_second": 1_000_000},
                **variant,
            },
            "external_auth": {"address": f"127.0.0.1:{self.authorizer}", "threads": 1},
        }

    def _signing_keys(self):
        file = self.folder / "signing-keys.json"
        if not file.exists():
            command = [self.binary, "jwk", "generate", "eddsa", "--jwks", "-o", file]
            run(command, env=self.environment() | {"LLVM_PROFILE_FILE": "/dev/null"})
        return file


def free_ports(count):
    """Ports of loopback that are free now, each another."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in sockets]
    for listener in sockets:
        listener.close()
    return ports


def accepts(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def make_certificate(folder):
    """The files of a certificate for localhost on P-256 and of its key; None without openssl."""
    if not shutil.which("openssl"):
        return None
    certificate, key = str(folder / "tls.crt"), str(folder / "tls.key")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate]
    run(command)
    return certificate, key


def run(command, **options):
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, **options)
    if done.returncode != 0:
        raise Failure(f"{command[0]} failed: {done.stderr}")
