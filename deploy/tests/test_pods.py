"""Containers of the examples, started as processes from the rendered arguments, environment and ConfigMaps, with PostgreSQL."""

import json
import subprocess
import tempfile
import unittest
from pathlib import Path

from deploy.tests import image, pods
from deploy.tests.container import Container, get
from deploy.tests.servers import Application, Postgres, Redis
from deploy.tests.tools import DEPLOY, helm_template, kustomize, run

METRICS = "http://127.0.0.1:4422"


@unittest.skipUnless(Postgres.IS_POSSIBLE, "PostgreSQL cannot be started in a user namespace; run as root")
class Pods(unittest.TestCase):
    def setUp(self):
        self.postgres = self.enterContext(Postgres())
        self.secrets = {("keygate", "hmac"): "0123456789abcdef0123456789abcdef", ("keygate", "dsn"): self.postgres.dsn}

    def start(self, rendered, name, extra_environment=None, hosts=None):
        """Starts a container by its name."""
        spec, one = pods.container(rendered, name)
        environment = pods.environment(one, self.secrets, rendered) | (extra_environment or {})
        mounts = self.enterContext(pods.Mounts(spec, one, rendered, self.secrets))
        return self.enterContext(Container(one["args"], environment, mounts, hosts=hosts))

    def start_server(self, rendered, extra_environment=None, hosts=None):
        server = self.start(rendered, "keygate", extra_environment, hosts)
        _, one = pods.container(rendered, "keygate")
        for probe in ["startupProbe", "readinessProbe", "livenessProbe"]:
            server.wait_for(METRICS + one[probe]["httpGet"]["path"])
        return server

    def issue(self, server, scope):
        key = server.run("keys", "issue", "Orders", "--actor", "ana", "--scopes", scope, "--format", "json")
        return {"Authorization": f"Bearer {json.loads(key)['secret']}"}

    def test_sidecar_protects_its_application_although_service_links_are_set(self):
        rendered = kustomize(DEPLOY / "kubernetes/sidecar")
        self.enterContext(Application())
        server = self.start_server(rendered, pods.SERVICE_LINKS)
        gateway = "http://127.0.0.1:8080"
        self.assertEqual(get(f"{gateway}/orders/1").status, 401)
        self.assertEqual(get(f"{gateway}/health").status, 200)
        self.assertEqual(get(f"{gateway}/orders/1", self.issue(server, "write:orders")).status, 403)
        seen = json.loads(get(f"{gateway}/orders/1", self.issue(server, "read:orders")).body)
        self.assertEqual((seen["path"], seen["headers"]["x-keygate-actor-id"]), ("/orders/1", "ana"))
        self.assertNotIn("authorization", seen["headers"])
        # No variable is taken for a setting, and none is reported.
        self.assertNotIn("environment variable", server.output)
        self.assertEqual(server.stop(), 0, server.output)

    def test_sidecar_of_ingress_nginx_decides_checks_over_loopback(self):
        server = self.start_server(kustomize(DEPLOY / "tests/fixtures/ingress-nginx"), pods.SERVICE_LINKS)
        check = "http://127.0.0.1:8081/nginx"
        # What ingress-nginx sends for auth-url.
        request = {"X-Original-URL": "https://api.example.com/orders/1", "X-Original-Method": "GET", "X-Real-IP": "192.0.2.7"}
        self.assertEqual(get(check, request).status, 401)
        self.assertEqual(get(check, request | self.issue(server, "write:orders")).status, 403)
        allowed = get(check, request | self.issue(server, "read:orders"))
        self.assertEqual((allowed.status, allowed.headers["X-Keygate-Actor-Id"]), (200, "ana"))

    def test_chart_migrates_then_waits_then_serves(self):
        rendered = helm_template(DEPLOY / "helm/examples/minimal.yaml")
        waiting = self.start(rendered, "wait-for-migrations")
        server = self.start(rendered, "keygate")
        # Without tables a server does not start.
        self.assertNotEqual(server.process.wait(60), 0)
        self.assertIn("migrate up", server.output)
        self.assertIsNone(waiting.process.poll())
        self.assertEqual(self.start(rendered, "migrate").process.wait(60), 0)
        self.assertEqual(waiting.process.wait(60), 0, waiting.output)
        server = self.start_server(rendered)
        self.assertEqual(get("http://127.0.0.1:8080/orders").status, 401)
        self.assertEqual(helm_test(rendered), {"gateway": 0, "ready": 0})
        # There is no orders.shop.svc.cluster.local here.
        self.assertEqual(get("http://127.0.0.1:8080/orders", self.issue(server, "read:orders")).status, 502)
        self.assertEqual(server.stop(), 0, server.output)
        self.assertNotIn(0, helm_test(rendered).values())

    def test_production_example_serves_over_tls_with_redis_and_signing_keys(self):
        rendered = helm_template(DEPLOY / "helm/examples/production.yaml")
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        certificate = make_certificate(folder)
        self.secrets |= {
            ("keygate", "hmac-retired"): "fedcba9876543210fedcba9876543210",
            ("keygate-database", "dsn"): self.postgres.dsn,
            ("keygate-database", "owner-dsn"): self.postgres.dsn,
            ("keygate-redis", "password"): "hunter2",
            ("keygate-signing-keys", "jwks.json"): run(image.root_file_system() / "usr/bin/keygate", "jwk", "generate", "eddsa"),
            ("api-tls", "tls.crt"): certificate.read_text(),
            ("api-tls", "tls.key"): certificate.with_suffix(".key").read_text(),
        }
        self.enterContext(Application())
        self.enterContext(Redis("127.0.0.1", "--requirepass", "hunter2"))
        names = ["redis.keygate.svc.cluster.local", "orders.shop.svc.cluster.local"]
        self.assertEqual(self.start(rendered, "migrate").process.wait(60), 0)
        server = self.start_server(rendered, hosts=dict.fromkeys(names, "127.0.0.1"))
        # The name of the upstream is resolved in the background.
        server.wait_for(f"{METRICS}/metrics", 'keygate_upstream_healthy{endpoint="127.0.0.1:9000",upstream="orders"} 1')
        key = self.issue(server, "read:orders")["Authorization"].removeprefix("Bearer ")
        token = json.loads(server.run("keys", "derive-token", key, "--ttl", "10m", "--format", "json"))["token"]["token"]
        for credential in [key, token]:
            options = ["--cacert", certificate, "--connect-to", "api.example.com:443:127.0.0.1:8080"]
            request = ["https://api.example.com/orders/1", "--header", f"Authorization: Bearer {credential}"]
            seen = json.loads(run("curl", "--silent", "--show-error", "--fail", *options, *request))
            self.assertEqual(seen["headers"]["x-keygate-actor-id"], "ana")
        self.assertNotIn("Redis cannot be reached", server.output)

    def test_admin_service_needs_the_key_of_the_secret(self):
        rendered = helm_template(DEPLOY / "helm/examples/admin-service.yaml")
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        certificate = make_certificate(folder)
        admin_key = "an-admin-key-of-32-characters-or-more"
        self.secrets |= {
            ("keygate", "admin-key"): admin_key,
            ("keygate-admin-tls", "tls.crt"): certificate.read_text(),
            ("keygate-admin-tls", "tls.key"): certificate.with_suffix(".key").read_text(),
        }
        self.assertEqual(self.start(rendered, "migrate").process.wait(60), 0)
        self.start_server(rendered)
        # The address that the Service leads to is not loopback.
        self.assertIn("host: 0.0.0.0", next(one for one in rendered if one["kind"] == "ConfigMap")["data"]["keygate.yaml"])
        url = "https://api.example.com/v2alpha1/admin/issuedApiKeys"
        options = ["--cacert", certificate, "--connect-to", "api.example.com:443:127.0.0.1:4420", "--write-out", "%{http_code}"]
        request = ["curl", "--silent", "--output", "/dev/null", *options, url]
        self.assertEqual(run(*request), "401")
        self.assertEqual(run(*request, "--header", f"Authorization: Bearer {admin_key}"), "200")


def make_certificate(folder):
    """A certificate for api.example.com, beside its key."""
    certificate = folder / "tls.crt"
    options = "-x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=api.example.com"
    names = ["-addext", "subjectAltName=DNS:api.example.com"]
    run("openssl", "req", *options.split(), *names, "-keyout", certificate.with_suffix(".key"), "-out", certificate)
    return certificate


def helm_test(rendered):
    """The exit codes of the containers of `helm test`, whose Services are ports of this host."""
    ports = ["--connect-to", "keygate:80:127.0.0.1:8080", "--connect-to", "keygate-metrics:4422:127.0.0.1:4422", "--retry", "0"]
    pod = next(one for one in rendered if one["kind"] == "Pod")
    commands = {one["name"]: [*one["command"], *one["args"], *ports] for one in pod["spec"]["containers"]}
    return {name: subprocess.run(command, capture_output=True).returncode for name, command in commands.items()}


if __name__ == "__main__":
    unittest.main()
