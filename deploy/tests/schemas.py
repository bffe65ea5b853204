"""The schemas of Kubernetes, from the package kubernetes-validate."""

import functools
import json
import re
from importlib.util import find_spec
from pathlib import Path

from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

VERSIONS = ["1.31", "1.32", "1.33", "1.34"]
# Custom resources: Kubernetes has no schema for them.
CUSTOM = {"monitoring.coreos.com", "gateway.networking.k8s.io", "gateway.envoyproxy.io", "traefik.io"}
# Only its files are used.
FOLDER = Path(find_spec("kubernetes_validate").origin).parent / "kubernetes-json-schema"


def problems(document, version):
    """What is wrong with an object in a version of Kubernetes. Unknown fields are wrong."""
    group, _, _ = document["apiVersion"].rpartition("/")
    if group in CUSTOM:
        return []
    # apps/v1 is apps-v1, networking.k8s.io/v1 is networking-v1.
    api = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", document["apiVersion"])
    errors = validator(f"{document['kind'].lower()}-{api}.json", version).iter_errors(document)
    name = f"{document['kind']} {document['metadata']['name']}"
    return [f"{name}, {version}: {'.'.join(map(str, error.path))}: {error.message[:300]}" for error in errors]


@functools.cache
def validator(file, version):
    folder = FOLDER / f"v{version}.0-local-strict"
    return Draft202012Validator(json.loads((folder / file).read_text()), registry=definitions(version))


@functools.cache
def definitions(version):
    contents = json.loads((FOLDER / f"v{version}.0-local-strict/_definitions.json").read_text())
    resource = Resource.from_contents(contents, default_specification=DRAFT202012)
    return Registry().with_resource("_definitions.json", resource).with_resource("", resource)
