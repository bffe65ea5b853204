"""The compose file, started as processes: each service at a loopback address of its own, which its name stands for."""

import json
import re
import tempfile
import time
import unittest
import urllib.parse
from pathlib import Path

from deploy.tests import test_grafana
from deploy.tests.container import Container, get, mount
from deploy.tests.servers import Application, Postgres, Prometheus, Redis
from deploy.tests.tools import DEPLOY, load_json, load_yaml, run

FOLDER = DEPLOY / "compose"
VARIABLES = {
    "KEYGATE_HMAC_SECRET": "0123456789abcdef0123456789abcdef",
    "POSTGRES_PASSWORD": "hunter2",
    "REDIS_PASSWORD": "hunter3",
    "GRAFANA_PASSWORD": "hunter4",
}
ADDRESSES = {
    "postgres": "127.0.0.2",
    "redis": "127.0.0.3",
    "api": "127.0.0.4",
    "prometheus": "127.0.0.5",
    "keygate-1": "127.0.0.11",
    "keygate-2": "127.0.0.12",
}
# Panels without data here: neither TLS nor a collector of traces is configured, no request is malformed, and there is no overload.
WITHOUT_DATA = {"Certificate expires", "Malformed requests", "Refused because of overload", "Spans"}
DEADLINE = 60


def services():
    """The services of the compose file, with variables replaced and merge keys applied."""
    text = (FOLDER / "compose.yaml").read_text()
    text = re.sub(r"\$\{(\w+)(:\?[^}]*)?\}", lambda match: VARIABLES[match[1]], text)
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(text)
        file.flush()
        return load_yaml(Path(file.name))["services"]


def volumes(service):
    """The mounted files of a service: path in the container, file here."""
    parts = [volume.split(":") for volume in service["volumes"]]
    return {target: (FOLDER / source).resolve() for source, target, *_ in parts if source.startswith(".")}


class ComposeFile(unittest.TestCase):
    def test_mounted_files_exist(self):
        for name, service in services().items():
            if "volumes" in service:
                self.assertEqual([file for file in volumes(service).values() if not file.exists()], [], name)

    def test_ports_are_published_on_loopback_only(self):
        ports = [port for service in services().values() for port in service.get("ports", [])]
        self.assertEqual(len(ports), 4)
        self.assertEqual([port for port in ports if not port.startswith("127.0.0.1:")], [])

    def test_instances_are_read_only_and_have_no_privileges(self):
        for name in ["keygate-1", "keygate-2", "migrate"]:
            service = services()[name]
            self.assertEqual((service["read_only"], service["cap_drop"]), (True, ["ALL"]))
            self.assertIn("no-new-privileges:true", service["security_opt"])

    def test_script_writes_every_variable_once_and_keeps_it(self):
        with tempfile.TemporaryDirectory() as folder:
            script = Path(folder, "secrets.sh")
            script.write_bytes((FOLDER / "secrets.sh").read_bytes())
            run("sh", script)
            written = Path(folder, ".env").read_text()
            names = [line.partition("=")[0] for line in written.splitlines()]
            self.assertEqual(sorted(names), sorted(VARIABLES))
            self.assertEqual(Path(folder, ".env").stat().st_mode & 0o777, 0o600)
            run("sh", script)
            self.assertEqual(Path(folder, ".env").read_text(), written)

    def test_dashboard_and_data_source_are_provisioned(self):
        mounted = volumes(services()["grafana"])
        provider = load_yaml(FOLDER / "grafana/provisioning/dashboards/keygate.yaml")["providers"][0]
        path = provider["options"]["path"]
        self.assertEqual(load_json(mounted[f"{path}/keygate.json"])["title"], "Keygate")
        source = load_yaml(FOLDER / "grafana/provisioning/datasources/prometheus.yaml")["datasources"][0]
        self.assertEqual((source["type"], source["url"]), ("prometheus", "http://prometheus:9090"))


