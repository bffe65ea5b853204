"""What objects of Kubernetes say about their pods, and how a container runs."""

import base64
import tempfile
from pathlib import Path

# What Kubernetes sets for a Service named keygate with the ports `http` and `metrics`, unless enableServiceLinks is false.
SERVICE_LINKS = {
    "KEYGATE_SERVICE_HOST": "10.96.12.7",
    "KEYGATE_SERVICE_PORT": "80",
    "KEYGATE_SERVICE_PORT_HTTP": "80",
    "KEYGATE_PORT": "tcp://10.96.12.7:80",
    "KEYGATE_PORT_80_TCP": "tcp://10.96.12.7:80",
    "KEYGATE_PORT_80_TCP_PROTO": "tcp",
    "KEYGATE_PORT_80_TCP_PORT": "80",
    "KEYGATE_PORT_80_TCP_ADDR": "10.96.12.7",
    "KEYGATE_METRICS_SERVICE_HOST": "10.96.12.8",
    "KEYGATE_METRICS_PORT_4422_TCP": "tcp://10.96.12.8:4422",
}


def pod_specs(documents):
    """The name and the spec of each pod that the objects make."""
    for document in documents:
        if document["kind"] == "Pod":
            yield document["metadata"]["name"], document["spec"]
        elif "template" in document.get("spec", {}):
            yield document["metadata"]["name"], document["spec"]["template"]["spec"]


def containers(spec):
    return spec.get("initContainers", []) + spec["containers"]


def container(documents, name):
    """The pod spec and the container of this name."""
    found = [(spec, one) for _, spec in pod_specs(documents) for one in containers(spec) if one["name"] == name]
    assert len(found) == 1, f"{len(found)} containers are named {name}"
    return found[0]


def environment(one, secrets, documents=()):
    """The environment of a container; `secrets` maps names of Secrets and keys to values, and comes before the Secrets of the objects."""
    values = {}
    for variable in one.get("env", []):
        if "value" in variable:
            values[variable["name"]] = variable["value"]
        else:
            reference = variable["valueFrom"]["secretKeyRef"]
            values[variable["name"]] = secret(reference, secrets, documents)
    return values


def secret(reference, secrets, documents):
    if (reference["name"], reference["key"]) in secrets:
        return secrets[reference["name"], reference["key"]]
    for document in documents:
        if document["kind"] == "Secret" and document["metadata"]["name"] == reference["name"]:
            if reference["key"] in document.get("stringData", {}):
                return document["stringData"][reference["key"]]
            return base64.b64decode(document["data"][reference["key"]]).decode()
    raise AssertionError(f"no Secret has {reference}")


class Mounts:
    """The ConfigMaps and Secrets that a container mounts, as folders: `with Mounts(…) as mounts`."""

    def __init__(self, spec, one, documents, secrets):
        self.volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
        self.mounts = one.get("volumeMounts", [])
        maps = [document for document in documents if document["kind"] == "ConfigMap"]
        self.maps = {document["metadata"]["name"]: document["data"] for document in maps}
        self.secrets = secrets

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory()
        Path(self.folder.name).chmod(0o755)
        folders = {}
        for mount in self.mounts:
            folder = Path(self.folder.name, mount["name"])
            folder.mkdir()
            for file, text in self.files(self.volumes[mount["name"]]).items():
                (folder / file).write_text(text)
            folders[mount["mountPath"]] = folder
        return folders

    def files(self, volume):
        if "configMap" in volume:
            return self.maps[volume["configMap"]["name"]]
        name = volume["secret"]["secretName"]
        return {key: text for (secret, key), text in self.secrets.items() if secret == name}

    def __exit__(self, *_):
        self.folder.cleanup()
