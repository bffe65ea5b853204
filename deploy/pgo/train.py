#!/usr/bin/env python3
"""Sends the traffic of gateways to a Keygate, and checks every response.

`train.py BINARY --profiles FOLDER` expects a binary that was built with -Cprofile-generate, which writes what it executed to FOLDER when it
ends. Without --profiles any binary will do. Uses openssl for TLS, and curl for HTTP/2; without them these are left out.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import client
import traffic
from client import Connection, Failure
from keygate import FEW_FIELDS, Keygate

# Thousandths of all requests that are sent over HTTP/2.
HTTP2_SHARE = 20


@dataclass
class Run:
    """A start of Keygate with some traffic."""

    name: str
    # Returns the kinds of requests.
    kinds: Callable
    # Which part of all requests is sent.
    part: float
    # How the section `gateway` differs.
    gateway: dict


# The runs. Each has a profile in a folder of this name. The first one issues the keys. build.sh gives the profile of the second one more
# weight, so that only what most requests execute counts as hot.
RUNS = [
    Run("all", traffic.kinds, 0.2, {"threads": 2}),
    Run("common", traffic.common, 0.8, {"threads": 1, "request_headers": FEW_FIELDS, "access_log": {"enabled": False}}),
]


def main():
    options = arguments()
    made = None
    with Upstream() as upstream, tempfile.TemporaryDirectory(prefix="keygate-training-") as folder:
        for run in RUNS:
            made = train(options, upstream.port, run, folder, made)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("binary", help="the keygate to send requests to")
    parser.add_argument("--profiles", metavar="FOLDER", help="where an instrumented binary writes its profiles")
    parser.add_argument("--requests", type=int, default=400_000, help="how many requests to send, about (default: %(default)s)")
    return parser.parse_args()


class Upstream:
    """The process of upstream.py: `with Upstream() as upstream`."""

    def __enter__(self):
        command = [sys.executable, "-B", Path(__file__).with_name("upstream.py")]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.port = int(self.process.stdout.readline())
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()


def train(options, upstream_port, run, folder, made):
    """Starts a Keygate, sends it the requests of a run, and ends it. Returns the credentials in its database, which are `made` already or not."""
    requests = round(run.part * options.requests)
    profiles = options.profiles and Path(options.profiles, run.name)
    if profiles:
        profiles.mkdir(parents=True, exist_ok=True)
    with Keygate(options.binary, folder, upstream_port, profiles, run.gateway) as keygate:
        try:
            if not made:
                made = traffic.issue(keygate, options.requests)
                exhaust(keygate, made)
                send_over_http2(keygate, made, requests)
                read(keygate, made)
            for kind in run.kinds(made):
                send(keygate, kind, requests)
        except (Failure, OSError) as error:
            raise Failure(f"{error}; the end of Keygate's log: {keygate.output()}") from error
        keygate.stop()
    return made


def exhaust(keygate, made):
    """Uses up the limit of a key."""
    connection = Connection(keygate.gateway)
    connection.send(traffic.each([made.exhausted])[0])
    check("the first request of a limited key", 200, connection.receive())
    connection.close()


def send(keygate, kind, requests):
    """Sends the share of a kind: on each connection one request, then the same again."""
    tls = None
    if kind.port == "secure":
        if not keygate.certificate:
            skip("openssl is not installed", "TLS")
            return
        tls = keygate.tls()
    count = max(1, requests * kind.share // 1000)
    connections = [Connection(getattr(keygate, kind.port), tls) for _ in range(min(kind.connections, count))]
    texts = islice(cycle(kind.requests), count)
    while batch := list(zip(connections, texts)):
        for connection, text in batch:
            connection.send(text)
        for connection, _ in batch:
            check(kind.name, kind.status, connection.receive(kind.has_body), kind.length)
    for connection in connections:
        connection.close()
    print(f"train: {kind.name}: {count} requests", flush=True)


def send_over_http2(keygate, made, requests):
    if not (keygate.certificate and client.has_http2()):
        skip("openssl, or curl with HTTP/2, is not installed", "HTTP/2")
        return
    count = max(1, requests * HTTP2_SHARE // 1000)
    url = f"https://localhost:{keygate.secure}/orders"
    for status in client.http2(url, made.keys[0], count, keygate.certificate[0]):
        check("HTTP/2", 200, (status, b""))
    print(f"train: HTTP/2: {count} requests", flush=True)


def read(keygate, made):
    """What administrators and monitoring read."""
    keygate.call(f"{traffic.ISSUED}?page_size=100")
    verified = keygate.call_json("/v2alpha1/admin/apiKeys:verify", {"credential": made.keys[0]})
    if not verified.get("is_valid"):
        raise Failure(f"apiKeys:verify: {verified}")
    for path in ["/health/alive", "/health/ready", "/metrics", "/metrics"]:
        keygate.call(path, port=keygate.metrics)


def check(name, status, response, length=None):
    if response[0] != status or length not in (None, len(response[1])):
        text = response[1][:500].decode(errors="replace")
        expected = f"{status}" if length is None else f"{status} with {length} bytes"
        raise Failure(f"{name}: expected {expected}, got {response[0]} with {len(response[1])} bytes: {text}")


def skip(reason, what):
    print(f"train: {reason}: {what} is left out of the profile", file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"train: {failure}")
