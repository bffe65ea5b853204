"""The chart: what it renders for every example is valid, restricted, and a configuration that Keygate accepts."""

import json
import os
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

import yaml

from deploy.tests import image, pods, schemas, values_table
from deploy.tests.containerfile import ROOT
from deploy.tests.pod_rules import PodRules
from deploy.tests.tools import DEPLOY, helm_template, load_json, load_yaml, run

CHART = DEPLOY / "helm/keygate"
EXAMPLES = sorted((DEPLOY / "helm/examples").glob("*.yaml"))
MINIMAL = DEPLOY / "helm/examples/minimal.yaml"
# Secrets of the examples.
DSN = "postgres://keygate:hunter2@postgres.keygate.svc/keygate"
SECRETS = {
    ("keygate", "hmac"): "0123456789abcdef0123456789abcdef",
    ("keygate", "hmac-retired"): "fedcba9876543210fedcba9876543210",
    ("keygate", "dsn"): DSN,
    ("keygate", "admin-key"): "an-admin-key-of-32-characters-or-more",
    ("keygate-database", "dsn"): DSN,
    ("keygate-database", "owner-dsn"): DSN,
    ("keygate-redis", "password"): "hunter2",
}


def config_check(config, environment):
    """The exit code and the messages of `keygate config check`."""
    binary = image.root_file_system() / "usr/bin/keygate"
    with tempfile.TemporaryDirectory() as folder:
        # The files of the Secret with the certificate must exist.
        options = "-x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=api.example.com"
        run("openssl", "req", *options.split(), "-keyout", f"{folder}/tls.key", "-out", f"{folder}/tls.crt")
        file = Path(folder, "keygate.yaml")
        file.write_text(re.sub("/etc/keygate-(admin-)?tls/", f"{folder}/", config))
        command = [binary, "config", "check", "--config", file]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def objects(rendered, kind):
    return [document for document in rendered if document["kind"] == kind]


def config_of(rendered):
    maps = [data for document in objects(rendered, "ConfigMap") if "keygate.yaml" in (data := document["data"])]
    return maps[0]["keygate.yaml"]


class Examples(PodRules, unittest.TestCase):
    def each(self):
        """Each example with the objects that it makes."""
        return [(example, helm_template(example)) for example in EXAMPLES]

    def test_examples_pass_helm_lint(self):
        for example in EXAMPLES:
            run("helm", "lint", "--strict", CHART, "--values", example)

    def test_objects_are_valid_in_each_version_of_kubernetes(self):
        for example in EXAMPLES:
            for version in schemas.VERSIONS:
                rendered = helm_template(example, "--kube-version", version)
                self.assertEqual([problem for one in rendered for problem in schemas.problems(one, version)], [])

    def test_unknown_field_is_a_problem(self):
        service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "spec": {"portz": []}}
        self.assertEqual(len(schemas.problems(service, "1.31")), 1)

    def test_custom_resources_are_of_known_kinds(self):
        for _, rendered in self.each():
            groups = {one["apiVersion"].rpartition("/")[0] for one in rendered}
            self.assertLessEqual({group for group in groups if "coreos" in group}, schemas.CUSTOM)

    def test_keygate_accepts_the_configuration(self):
        for _, rendered in self.each():
            _, one = pods.container(rendered, "keygate")
            code, text = config_check(config_of(rendered), pods.environment(one, SECRETS, rendered))
            self.assertEqual(code, 0, text)

    def test_pods_are_restricted_and_have_no_service_links(self):
        for _, rendered in self.each():
            self.assert_pods_have_no_service_links(rendered)
            for _, spec in pods.pod_specs(rendered):
                self.assertIs(spec["automountServiceAccountToken"], False)
                for one in pods.containers(spec):
                    self.assert_container_is_restricted(spec, one)

    def test_services_lead_to_ports_of_pods(self):
        for _, rendered in self.each():
            self.assert_services_lead_to_ports_of_pods(rendered)

    def test_probes_use_the_path_for_their_purpose(self):
        for _, rendered in self.each():
            _, one = pods.container(rendered, "keygate")
            paths = {name: one[f"{name}Probe"]["httpGet"]["path"] for name in ["startup", "readiness", "liveness"]}
            # A database that is down must not take pods out of service that serve cached keys, and must not restart them.
            wanted = {"startup": "/health/ready", "readiness": "/health/alive", "liveness": "/health/alive"}
            self.assertEqual(paths, wanted)

    def test_a_pod_has_time_for_the_delay_and_for_active_requests(self):
        for _, rendered in self.each():
            spec, one = pods.container(rendered, "keygate")
            config = yaml.safe_load(config_of(rendered))
            delay = one["lifecycle"]["preStop"]["sleep"]["seconds"]
            grace = [config["serve"]["http"]["shutdown_grace"], config["gateway"]["shutdown_grace"]]
            longest = max(int(text.removesuffix("s")) for text in grace)
            self.assertGreater(spec["terminationGracePeriodSeconds"], delay + longest)

    def test_secrets_are_in_no_configuration(self):
        for _, rendered in self.each():
            for secret in ["0123456789abcdef", "hunter2", "admin-key-of"]:
                self.assertNotIn(secret, json.dumps(objects(rendered, "ConfigMap")))

    def test_production_example_has_every_part(self):
        kinds = {one["kind"] for one in helm_template(DEPLOY / "helm/examples/production.yaml")}
        wanted = "Deployment Job HorizontalPodAutoscaler PodDisruptionBudget NetworkPolicy ServiceMonitor PrometheusRule"
        self.assertLessEqual(set(wanted.split()), kinds)

    def test_rules_of_the_chart_are_those_of_deploy_prometheus(self):
        rendered = helm_template(DEPLOY / "helm/examples/production.yaml")
        files = [load_yaml(DEPLOY / f"prometheus/{name}.yaml")["groups"] for name in ["rules", "alerts"]]
        self.assertEqual(objects(rendered, "PrometheusRule")[0]["spec"]["groups"], sum(files, []))
        dashboards = [one["data"]["keygate.json"] for one in objects(rendered, "ConfigMap") if "keygate.json" in one["data"]]
        self.assertEqual([json.loads(text) for text in dashboards], [load_json(DEPLOY / "grafana/keygate.json")])


