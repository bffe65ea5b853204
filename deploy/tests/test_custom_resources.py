"""Custom resources: their objects have the types that Gateway API, the Prometheus operator and Traefik define."""

import json
import subprocess
import tempfile
import unittest
from pathlib import Path

from deploy.tests.image import TARGET
from deploy.tests.test_helm import EXAMPLES
from deploy.tests.test_kubernetes import FOLDERS
from deploy.tests.tools import helm_template, kustomize

PACKAGES = {
    "gateway.networking.k8s.io": "gateway-api",
    "monitoring.coreos.com": "prometheus-operator",
    "traefik.io": "traefik",
}
INSTALLED = TARGET / "custom-resources/node_modules"
OPTIONS = ["--noEmit", "--strict", "--skipLibCheck", "--module", "nodenext", "--moduleResolution", "nodenext"]


def custom_resources():
    rendered = [one for example in EXAMPLES for one in helm_template(example)]
    rendered += [one for folder in FOLDERS for one in kustomize(folder)]
    return [one for one in rendered if one["apiVersion"].rpartition("/")[0] in PACKAGES]


def type_errors(objects):
    """What the compiler says about the objects."""
    lines = []
    for number, one in enumerate(objects):
        package = PACKAGES[one["apiVersion"].rpartition("/")[0]]
        path = f"@kubernetes-models/{package}/{one['apiVersion']}/{one['kind']}"
        lines.append(f'import type {{ I{one["kind"]} as T{number} }} from "{path}";')
        lines.append(f"export const object{number}: T{number} = {json.dumps(one)};")
    # Beside the packages, where the compiler finds them.
    with tempfile.NamedTemporaryFile("w", suffix=".mts", dir=INSTALLED.parent) as file:
        file.write("\n".join(lines))
        file.flush()
        compiler = subprocess.run([INSTALLED / ".bin/tsc", *OPTIONS, file.name], capture_output=True, text=True)
    return compiler.stdout + compiler.stderr


@unittest.skipUnless(Path(INSTALLED, ".bin/tsc").exists(), "SKIPPED: deploy/ci/ensure.sh deploy could not install the types")
class CustomResources(unittest.TestCase):
    def test_objects_have_the_fields_and_types_of_their_definitions(self):
        kinds = {one["kind"] for one in custom_resources()}
        wanted = {"Gateway", "HTTPRoute", "ReferenceGrant", "ServiceMonitor", "PodMonitor", "PrometheusRule", "Middleware"}
        self.assertLessEqual(wanted, kinds)
        self.assertEqual(type_errors(custom_resources()), "")

    def test_unknown_field_and_wrong_type_are_errors(self):
        base = {"apiVersion": "traefik.io/v1alpha1", "kind": "Middleware", "metadata": {"name": "x"}}
        self.assertIn('"addres"', type_errors([base | {"spec": {"forwardAuth": {"addres": "x"}}}]))
        self.assertIn("number", type_errors([base | {"spec": {"forwardAuth": {"address": 1}}}]))


if __name__ == "__main__":
    unittest.main()