@unittest.skipUnless(Postgres.IS_POSSIBLE, "PostgreSQL cannot be started in a user namespace; run as root")
class Compose(unittest.TestCase):
    def setUp(self):
        self.services = services()
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        hosts = folder / "hosts"
        hosts.write_text("".join(f"{address} {name}\n" for name, address in (ADDRESSES | {"localhost": "127.0.0.1"}).items()))
        mount("--bind", hosts, "/etc/hosts")
        self.addCleanup(run, "umount", "/etc/hosts")
        self.enterContext(Postgres(ADDRESSES["postgres"], VARIABLES["POSTGRES_PASSWORD"]))
        self.enterContext(Redis(ADDRESSES["redis"], *map(str, self.services["redis"]["command"][1:])))
        self.enterContext(Application(ADDRESSES["api"]))
        with self.container("migrate") as migrate:
            self.assertEqual(migrate.process.wait(DEADLINE), 0, migrate.output)
        self.nodes = [self.enterContext(self.container(name)) for name in ["keygate-1", "keygate-2"]]
        self.gateways = [f"http://{ADDRESSES[name]}:8080" for name in ["keygate-1", "keygate-2"]]
        for name, node in zip(["keygate-1", "keygate-2"], self.nodes):
            node.wait_for(f"http://{ADDRESSES[name]}:4422/health/ready")
            # The name of the upstream is resolved in the background.
            endpoint = f'keygate_upstream_healthy{{endpoint="{ADDRESSES["api"]}:9000",upstream="api"}} 1'
            node.wait_for(f"http://{ADDRESSES[name]}:4422/metrics", endpoint)
        self.config = folder / "prometheus"
        self.copy_prometheus_config()

    def container(self, name):
        service = self.services[name]
        # All containers are in one network namespace here, so each listens on its own address.
        address = ADDRESSES.get(name, "127.0.0.1")
        listen = {
            "KEYGATE_GATEWAY_ADDRESS": f"{address}:8080",
            "KEYGATE_SERVE_HTTP_HOST": address,
            "KEYGATE_SERVE_METRICS_HOST": address,
            "KEYGATE_ENDPOINT": f"http://{address}:4420",
        }
        return Container(service.get("command", ["serve"]), service["environment"] | listen, volumes(service), hosts=ADDRESSES)

    def copy_prometheus_config(self):
        """The files that the container has in /etc/prometheus, with shorter intervals."""
        self.config.mkdir()
        for target, source in volumes(self.services["prometheus"]).items():
            text = re.sub(r"_interval: \d+s", "_interval: 1s", source.read_text())
            (self.config / Path(target).name).write_text(text)
        run("promtool", "check", "config", self.config / "prometheus.yml")

    def eventually(self, observe, wanted):
        """Waits until the function returns the wanted value."""
        end = time.monotonic() + DEADLINE
        while (value := observe()) != wanted and time.monotonic() < end:
            time.sleep(0.1)
        self.assertEqual(value, wanted)

    def issue(self):
        issued = self.nodes[0].run("keys", "issue", "Orders", "--actor", "ana", "--format", "json")
        key = json.loads(issued)
        return key, {"Authorization": f"Bearer {key['secret']}"}

    def test_instances_share_limits_and_revocations_and_are_watched(self):
        self.check_limits()
        self.check_revocation()
        with Prometheus(ADDRESSES["prometheus"], self.config / "prometheus.yml") as prometheus:
            self.check_targets(prometheus)
            self.check_rules(prometheus)
            self.check_dashboard(prometheus)
        for node in self.nodes:
            self.assertEqual(node.stop(), 0, node.output)

    def check_limits(self):
        """The quota of 20 is for both instances together."""
        _, credential = self.issue()
        statuses = [get(f"{self.gateways[number % 2]}/orders", credential).status for number in range(24)]
        self.assertEqual(statuses[:20], [200] * 20)
        self.assertIn(429, statuses[20:])

    def check_revocation(self):
        key, credential = self.issue()
        self.assertEqual([get(f"{gateway}/orders", credential).status for gateway in self.gateways], [200, 200])
        self.nodes[0].run("keys", "issued", "revoke", key["issued_api_key"]["key_id"])
        self.eventually(lambda: get(f"{self.gateways[1]}/orders", credential).status, 401)

    def query(self, prometheus, expression):
        answer = get(f"{prometheus.url}/api/v1/query?" + urllib.parse.urlencode({"query": expression}))
        body = json.loads(answer.body)
        self.assertEqual(body["status"], "success", expression)
        return body["data"]["result"]

    def check_targets(self, prometheus):
        self.eventually(lambda: [one["value"][1] for one in self.query(prometheus, "up")], ["1", "1"])

    def check_rules(self, prometheus):
        def health():
            groups = json.loads(get(f"{prometheus.url}/api/v1/rules").body)["data"]["groups"]
            rules = [rule for group in groups for rule in group["rules"]]
            return [rule["name"] for rule in rules if rule["health"] != "ok"]

        self.eventually(health, [])

    def check_dashboard(self, prometheus):
        """Every panel has data while there are requests, except for what does not happen here."""
        _, credential = self.issue()

        def empty_panels():
            get(f"{self.gateways[0]}/health")
            get(f"{self.gateways[1]}/orders", credential)
            titles = {title for title, _ in test_grafana.queries()}
            return titles - {title for title, query in test_grafana.queries() if self.query(prometheus, query)}

        self.eventually(empty_panels, WITHOUT_DATA)


if __name__ == "__main__":
    unittest.main()