class Rendering(unittest.TestCase):
    def render(self, *settings):
        options = [part for setting in settings for part in ("--set", setting)]
        return helm_template(MINIMAL, *options)

    def failure(self, *settings):
        with self.assertRaises(AssertionError) as raised:
            self.render(*settings)
        return str(raised.exception)

    def test_combinations_that_cannot_work_are_errors_that_say_what_to_do(self):
        for settings, text in [
            (["secrets.hmac.existingSecret="], "openssl rand -hex 32"),
            (["secrets.database.existingSecret="], "a Secret with the DSN of PostgreSQL"),
            (["persistence.enabled=true"], "remove it, or secrets.database"),
            (["persistence.enabled=true", "secrets.database.existingSecret="], "replicas: 1"),
            (["kind=DaemonSet", "autoscaling.enabled=true"], "needs kind: Deployment"),
            (["gateway.enabled=false"], "externalAuth.enabled"),
            (["externalAuth.enabled=true"], "externalAuth.trustedPeers"),
            (["issuer="], "issuer is required"),
            (["gateway.prot=1"], "prot"),
            (["replicas=two"], "replicas"),
        ]:
            with self.subTest(settings=settings):
                self.assertIn(text, self.failure(*settings))

    def test_a_changed_configuration_replaces_the_pods(self):
        checksums = set()
        for level in ["info", "debug"]:
            deployment = objects(self.render(f"config.log.level={level}"), "Deployment")[0]
            checksums.add(deployment["spec"]["template"]["metadata"]["annotations"]["checksum/config"])
        self.assertEqual(len(checksums), 2)

    def test_another_image_makes_another_migration_job(self):
        names = {objects(self.render(f"image.tag={tag}"), "Job")[0]["metadata"]["name"] for tag in ["v1", "v2"]}
        self.assertEqual(len(names), 2)
        self.assertTrue(all(len(name) <= 63 for name in names))

    def test_settings_of_config_come_before_those_of_the_chart(self):
        rendered = self.render("config.gateway.shutdown_grace=5s", "config.cache.memory.max_size=104857600")
        config = yaml.safe_load(config_of(rendered))
        self.assertEqual(config["gateway"]["shutdown_grace"], "5s")
        self.assertEqual(int(float(config["cache"]["memory"]["max_size"])), 104_857_600)

    def test_admin_api_is_on_loopback_unless_it_has_a_service(self):
        for enabled, host in [("false", "127.0.0.1"), ("true", "0.0.0.0")]:
            rendered = self.render(f"admin.service.enabled={enabled}")
            self.assertEqual(yaml.safe_load(config_of(rendered))["serve"]["http"]["host"], host)
            services = {service["metadata"]["name"] for service in objects(rendered, "Service")}
            self.assertEqual("keygate-admin" in services, enabled == "true")

    def test_no_pod_reaches_the_admin_api_unless_the_policy_names_it(self):
        rendered = self.render("admin.service.enabled=true", "networkPolicy.enabled=true")
        policy = objects(rendered, "NetworkPolicy")[0]
        self.assertNotIn("admin", [port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]])

    def test_helm_test_asks_for_the_health_of_the_database_and_for_the_gateway(self):
        pod = objects(self.render(), "Pod")[0]
        self.assertEqual(pod["metadata"]["annotations"]["helm.sh/hook"], "test")
        urls = [argument for one in pod["spec"]["containers"] for argument in one["args"] if "://" in argument]
        self.assertEqual(urls, ["http://keygate:80/", "http://keygate-metrics:4422/health/ready"])

    def test_version_of_the_application_is_that_of_the_crate(self):
        version = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]
        self.assertEqual(load_yaml(CHART / "Chart.yaml")["appVersion"], version)


class Values(unittest.TestCase):
    def test_every_value_has_a_description_in_the_schema(self):
        rows = values_table.rows(load_yaml(CHART / "values.yaml"), load_json(CHART / "values.schema.json"))
        self.assertEqual([path for path, _, text in rows if not text], [])

    def test_readme_has_the_table_of_values(self):
        """`UPDATE=1 deploy/ci/deploy.sh deploy.tests.test_helm.Values` writes it."""
        readme = CHART / "README.md"
        wanted = values_table.readme(load_yaml(CHART / "values.yaml"), load_json(CHART / "values.schema.json"), readme.read_text())
        if os.environ.get("UPDATE"):
            readme.write_text(wanted)
        self.assertEqual(readme.read_text(), wanted)


if __name__ == "__main__":
    unittest.main()
