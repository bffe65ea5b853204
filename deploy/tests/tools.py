"""Runs the tools that deploy/ci/ensure.sh installs."""

import functools
import json
import subprocess

import yaml

from deploy.tests.containerfile import ROOT

DEPLOY = ROOT / "deploy"


def run(*command, **options):
    """The output of a command. Its errors are part of the exception."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    if done.returncode != 0:
        raise AssertionError(f"{command} failed: {done.stdout}{done.stderr}")
    return done.stdout


def documents(text):
    """The YAML documents of a text, without empty ones."""
    return [document for document in yaml.safe_load_all(text) if document]


@functools.cache
def helm_template(values, *options):
    """The objects that the chart makes of a values file."""
    chart = DEPLOY / "helm/keygate"
    return documents(run("helm", "template", "keygate", chart, "--namespace", "keygate", "--values", values, *options))


def kustomize(folder):
    return documents(run("kubectl", "kustomize", folder))


def load_yaml(path):
    return yaml.safe_load(path.read_text())


def load_json(path):
    return json.loads(path.read_text())
