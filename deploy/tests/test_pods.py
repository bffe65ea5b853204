"""Containers of the examples, started as processes from the rendered arguments, environment and ConfigMaps, with PostgreSQL."""

import json
import unittest

from deploy.tests import pods
from deploy.tests.container import Container, get
from deploy.tests.servers import Application, Postgres
from deploy.tests.tools import DEPLOY, helm_template, kustomize

METRICS = "http://127.0.0.1:4422"


@unittest.skipUnless(Postgres.IS_POSSIBLE, "PostgreSQL cannot be started in a user namespace; run as root")
class Pods(unittest.TestCase):
    def setUp(self):
        self.postgres = self.enterContext(Postgres())
        self.secrets = {("keygate", "hmac"): "0123456789abcdef0123456789abcdef", ("keygate", "dsn"): self.postgres.dsn}

    def start(self, rendered, name, extra_environment=None):
        """Starts a container by its name."""
        spec, one = pods.container(rendered, name)
        environment = pods.environment(one, self.secrets, rendered) | (extra_environment or {})
        mounts = self.enterContext(pods.ConfigMounts(spec, one, rendered))
        return self.enterContext(Container(one["args"], environment, mounts))

    def start_server(self, rendered, extra_environment=None):
        server = self.start(rendered, "keygate", extra_environment)
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
        # There is no orders.shop.svc.cluster.local here.
        self.assertEqual(get("http://127.0.0.1:8080/orders", self.issue(server, "read:orders")).status, 502)
        self.assertEqual(server.stop(), 0, server.output)


if __name__ == "__main__":
    unittest.main()
