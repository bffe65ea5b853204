"""The manifests under deploy/kubernetes: valid, restricted, and the ones that docs/external-auth.md shows."""

import re
import unittest

import yaml

from deploy.tests import pods
from deploy.tests.containerfile import ROOT
from deploy.tests.pod_rules import PodRules
from deploy.tests.tools import DEPLOY, documents, helm_template, kustomize

MANIFESTS = DEPLOY / "kubernetes"
INGRESS_NGINX = DEPLOY / "tests/fixtures/ingress-nginx"
FOLDERS = [MANIFESTS / "sidecar", MANIFESTS / "envoy-gateway", MANIFESTS / "traefik", INGRESS_NGINX]


class Manifests(PodRules, unittest.TestCase):
    def test_kustomizations_render_valid_objects(self):
        for folder in FOLDERS:
            self.assert_objects_are_valid(kustomize(folder))
        self.assert_objects_are_valid(documents((MANIFESTS / "ingress-nginx/ingress.yaml").read_text()))

    def test_every_file_belongs_to_a_kustomization(self):
        listed = {MANIFESTS / "ingress-nginx/ingress.yaml"}
        for file in MANIFESTS.rglob("kustomization.yaml"):
            parts = yaml.safe_load(file.read_text())
            generated = [name for one in parts.get("configMapGenerator", []) for name in one["files"]]
            patches = [patch["path"] for patch in parts.get("patches", [])]
            listed |= {file.parent / name for name in [file.name, *parts.get("resources", []), *generated, *patches]}
        self.assertEqual({file for file in MANIFESTS.rglob("*") if file.is_file()}, listed)

    def test_sidecars_are_restricted_and_have_no_service_links(self):
        for folder in [MANIFESTS / "sidecar", INGRESS_NGINX]:
            rendered = kustomize(folder)
            self.assert_pods_have_no_service_links(rendered)
            spec, one = pods.container(rendered, "keygate")
            self.assert_container_is_restricted(spec, one)
            # A container that is started before the others and stopped after them.
            self.assertEqual(one["restartPolicy"], "Always")
            self.assertIn(one, spec["initContainers"])

    def test_service_of_the_sidecar_leads_to_the_gateway_and_the_policy_allows_no_other_port(self):
        rendered = kustomize(MANIFESTS / "sidecar")
        _, one = pods.container(rendered, "keygate")
        config = yaml.safe_load(next(each for each in rendered if each["kind"] == "ConfigMap")["data"]["keygate.yaml"])
        gateway = int(config["gateway"]["address"].rsplit(":")[-1])
        service = next(each for each in rendered if each["kind"] == "Service")
        self.assertEqual([port["targetPort"] for port in service["spec"]["ports"]], [gateway])
        policy = next(each for each in rendered if each["kind"] == "NetworkPolicy")
        allowed = {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]}
        self.assertEqual(allowed, {gateway, one["ports"][0]["containerPort"]})

    def test_other_proxies_ask_the_service_that_the_chart_makes(self):
        rendered = helm_template(DEPLOY / "helm/examples/external-auth.yaml")
        services = {each["metadata"]["name"]: each["spec"]["ports"] for each in rendered if each["kind"] == "Service"}
        self.assertEqual([port["port"] for port in services["keygate-external-auth"]], [8081])
        policy = documents((MANIFESTS / "envoy-gateway/security-policy.yaml").read_text())[0]
        backend = {"name": "keygate-external-auth", "namespace": "keygate", "port": 8081}
        self.assertEqual(policy["spec"]["extAuth"]["grpc"]["backendRefs"], [backend])
        middleware = documents((MANIFESTS / "traefik/middleware.yaml").read_text())[0]
        address = middleware["spec"]["forwardAuth"]["address"]
        self.assertEqual(address, "http://keygate-external-auth.keygate.svc.cluster.local:8081/forward")

    def test_documentation_of_external_authorization_shows_the_same_objects(self):
        text = (ROOT / "docs/external-auth.md").read_text()
        shown = [document for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) for document in documents(block)]
        for file in ["envoy-gateway/security-policy.yaml", "ingress-nginx/ingress.yaml"]:
            for wanted in documents((MANIFESTS / file).read_text()):
                same = [one for one in shown if one.get("kind") == wanted["kind"] and without_place(one) == without_place(wanted)]
                self.assertEqual(len(same), 1, file)
        # The file form of Traefik has the same settings as the custom resources.
        file_form = next(one for one in shown if "http" in one and "middlewares" in one["http"])["http"]["middlewares"]
        for middleware in documents((MANIFESTS / "traefik/middleware.yaml").read_text()):
            shown_spec = file_form[middleware["metadata"]["name"]]
            self.assertEqual(without_addresses(shown_spec), without_addresses(middleware["spec"]))


def without_place(document):
    """The object without its namespace and the address of Keygate, which depend on where both are."""
    copy = yaml.safe_load(re.sub(r"http://[^/]+/nginx", "KEYGATE", yaml.safe_dump(document, width=1000)))
    copy["metadata"].pop("namespace", None)
    return copy


def without_addresses(spec):
    return yaml.safe_load(re.sub(r"http://[^/]+/forward", "KEYGATE", yaml.safe_dump(spec, width=1000)))
